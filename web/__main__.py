"""`python -m web`: serve the pages until told to stop."""

import sys

import uvicorn

from medx_core.errors import MedxError
from medx_core.home import write_privately
from medx_core.settings import settings
from web.app import build_app


def main() -> int:
    """Serve; return 1 with one sentence when that cannot start."""
    write_privately()
    try:
        chosen = settings()
        app = build_app(chosen)
    except MedxError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    uvicorn.run(
        app,
        host=chosen.host,
        port=chosen.port,
        log_level="warning",
        timeout_graceful_shutdown=3,
        proxy_headers=False,  # `web.proxies` asks whom to believe; uvicorn would believe this whole host
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
