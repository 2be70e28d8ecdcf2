"""Stands before the pages: whoever may not use one reads one sentence and a way back, not a form that refuses them.

What is behind the pages is checked again by `guarded` at every event; this only spares people a page that cannot work.
"""

from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from medx_core.storage.people import Person
from web import wording
from web.frame import PAGES
from web.handler_guard import reaches
from web.markup import escape
from web.session import PERSON_IN_SCOPE

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} - MedX</title><link rel="stylesheet" href="/assets/medx.css"><script src="/assets/medx.js" defer></script>
</head><body class="medx-plain"><main class="medx-sign-in">
<h1>MedX</h1><p>{sentence}</p><p><a href="/app/">Back to Ask</a></p>
</main></body></html>"""
BY_PATH = {f"/app/{path}": (title, at_least) for path, title, at_least in PAGES}


class PageRoles:
    """ASGI middleware behind the gate, which says who is asking."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer it with one sentence."""
        refusal = _refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)


def _refusal(scope: Scope) -> HTMLResponse | None:
    person: Person | None = scope.get(PERSON_IN_SCOPE)
    page = BY_PATH.get(str(scope["path"]).rstrip("/"))
    if person is None or page is None or reaches(person, page[1]):
        return None
    title, at_least = page
    sentence = wording.page_needs(title, needed=at_least.value, own=person.role.value)
    return HTMLResponse(PAGE.format(title=escape(title), sentence=escape(sentence)), status_code=403)
