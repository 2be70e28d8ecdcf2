"""Which answer was put before which rater, and when: a signed note, so that rating time is measured by the server."""

from itsdangerous import BadSignature, URLSafeTimedSerializer

from medx_core.clock import utc_now
from medx_core.errors import BadInput


class RatingTokens:
    """Issues a note when an answer is shown and reads it back when the rating arrives."""

    def __init__(self, secret: str, *, hours: float) -> None:
        self._notes = URLSafeTimedSerializer(secret, salt="medx-shown")
        self._max_age_seconds = int(hours * 3600)

    def note(self, person_id: int, answer_id: str) -> str:
        """Sign that this answer is before this person from now on."""
        return self._notes.dumps([person_id, answer_id, utc_now().timestamp()])

    def read(self, note: str, person_id: int) -> tuple[str, float]:
        """Return the answer's public id and the seconds since it was shown.

        Raises:
            BadInput: the note is not ours, too old, or somebody else's.
        """
        try:
            owner, answer_id, shown_at = self._notes.loads(note, max_age=self._max_age_seconds)
        except (BadSignature, ValueError, TypeError) as error:
            raise BadInput("This answer was shown too long ago to be rated; load the next one.") from error
        if owner != person_id:
            raise BadInput("This answer was shown to somebody else; load the next one.")
        return str(answer_id), max(0.0, utc_now().timestamp() - shown_at)
