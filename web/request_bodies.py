"""What a request may carry: so many bytes, calls of events alone, and no path of another person's file.

The middleware reads a body whole before anything else does, so nothing is parsed, spooled to disk or stored of one that
is too large, whatever its Content-Length says. Uploads of signed-in people pass; `web.uploads` counts them as they come.
"""

import json
from collections.abc import Iterator
from typing import Any

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medx_core.storage.people import Person
from web import wording
from web.session import PERSON_IN_SCOPE
from web.uploads import UPLOAD_PATH, Uploads

SIGNED_OUT_BYTES = 16_384
SIGNED_IN_BYTES = 1_000_000
WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS"})
API = "/app/gradio_api/"
# Gradio has more: recordings, component servers, a chat that edits the program. Some of them write to the disk.
CALLS = tuple(API + call for call in ("run/", "api/", "call/", "queue/join", "cancel", "reset"))
FILES = (API + "file=", API + "file/", "/app/file=", "/app/file/")
NOT_SERVED = (
    API + "deep_link",
    "/app/deep_link",
)  # writes a page's state, with its texts, beside the uploads


class RequestBodies:
    """ASGI middleware inside the one that says who asks."""

    def __init__(self, app: ASGIApp, *, uploads: Uploads) -> None:
        self._app = app
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through with its whole body, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        person: Person | None = scope.get(PERSON_IN_SCOPE)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        refusal: ASGIApp | None = self._refused(path, scope["method"], person)
        if refusal is None and scope["method"] not in WITHOUT_BODY and not (person and path == UPLOAD_PATH):
            limit = SIGNED_IN_BYTES if person else SIGNED_OUT_BYTES
            body = await _whole_body(Headers(scope=scope), receive, limit)
            if body is None:
                refusal = _refusal(413, wording.request_too_large(limit))
            elif person and path.startswith(API) and not self._names_own_files(person, body):
                refusal = _refusal(403, wording.NOT_YOUR_FILE)
            else:
                receive = _replayed(body, receive)
        await (refusal or self._app)(scope, receive, send)

    def _refused(self, path: str, method: str, person: Person | None) -> ASGIApp | None:
        if path.startswith(NOT_SERVED):
            return _refusal(404, wording.NOT_SERVED)
        if method not in WITHOUT_BODY and path.startswith(API) and path != UPLOAD_PATH:
            return None if path.startswith(CALLS) else _refusal(404, wording.NOT_SERVED)
        prefix = next((prefix for prefix in FILES if path.startswith(prefix)), None)
        if prefix is None or person is None:
            return None
        file = path.removeprefix(prefix)
        is_foreign = self._uploads.holds(file) and not self._uploads.owns(person, file)
        return _refusal(403, wording.NOT_YOUR_FILE) if is_foreign else None

    def _names_own_files(self, person: Person, body: bytes) -> bool:
        """Whether every file that a call names was sent by this person, or written for them."""
        try:
            content = json.loads(body or b"null")
        except (ValueError, RecursionError):
            return True  # no call: Gradio refuses it
        return all(self._uploads.owns(person, path) for path in _named_files(content))


def _named_files(content: Any) -> Iterator[str]:
    """Yield each path that Gradio would take for a file: the entry `path` of an object, however deep."""
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if isinstance(value.get("path"), str):
                yield value["path"]
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


async def _whole_body(headers: Headers, receive: Receive, limit: int) -> bytes | None:
    """Return the body, or None as soon as it says or turns out to be larger than `limit` bytes."""
    said = headers.get("content-length", "")
    if said.isdecimal() and int(said) > limit:
        return None
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > limit:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a channel that gives the body that was read, and then whatever comes after it."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replaying() -> Message:
        return waiting.pop() if waiting else await receive()

    return replaying


def _refusal(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"detail": sentence}, status_code=status)
