"""Who gets in: the middleware in front of every page, and the routes to sign in and out."""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Annotated
from urllib.parse import quote, urlsplit

import anyio
import anyio.to_thread
from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medx_core.errors import MedxError, NotFound
from medx_core.storage.account_rules import name_key
from medx_core.storage.credentials import Visitor
from web import wording
from web.frame import PAGES
from web.handler_guard import reaches
from web.health_and_metrics import SIGN_INS_FAILED
from web.limits import AttemptLimit
from web.rendering import render
from web.services import Services
from web.session import DEVICE_SECONDS, PERSON_IN_SCOPE, Sessions

CACHEABLE_PATHS = ("/assets/", "/favicon.ico", "/app/assets/", "/app/static/", "/app/svelte/")
OPEN_PATHS = ("/login", "/link", "/healthz", "/metrics", *CACHEABLE_PATHS)
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'"
)
UNATTENDED = "x-medx-unattended"
"""The header by which a page says that nobody has touched it for a while: `assets/event_stream.js`."""
LOOK_AGAIN_SECONDS = 5.0
LONGEST_ADDRESS = 64  # what a proxy reports may be anything
PAGE_ROLES = {f"/app/{path}": (title, at_least) for path, title, at_least in PAGES}


class AccessControl:
    """ASGI middleware: nobody gets in without a session, no other site may post, every reply carries the policy.

    Whoever may not use a page reads one sentence instead of a page that cannot work; the events of a page check the
    role again (`handler_guard.guarded`). A stream of events ends within `look_again_seconds` of its session.
    """

    def __init__(
        self, app: ASGIApp, *, sessions: Sessions, look_again_seconds: float = LOOK_AGAIN_SECONDS
    ) -> None:
        self._app = app
        self._sessions = sessions
        self._look_again_seconds = look_again_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, send it to the sign-in page, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no page of ours speaks WebSocket
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = Headers(scope=scope)
        visitor = scope[PERSON_IN_SCOPE] = await self._visitor(headers)
        if scope["method"] not in SAFE_METHODS and not same_origin(headers):
            refusal: ASGIApp | None = JSONResponse({"detail": wording.OTHER_SITE}, status_code=403)
        elif visitor is None:
            refusal = None if route_path(scope).startswith(OPEN_PATHS) else _to_sign_in(scope, headers)
        else:
            refusal = _role_refusal(scope, visitor)
        sending = _with_policy(scope, send)
        if refusal or visitor is None:
            await (refusal or self._app)(scope, receive, sending)
        else:
            await self._while_signed_in(visitor, scope, receive, sending)

    async def _visitor(self, headers: Headers) -> Visitor | None:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return await anyio.to_thread.run_sync(self._sessions.program, token.strip())
        # Not SimpleCookie: it drops every cookie after the first malformed one, which another program on this host
        # may have set.
        cookie = cookie_parser(headers.get("cookie", "")).get(self._sessions.cookie_name)
        if cookie is None:
            return None
        read = partial(self._sessions.visitor, cookie, attended=UNATTENDED not in headers)
        return await anyio.to_thread.run_sync(read)

    async def _while_signed_in(self, visitor: Visitor, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request; end a stream of events once the session is over."""
        watching: asyncio.Task[None] | None = None
        completed = False

        async def sending(message: Message) -> None:
            nonlocal watching, completed
            if message["type"] == "http.response.start" and _is_event_stream(message):
                watching = asyncio.create_task(self._until_signed_out(visitor, serving))
            completed = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        with anyio.CancelScope() as serving:
            try:
                await self._app(scope, receive, sending)
            finally:
                if watching is not None:
                    watching.cancel()
        if serving.cancelled_caught and not completed:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _until_signed_out(self, visitor: Visitor, serving: anyio.CancelScope) -> None:
        while await anyio.to_thread.run_sync(self._is_signed_in, visitor):
            await asyncio.sleep(self._look_again_seconds)
        serving.cancel()

    def _is_signed_in(self, visitor: Visitor) -> bool:
        try:
            return self._sessions.still(visitor) is not None
        except MedxError:  # the database is away: that ends no session
            return True


def _is_event_stream(start: Message) -> bool:
    return Headers(raw=start["headers"]).get("content-type", "").startswith("text/event-stream")


def same_origin(headers: Headers) -> bool:
    """Whether a request comes from our own pages, or from a program (which sends no Origin)."""
    origin = headers.get("origin")
    if origin is None:
        return headers.get("sec-fetch-site", "same-origin") in {"same-origin", "none"}
    return urlsplit(origin).netloc == headers.get("host", "")


def route_path(scope: Scope) -> str:
    """Return the path of a request below the root path."""
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


def safe_next(address: str) -> str:
    """Return where to go after signing in: an address of ours, else the first page."""
    clean = address.startswith("/app") and not any(mark in address for mark in ("//", "\\", "\n", "\r"))
    return address if clean else "/app/"


def sign_in_routes(services: Services) -> APIRouter:
    """Return `/login` and `/logout`."""
    router = APIRouter()

    @router.get("/login", response_class=HTMLResponse)
    def login_page(request: Request, next: str = "/app/") -> Response:
        if request.scope.get(PERSON_IN_SCOPE) is not None:
            return RedirectResponse(services.settings.root_path + safe_next(next), status_code=303)
        return _sign_in_page(next=next)

    @router.post("/login", response_class=HTMLResponse)
    def login(
        request: Request,
        name: Annotated[str, Form(max_length=200)],
        password: Annotated[str, Form(max_length=1000)],
        next: Annotated[str, Form(max_length=2000)] = "/app/",
    ) -> Response:
        return _signed_in(services, request, name, password, safe_next(next))

    @router.post("/logout")
    def logout(request: Request, token: Annotated[str, Form()] = "") -> Response:
        visitor: Visitor | None = request.scope.get(PERSON_IN_SCOPE)
        if visitor is not None:
            if not services.sessions.owns_form(visitor, token):
                return _sign_in_page(403, fault=wording.FORM_EXPIRED)
            services.sessions.end(visitor)
            services.audit.append(visitor.name, "sign out", f"session {visitor.credential.public_id}")
        reply = RedirectResponse(f"{services.settings.root_path}/login", status_code=303)
        reply.delete_cookie(services.sessions.cookie_name, path=services.settings.root_path or "/")
        return reply

    return router


def _signed_in(services: Services, request: Request, name: str, password: str, next: str) -> Response:
    """Check the password and hand out a cookie; the attempt is counted before the check."""
    address = request.client.host[:LONGEST_ADDRESS] if request.client else ""
    counted = _counted(services, request, name, address)
    taken = [limit.take(key) for limit, key in counted]  # each is counted, whatever the others say
    if not all(taken):
        if services.once_an_hour.take(f"refused {counted[0][1]} {address}"):
            _note_refused(services, "sign in refused, too often", name, address)
        return _sign_in_page(429, next=next, name=name, fault=wording.SIGN_IN_TOO_OFTEN)
    person = services.people.authenticate(name, password)
    if person is None:
        SIGN_INS_FAILED.inc()
        _note_refused(services, "sign in failed", name, address)
        return _sign_in_page(401, next=next, name=name, fault=wording.SIGN_IN_FAILED)
    for limit, key in counted:  # only failures count: programs sign in often
        limit.give_back(key)
    services.audit.append(person.name, "sign in", "session", {"address": address})
    browser = request.headers.get("user-agent", "")
    cookie = services.sessions.open(person, browser=browser, address=address)
    reply = RedirectResponse(services.settings.root_path + next, status_code=303)
    _set_cookies(
        reply,
        services,
        request,
        {
            services.sessions.cookie_name: (cookie, services.sessions.max_age_seconds),
            services.sessions.device_cookie_name: (services.sessions.device_token(person), DEVICE_SECONDS),
        },
    )
    return reply


def _note_refused(services: Services, action: str, name: str, address: str) -> None:
    """Note who could not sign in; a name that nobody has is left out: people type passwords into that field."""
    try:
        actor = services.people.find(name).name
    except NotFound:
        actor = "unknown name"
    services.audit.append(actor, action, "session", {"address": address})


def _counted(services: Services, request: Request, name: str, address: str) -> list[tuple[AttemptLimit, str]]:
    """Return the limits that an attempt counts towards, with its key in each.

    A browser with which this person has signed in before has a count of its own: whoever guesses at a name, or from
    behind the same address, does not lock its owner out of it (OWASP: "Slow Down Online Guessing Attacks with Device
    Cookies").
    """
    token = request.cookies.get(services.sessions.device_cookie_name, "")
    device = services.sessions.known_device(token, name)
    if device is not None:
        return [(services.sign_in_limit, f"device {device}")]
    return [(services.sign_in_limit, f"name {name_key(name)}"), (services.address_limit, f"from {address}")]


def _to_sign_in(scope: Scope, headers: Headers) -> Response:
    if "text/html" not in headers.get("accept", "") or scope["method"] != "GET":
        return JSONResponse({"detail": wording.SIGN_IN_FIRST}, status_code=401)
    query = scope["query_string"].decode("latin-1")
    wanted = route_path(scope) + (f"?{query}" if query else "")
    return RedirectResponse(
        f"{scope['root_path']}/login?next={quote(safe_next(wanted), safe='')}", status_code=303
    )


def _role_refusal(scope: Scope, person: Visitor) -> Response | None:
    page = PAGE_ROLES.get(route_path(scope).rstrip("/"))
    if page is None or reaches(person, page[1]):
        return None
    title, at_least = page
    sentence = wording.page_needs(title, needed=at_least.value, own=person.role.value)
    return HTMLResponse(render("refused.html", title=title, sentence=sentence), status_code=403)


def _with_policy(scope: Scope, send: Send) -> Send:
    cacheable = route_path(scope).startswith(CACHEABLE_PATHS)

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["content-security-policy"] = POLICY
            headers["x-content-type-options"] = "nosniff"
            headers["referrer-policy"] = "same-origin"
            if _is_event_stream(message):
                headers["x-accel-buffering"] = (
                    "no"  # a proxy would hold words back until it has a full buffer
                )
            if not cacheable:
                headers["cache-control"] = "no-store"
        await send(message)

    return sending


def _sign_in_page(status: int = 200, *, next: str = "/app/", name: str = "", fault: str = "") -> HTMLResponse:
    page = render("sign_in.html", title="Sign in", next=safe_next(next), name=name, fault=fault)
    return HTMLResponse(page, status_code=status)


def _set_cookies(
    reply: Response, services: Services, request: Request, cookies: Mapping[str, tuple[str, int]]
) -> None:
    """Set cookies that scripts and other sites do not get; each is a value and its seconds."""
    for cookie, (value, seconds) in cookies.items():
        reply.set_cookie(
            cookie,
            value,
            max_age=seconds,
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
            path=services.settings.root_path or "/",
        )
