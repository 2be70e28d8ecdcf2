"""What a reverse proxy in front of MedX changes: who asks, by which scheme, and below which path.

Forwarded headers are believed from the addresses in `MEDX_TRUSTED_PROXIES` alone, and read by uvicorn's own middleware;
nothing behind it sees them, because Gradio would believe them from anybody.
"""

import logging

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from medx_core.settings import Settings

log = logging.getLogger(__name__)

HEADERS = frozenset({b"forwarded", b"x-gradio-server"})
UNTRUSTED_PROXY_IN_SCOPE = "medx_untrusted_proxy"


class BehindProxies:
    """ASGI middleware: the client and scheme that trusted proxies report, and the path below `MEDX_ROOT_PATH`."""

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self._app = app
        self._root_path = settings.root_path
        self._believing = ProxyHeadersMiddleware(self._without_headers, settings.trusted_proxies.split(","))  # type: ignore[arg-type]  # uvicorn's own types of the same
        self._warned = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request as its client sent it to the proxy."""
        if scope["type"] != "lifespan":
            scope[UNTRUSTED_PROXY_IN_SCOPE] = self._is_untrusted(scope)
        await self._believing(scope, receive, send)  # type: ignore[arg-type]

    def _is_untrusted(self, scope: Scope) -> bool:
        peer = scope["client"][0] if scope.get("client") else None
        if not any(_is_forwarded(name) for name, _ in scope["headers"]):
            return False
        if peer in self._believing.trusted_hosts:
            return False
        if not self._warned:
            self._warned = True
            log.warning(
                "%s forwards requests and is not in MEDX_TRUSTED_PROXIES: its word is not taken", peer
            )
        return True

    async def _without_headers(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            kept = [(name, value) for name, value in scope["headers"] if not _is_forwarded(name)]
            scope = dict(scope) | {"headers": kept} | self._paths(scope["path"])
        await self._app(scope, receive, send)

    def _paths(self, path: str) -> dict[str, str]:
        """Return the paths of a request, whether or not the proxy took the root path away."""
        root = self._root_path
        if root and path != root and not path.startswith(f"{root}/"):
            path = root + path
        return {"root_path": root, "path": f"{root}/" if path == root else path}


def _is_forwarded(header: bytes) -> bool:
    return header in HEADERS or header.startswith(b"x-forwarded-")
