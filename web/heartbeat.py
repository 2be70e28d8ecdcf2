"""The heartbeat of a web process: its event loop runs and it can write to the database."""

import asyncio
import logging
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

from fastapi import FastAPI

from medx_core import __version__
from medx_core.errors import MedxError
from medx_core.settings import Settings
from medx_core.storage.health import HealthStore

log = logging.getLogger(__name__)

BEATS_PER_SEEN_LIMIT = 3


def beating(
    health: HealthStore, settings: Settings
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Return the lifespan of an application that appears on the health page from its start to its end."""
    name = f"{socket.gethostname()}-{secrets.token_hex(4)}"
    detail = {"address": f"{settings.host}:{settings.port}", "medx_version": __version__}

    async def beat_on() -> None:
        while True:
            try:
                await asyncio.to_thread(health.beat, name, "web", detail)
            except MedxError as error:
                log.warning("the heartbeat did not reach the database: %s", error)
            await asyncio.sleep(settings.worker_seen_seconds / BEATS_PER_SEEN_LIMIT)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:  # noqa: ARG001 - FastAPI hands the application over
        beats = asyncio.create_task(beat_on())
        try:
            yield
        finally:
            beats.cancel()
            with suppress(asyncio.CancelledError):
                await beats
            await asyncio.to_thread(_sign_off, health, name)

    return lifespan


def _sign_off(health: HealthStore, name: str) -> None:
    try:
        health.leave(name)
    except MedxError as error:
        log.warning("could not sign off: %s", error)
