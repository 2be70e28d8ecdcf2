"""`python -m web`: serve the pages until told to stop."""

import logging
import sys

import uvicorn

from medx_core.errors import MedxError
from medx_core.home import disk_sentence, write_privately
from medx_core.logs import log_without_content
from medx_core.settings import settings
from web.app import build_app


def main() -> int:
    """Serve; return 1 with one sentence when that cannot start."""
    write_privately()
    log_without_content(level=logging.WARNING)
    try:
        chosen = settings()
        app = build_app(chosen)
    except (MedxError, OSError) as error:
        reason = disk_sentence(error, settings().home) if isinstance(error, OSError) else ""
        sys.stderr.write(f"{reason or error}\n")
        return 1
    uvicorn.run(
        app,
        host=chosen.host,
        port=chosen.port,
        log_level="warning",
        log_config=None,  # uvicorn's own would write the messages of faults
        timeout_graceful_shutdown=3,
        proxy_headers=False,  # `web.proxies` asks whom to believe; uvicorn would believe this whole host
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
