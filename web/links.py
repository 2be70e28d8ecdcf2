"""One-time links: a new person, or one who forgot theirs, chooses a password; made by an administrator or a command."""

from typing import Annotated

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from medx_core.errors import BadInput, NotFound
from medx_core.storage.account_rules import check_password
from medx_core.storage.credentials import CredentialKind, Visitor
from web import wording
from web.rendering import render
from web.services import Services


def link_routes(services: Services) -> APIRouter:
    """Return `/link`, where a one-time link leads; looking at it does not use it up."""
    router = APIRouter()

    @router.get("/link", response_class=HTMLResponse)
    def link_page(key: str = "") -> Response:
        visitor = services.credentials.visitor(key, CredentialKind.LINK)
        if visitor is None:
            return _refusal_page(410, wording.LINK_USED)
        return _link_page(visitor, key)

    @router.post("/link", response_class=HTMLResponse)
    def use_link(
        key: Annotated[str, Form(max_length=200)],
        password: Annotated[str, Form(max_length=1000)],
        again: Annotated[str, Form(max_length=1000)],
    ) -> Response:
        return _password_by_link(services, key, password, again)

    return router


def _password_by_link(services: Services, key: str, password: str, again: str) -> Response:
    visitor = services.credentials.visitor(key, CredentialKind.LINK)
    if visitor is None:
        return _refusal_page(410, wording.LINK_USED)
    try:
        if password != again:
            raise BadInput(wording.PASSWORDS_DIFFER)
        check_password(password, visitor.name)
        services.credentials.end(
            visitor, visitor.credential.public_id
        )  # of two at once the second finds none
    except BadInput as error:
        return _link_page(visitor, key, fault=str(error))
    except NotFound:
        return _refusal_page(410, wording.LINK_USED)
    services.people.reset_password(visitor.name, password)
    services.audit.append(visitor.name, "set password by link", f"person {visitor.name}")
    return RedirectResponse(f"{services.settings.root_path}/login", status_code=303)


def _link_page(visitor: Visitor, key: str, *, fault: str = "") -> HTMLResponse:
    page = render("link.html", title="Choose a password", name=visitor.name, key=key, fault=fault)
    return HTMLResponse(page, status_code=400 if fault else 200)


def _refusal_page(status: int, sentence: str) -> HTMLResponse:
    return HTMLResponse(render("refused.html", title="Not now", sentence=sentence), status_code=status)
