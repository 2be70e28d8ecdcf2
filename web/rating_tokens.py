"""Which answer was shown to which rater, and when: a signed token, so that the server measures the rating time."""

from itsdangerous import BadSignature, URLSafeTimedSerializer

from medx_core.clock import utc_now
from medx_core.errors import BadInput


class RatingTokens:
    """Issues a token when an answer is shown and reads it when the rating arrives."""

    def __init__(self, secret: str, *, installation: str, hours: float) -> None:
        self._tokens = URLSafeTimedSerializer(secret, salt=f"medx-shown {installation}")
        self._max_age_seconds = int(hours * 3600)

    def issue(self, person_id: int, answer_id: str) -> str:
        """Sign that this answer is shown to this person from now on."""
        return self._tokens.dumps([person_id, answer_id, utc_now().timestamp()])

    def read(self, token: str, person_id: int) -> tuple[str, float]:
        """Return the answer's public id and the seconds since it was shown.

        Raises:
            BadInput: the token is not ours, too old, or another person's.
        """
        try:
            owner, answer_id, shown_at = self._tokens.loads(token, max_age=self._max_age_seconds)
        except (BadSignature, ValueError, TypeError) as error:
            raise BadInput("This answer was shown too long ago to be rated; load the next one.") from error
        if owner != person_id:
            raise BadInput("This answer was shown to another person; load the next one.")
        return str(answer_id), max(0.0, utc_now().timestamp() - shown_at)
