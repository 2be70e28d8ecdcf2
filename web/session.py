"""Who is signed in: a signed cookie, the gate in front of every page, and the limit on attempts.

The cookie holds the person's id and session epoch, signed and dated; nothing is kept in memory, so that a restart
signs nobody out. A password change or a disabled account raises the epoch and ends every session of that person.
"""

import json
import os
import secrets
import time
from collections import defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlsplit

import anyio.to_thread
from itsdangerous import BadSignature, URLSafeSerializer, URLSafeTimedSerializer
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medx_core.settings import Settings
from medx_core.storage.people import Person, PersonStore
from web import wording

COOKIE = "medx_session"
PERSON_IN_SCOPE = "medx_person"
OPEN_PATHS = (
    "/login",
    "/healthz",
    "/metrics",
    "/assets/",
    "/favicon.ico",
    "/app/assets/",
    "/app/static/",
    "/app/svelte/",
)
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)


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


class Attempts:
    """Counts failed attempts a key within the last minute, in this process."""

    def __init__(
        self, limit: int, *, window_seconds: float = 60.0, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = limit
        self._window = window_seconds
        self._now = now
        self._times: defaultdict[str, deque[float]] = defaultdict(deque)

    def exceeded(self, key: str) -> bool:
        """Whether the key has used up its attempts for now."""
        times = self._times.get(key)
        if times is None:
            return False
        while times and times[0] <= self._now() - self._window:
            times.popleft()
        if not times:
            del self._times[key]
            return False
        return len(times) >= self._limit

    def count(self, key: str) -> None:
        """Count one attempt."""
        self._times[key].append(self._now())


class Gate:
    """ASGI middleware: nobody gets past without a session, no other site may post, every reply carries the policy."""

    def __init__(self, app: ASGIApp, *, sessions: Sessions) -> None:
        self._app = app
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, send it to the sign-in page, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no page of ours speaks WebSocket
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = Headers(scope=scope)
        scope[PERSON_IN_SCOPE] = await self._person(headers)
        if scope["method"] not in SAFE_METHODS and not same_origin(headers):
            await _refuse(send, 403, "This request came from another site and was refused.")
        elif scope[PERSON_IN_SCOPE] is None and not scope["path"].startswith(OPEN_PATHS):
            await _to_sign_in(scope, headers, send)
        else:
            await self._app(scope, receive, _with_policy(scope, send))

    async def _person(self, headers: Headers) -> Person | None:
        # Not SimpleCookie: it drops every cookie after the first odd one, which another program on this host may set.
        cookie = cookie_parser(headers.get("cookie", "")).get(COOKIE)
        return None if cookie is None else await anyio.to_thread.run_sync(self._sessions.person, cookie)


def same_origin(headers: Headers) -> bool:
    """Whether a request comes from our own pages, or from a program (which sends no Origin)."""
    origin = headers.get("origin")
    if origin is None:
        return headers.get("sec-fetch-site", "same-origin") in {"same-origin", "none"}
    return urlsplit(origin).netloc == headers.get("host", "")


def safe_next(address: str) -> str:
    """Return where to go after signing in: an address of ours, else the first page."""
    clean = address.startswith("/app") and not any(mark in address for mark in ("//", "\\", "\n", "\r"))
    return address if clean else "/app/"


async def _to_sign_in(scope: Scope, headers: Headers, send: Send) -> None:
    if "text/html" not in headers.get("accept", "") or scope["method"] != "GET":
        await _refuse(send, 401, wording.SIGN_IN_FIRST)
        return
    query = scope["query_string"].decode("latin-1")
    wanted = scope["path"] + (f"?{query}" if query else "")
    location = f"/login?next={quote(safe_next(wanted), safe='')}"
    start: Message = {
        "type": "http.response.start",
        "status": 303,
        "headers": [(b"location", location.encode())],
    }
    await send(start)
    await send({"type": "http.response.body", "body": b""})


async def _refuse(send: Send, status: int, sentence: str) -> None:
    body = json.dumps({"detail": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _with_policy(scope: Scope, send: Send) -> Send:
    cacheable = scope["path"].startswith(OPEN_PATHS[3:])

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["content-security-policy"] = POLICY
            headers["x-content-type-options"] = "nosniff"
            headers["referrer-policy"] = "same-origin"
            if not cacheable:
                headers["cache-control"] = "no-store"
        await send(message)

    return sending
