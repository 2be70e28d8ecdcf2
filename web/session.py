"""Sessions: who is signed in, by a signed cookie.

The cookie holds the person's id and session epoch, signed and dated; nothing is kept in memory, so that a restart
signs nobody out. A password change or a disabled account raises the epoch and ends every session of that person.
"""

import os
import secrets
from pathlib import Path

from itsdangerous import BadSignature, URLSafeSerializer, URLSafeTimedSerializer

from medx_core.settings import Settings
from medx_core.storage.people import Person, PersonStore

COOKIE = "medx_session"
PERSON_IN_SCOPE = "medx_person"


def session_secret(settings: Settings) -> str:
    """Return the key cookies are signed with: `MEDX_SESSION_SECRET`, else one kept under `home` (mode 0600)."""
    return settings.session_secret or _kept_secret(settings.home / "session.key")


def _kept_secret(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text(encoding="ascii").strip()
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(48))
    return path.read_text(encoding="ascii").strip()


class Sessions:
    """Issues cookies and reads them back."""

    def __init__(self, secret: str, *, hours: float, people: PersonStore) -> None:
        self._cookies = URLSafeTimedSerializer(secret, salt="medx-session")
        self._forms = URLSafeSerializer(secret, salt="medx-form")
        self._people = people
        self.max_age_seconds = int(hours * 3600)

    def issue(self, person: Person) -> str:
        """Return the cookie's value for a person who has just signed in."""
        return self._cookies.dumps([person.id, person.session_epoch])

    def person(self, cookie: str) -> Person | None:
        """Return whose cookie this is; None when forged, expired, ended or disabled."""
        try:
            person_id, epoch = self._cookies.loads(cookie, max_age=self.max_age_seconds)
        except (BadSignature, ValueError, TypeError):
            return None
        person = self._people.get(person_id)
        if person is None or person.disabled or person.session_epoch != epoch:
            return None
        return person

    def form_token(self, person: Person) -> str:
        """Return what a form of this person's session must carry."""
        return self._forms.dumps([person.id, person.session_epoch])

    def owns_form(self, person: Person, token: str) -> bool:
        """Whether a form's token belongs to this person's session."""
        try:
            return bool(self._forms.loads(token) == [person.id, person.session_epoch])
        except (BadSignature, ValueError):
            return False
