"""The web application: FastAPI around the Gradio pages, behind access control."""

import asyncio
import logging
import os
import sys
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.middleware.trustedhost import TrustedHostMiddleware

from medx_core.settings import Settings
from web.heartbeat import beating
from web.services import Services, build_services
from web.session import PERSON_IN_SCOPE

if TYPE_CHECKING:
    from gradio import Blocks

T = TypeVar("T")

log = logging.getLogger(__name__)

ASSETS = Path(__file__).parent / "assets"


def build_app(settings: Settings, services: Services | None = None) -> FastAPI:
    """Return the application, with every route and page.

    Raises:
        StorageFault: the database cannot be reached or is not at this program's version.
    """
    _settle_gradio(settings)
    from web.uploads import upload_route

    made = services or build_services(settings)
    app = build_routes(made)
    app.include_router(upload_route(made.uploads))  # before Gradio's pages, whose route it replaces
    _mount_pages(app, made)
    return app


def build_routes(services: Services) -> FastAPI:
    """Return the application without Gradio's pages: what lets people in, health, downloads and assets."""
    from web.access import AccessControl, sign_in_routes
    from web.downloads import download_routes
    from web.faults import FaultsInWords
    from web.health_and_metrics import operations_routes
    from web.links import link_routes
    from web.proxies import BehindProxies
    from web.rendering import serve_below
    from web.request_bodies import RequestBodies

    settings = services.settings
    serve_below(settings.root_path)
    beats = beating(services.health, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with services.uploads.kept(), beats(app):
            yield

    app = FastAPI(title="MedX", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.include_router(sign_in_routes(services))
    app.include_router(link_routes(services))
    app.include_router(operations_routes(services))
    app.include_router(download_routes(services))
    app.mount("/assets", StaticFiles(directory=ASSETS), name="assets")

    @app.get("/")
    def first_page() -> Response:
        return RedirectResponse(f"{settings.root_path}/app/", status_code=307)

    @app.get("/favicon.ico")
    def icon() -> Response:
        body = (ASSETS / "icon.svg").read_bytes()
        return Response(body, media_type="image/svg+xml", headers={"cache-control": "max-age=86400"})

    app.add_middleware(RequestBodies, uploads=services.uploads)
    app.add_middleware(AccessControl, sessions=services.sessions)
    if settings.allowed_hosts:
        app.add_middleware(
            TrustedHostMiddleware, allowed_hosts=settings.allowed_hosts.split(","), www_redirect=False
        )
    app.add_middleware(BehindProxies, settings=settings)
    app.add_middleware(FaultsInWords, home=settings.home)
    return app


def _settle_gradio(settings: Settings) -> None:
    """Say before Gradio is imported: no telemetry, and uploads in a private folder of ours."""
    uploads = settings.home / "uploads"
    uploads.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    _log_malformed_calls()


def _log_malformed_calls() -> None:
    """Let a call that Gradio cannot run be one line in the log; Gradio prints a traceback with the call's arguments."""
    import gradio.queueing
    import gradio.routes

    def print_exc() -> None:
        kind = sys.exc_info()[0]
        log.warning("Gradio could not run a call: %s", kind.__name__ if kind else "no fault")

    for module in (gradio.queueing, gradio.routes):
        vars(module)["traceback"] = SimpleNamespace(print_exc=print_exc)


def build_pages(services: Services) -> "Blocks":
    """Return the blocks of every page, with their endpoints."""
    return _in_a_loop(lambda: _built_pages(services))


def _in_a_loop(build: Callable[[], T]) -> T:
    """Build something of Gradio's while an event loop runs; outside of one it opens loops that it never closes."""

    async def built() -> T:
        return build()

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(built())
    return build()


def _built_pages(services: Services) -> "Blocks":
    from gradio import Blocks

    from web import api
    from web.tabs import account, admin, ask, batch, results, review

    pages: Blocks
    with Blocks(title="MedX", analytics_enabled=False, fill_width=True) as pages:
        ask.build(services)
        api.build(services)
    for path, title, build in (
        ("batch", "Batch", batch.build),
        ("review", "Review", review.build),
        ("results", "Results", results.build),
        ("admin", "Admin", admin.build),
        ("account", "Account", account.build),
    ):
        with pages.route(title, path, show_in_navbar=False):
            build(services)
    pages.queue(default_concurrency_limit=8, max_size=1000)
    # Only `launch` sets this, and pages that are mounted are never launched; without it Gradio copies whatever file
    # of this machine a caller names into the uploads, in place of taking uploads alone.
    pages.has_launched = True
    return pages


def _mount_pages(app: FastAPI, services: Services) -> None:
    def signed_in(request: Request) -> str | None:
        person = request.scope.get(PERSON_IN_SCOPE)
        return None if person is None else str(person.name)

    with warnings.catch_warnings():
        # Gradio says so about every multi-page app, also when server-side rendering was never asked for.
        warnings.filterwarnings("ignore", message="SSR mode is not supported with multi-page apps")
        _in_a_loop(lambda: _mount(app, services, signed_in))


def _mount(app: FastAPI, services: Services, signed_in: Callable[[Request], str | None]) -> None:
    import gradio as gr

    from web.rendering import render
    from web.theme import theme

    gr.mount_gradio_app(
        app,
        _built_pages(services),
        path="/app",
        auth_dependency=signed_in,
        show_error=False,
        max_file_size=services.settings.max_file_bytes,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        theme=theme(),
        css_paths=[ASSETS / "medx.css"],
        head=render("head.html"),
    )
