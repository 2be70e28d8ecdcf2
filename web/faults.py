"""A fault that reaches the edge of the application becomes one sentence: a page for people, JSON for programs.

Events of the pages have an edge of their own (`handler_guard`).
"""

import errno
import logging
import secrets
from pathlib import Path

from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medx_core.errors import MedxError
from medx_core.home import disk_sentence
from web import wording
from web.rendering import render

log = logging.getLogger(__name__)


def sentence_of(fault: Exception, home: Path) -> str:
    """Return what a person is told of a fault: our sentence, one about the disk, or a reference to the log."""
    if isinstance(fault, MedxError):
        return str(fault)
    about_disk = disk_sentence(fault, home) if isinstance(fault, OSError) else ""
    if about_disk:
        log.warning("%s", about_disk)
        return about_disk
    reference = secrets.token_hex(4)
    log.error("unexpected fault, reference %s", reference, exc_info=fault)
    return wording.something_broke(reference)


class FaultsInWords:
    """ASGI middleware around all others, so that theirs are told as well."""

    def __init__(self, app: ASGIApp, *, home: Path) -> None:
        self._app = app
        self._home = home

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request, or say why it cannot be served."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception as fault:  # noqa: BLE001 - the outermost door
            if begun:  # nobody can be told any more; the server closes the connection
                log.warning("a reply broke off (%s)", type(fault).__name__)
                return
            reply = _reply(scope, fault, sentence_of(fault, self._home))
            await reply(scope, receive, send)


def _reply(scope: Scope, fault: Exception, sentence: str) -> Response:
    known = isinstance(fault, MedxError | OSError)
    status = 507 if isinstance(fault, OSError) and fault.errno == errno.ENOSPC else 503 if known else 500
    if "text/html" in Headers(scope=scope).get("accept", ""):
        return HTMLResponse(render("refused.html", title="Not now", sentence=sentence), status_code=status)
    return JSONResponse({"detail": sentence}, status_code=status)
