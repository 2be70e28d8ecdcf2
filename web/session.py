"""Sessions: who is signed in, by a random cookie whose hash stands in the database with when it ends.

Nothing is kept in memory: a restart signs nobody out, and a session that is ended in one web process is over in all.
The cookie's name and the signatures of forms carry the id of the installation, which the database holds: browsers send
the cookies of one host to all its ports, and two installations may have been given the same secret.
"""

import os
import secrets
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from itsdangerous import BadSignature, URLSafeSerializer, URLSafeTimedSerializer

from medx_core.errors import NotFound
from medx_core.settings import Settings
from medx_core.storage.account_rules import name_key
from medx_core.storage.credentials import CredentialKind, CredentialStore, Scope, Visitor
from medx_core.storage.people import Person

DEVICE_SECONDS = 365 * 24 * 3600
PERSON_IN_SCOPE = "medx_person"


def session_secret(settings: Settings) -> str:
    """Return the key forms are signed with: `MEDX_SESSION_SECRET`, else one kept under `home` (mode 0600)."""
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


def may_use(visitor: Visitor, scope: Scope | None) -> bool:
    """Whether the visitor's token, if they came by one, is for this; None is what people alone do on pages."""
    credential = visitor.credential
    return credential.kind is not CredentialKind.TOKEN or scope in credential.scopes


class Sessions:
    """Opens sessions, reads their cookies, and ends them."""

    def __init__(
        self,
        secret: str,
        credentials: CredentialStore,
        *,
        installation: str,
        hours: float,
        idle_minutes: float,
    ) -> None:
        self._forms = URLSafeSerializer(secret, salt=f"medx-form {installation}")
        self._devices = URLSafeTimedSerializer(secret, salt=f"medx-device {installation}")
        self._credentials = credentials
        self._lasts = timedelta(hours=hours)
        self._idle = timedelta(minutes=idle_minutes)
        self.cookie_name = f"medx_session_{installation[:12]}"
        self.device_cookie_name = f"medx_device_{installation[:12]}"

    @property
    def max_age_seconds(self) -> int:
        """After how many seconds a session ends, however much it is used."""
        return int(self._lasts.total_seconds())

    def open(self, person: Person, *, browser: str = "", address: str = "") -> str:
        """Begin a session of a person who has just proved who they are; return the cookie's value."""
        return self._credentials.issue(
            person, CredentialKind.SESSION, lasts=self._lasts, title=browser, address=address
        )

    def visitor(self, cookie: str, *, attended: bool = True) -> Visitor | None:
        """Return whose cookie this is; None when there is no such session, it has ended, or the person is disabled.

        Only attended requests keep a session from ending when idle: open pages go on asking by themselves.
        """
        return self._credentials.visitor(cookie, CredentialKind.SESSION, idle=self._idle, is_use=attended)

    def program(self, token: str) -> Visitor | None:
        """Return for whom the program with this token asks."""
        return self._credentials.visitor(token, CredentialKind.TOKEN)

    def still(self, visitor: Visitor) -> Visitor | None:
        """Return the visitor as they are now; None once their session or token has ended."""
        is_session = visitor.credential.kind is CredentialKind.SESSION
        return self._credentials.still(visitor, idle=self._idle if is_session else None)

    def end(self, visitor: Visitor) -> None:
        """End the session of this visitor; one that has ended already stays so."""
        with suppress(NotFound):
            self._credentials.end(visitor, visitor.credential.public_id)

    def form_token(self, visitor: Visitor) -> str:
        """Return what a form of this session must carry."""
        return self._forms.dumps(visitor.credential.public_id)

    def owns_form(self, visitor: Visitor, token: str) -> bool:
        """Whether a form's token belongs to this session."""
        try:
            return bool(self._forms.loads(token) == visitor.credential.public_id)
        except BadSignature:
            return False

    def device_token(self, person: Person) -> str:
        """Return what a browser keeps after this person has signed in with it."""
        return self._devices.dumps([person.name, secrets.token_hex(8)])

    def known_device(self, token: str, name: str) -> str | None:
        """Return the id of a browser with which the person of that name has signed in before; None for any other."""
        try:
            owner, device = self._devices.loads(token, max_age=DEVICE_SECONDS)
        except (BadSignature, ValueError, TypeError):
            return None
        return str(device) if name_key(owner) == name_key(name) else None
