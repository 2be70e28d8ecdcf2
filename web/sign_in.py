"""The way in and out: a sign-in page of our own, and signing out by a form that carries this session's token."""

from collections.abc import Iterable
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from medx_core.storage.people import Person
from web import wording
from web.health_and_metrics import SIGN_INS_FAILED
from web.markup import escape
from web.markup import fault as fault_html
from web.services import Services
from web.session import COOKIE, PERSON_IN_SCOPE, Attempts, safe_next

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sign in - MedX</title><link rel="stylesheet" href="/assets/medx.css"><script src="/assets/medx.js" defer></script>
</head><body class="medx-plain"><main class="medx-sign-in">
<h1>MedX</h1><p class="medx-research">{research}</p>
{fault}
<form method="post" action="/login"><input type="hidden" name="next" value="{next}">
<label>Name<input name="name" autocomplete="username" required autofocus value="{name}"></label>
<label>Password<input name="password" type="password" autocomplete="current-password" required></label>
<button type="submit">Sign in</button></form>
<p class="medx-note">No account yet? An administrator adds people on the Admin page or with <code>medx users add</code>.</p>
</main></body></html>"""


def sign_in_routes(services: Services) -> APIRouter:
    """Return `/login` and `/logout`."""
    router = APIRouter()
    failed = Attempts(services.settings.sign_in_attempts_a_minute)

    @router.get("/login", response_class=HTMLResponse)
    def login_page(request: Request, next: str = "/app/") -> Response:
        if request.scope.get(PERSON_IN_SCOPE) is not None:
            return RedirectResponse(safe_next(next), status_code=303)
        return HTMLResponse(_page(next=next))

    @router.post("/login", response_class=HTMLResponse)
    def login(
        request: Request,
        name: Annotated[str, Form(max_length=200)],
        password: Annotated[str, Form(max_length=1000)],
        next: Annotated[str, Form(max_length=2000)] = "/app/",
    ) -> Response:
        keys = (f"name {name.strip().casefold()}", f"from {request.client.host if request.client else ''}")
        if any(failed.exceeded(key) for key in keys):
            return HTMLResponse(_page(next=next, name=name, fault=wording.SIGN_IN_TOO_OFTEN), status_code=429)
        person = services.people.authenticate(name, password)
        if person is None:
            _count_failure(failed, keys)
            return HTMLResponse(_page(next=next, name=name, fault=wording.SIGN_IN_FAILED), status_code=401)
        services.audit.append(person.name, "sign in", "session")
        reply = RedirectResponse(safe_next(next), status_code=303)
        _set_cookie(reply, services, person, secure=request.url.scheme == "https")
        return reply

    @router.post("/logout")
    def logout(request: Request, token: Annotated[str, Form()] = "") -> Response:
        return _signed_out(services, request.scope.get(PERSON_IN_SCOPE), token)

    return router


def _count_failure(failed: Attempts, keys: Iterable[str]) -> None:
    SIGN_INS_FAILED.inc()
    for key in keys:
        failed.count(key)


def _signed_out(services: Services, person: Person | None, token: str) -> Response:
    if person is not None and not services.sessions.owns_form(person, token):
        return HTMLResponse(_page(fault=wording.FORM_EXPIRED), status_code=403)
    reply = RedirectResponse("/login", status_code=303)
    reply.delete_cookie(COOKIE, path="/")
    return reply


def _page(*, next: str = "/app/", name: str = "", fault: str = "") -> str:
    shown = fault_html(fault) if fault else ""
    return PAGE.format(
        research=escape(wording.RESEARCH_USE), next=escape(safe_next(next)), name=escape(name), fault=shown
    )


def _set_cookie(reply: Response, services: Services, person: Person, *, secure: bool) -> None:
    reply.set_cookie(
        COOKIE,
        services.sessions.issue(person),
        max_age=services.sessions.max_age_seconds,
        httponly=True,
        samesite="lax",
        secure=secure,
        path="/",
    )
