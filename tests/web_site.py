"""The whole web application in a thread, on a free port, with people of each role and a pretended worker."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvicorn
from argon2 import PasswordHasher

from medx_core.settings import Settings
from medx_core.storage.engine import Database
from medx_core.storage.people import PersonStore, Role
from tests.browser.pretend_worker import PretendWorker
from web.app import build_app
from web.services import Services, build_services

PASSWORD = "correct horse"
PEOPLE = {"asa": Role.ASKER, "clio": Role.CLINICIAN, "ada": Role.ADMIN}


@dataclass(frozen=True)
class WebSite:
    """A running site and what stands behind it."""

    url: str
    services: Services
    worker: PretendWorker

    @property
    def cookie_name(self) -> str:
        """What this installation calls its session cookie."""
        return self.services.sessions.cookie_name

    def cookie(self, name: str) -> str:
        """Sign in and return the session cookie."""
        reply = httpx.post(f"{self.url}/login", data={"name": name, "password": PASSWORD}, timeout=30)
        return reply.cookies[self.cookie_name]


def site_settings(home: Path, **given) -> Settings:
    """Settings for a site of a test's own; nothing of the machine's environment counts."""
    return Settings(
        home=home, database_url=f"sqlite:///{home / 'medx.sqlite3'}", **{"redis_url": "", **given}
    )


def prepared_services(settings: Settings) -> Services:
    """Services over an upgraded database with one person of each role."""
    settings.home.mkdir(parents=True, exist_ok=True)
    database = Database(settings.database)
    database.upgrade()
    people = PersonStore(database, hasher=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    for name, role in PEOPLE.items():
        people.add(name, role, PASSWORD)
    database.close()
    return build_services(settings)


@contextmanager
def running_site(home: Path, **given) -> Iterator[WebSite]:
    """Serve until the block ends."""
    settings = site_settings(home, **given)
    services = prepared_services(settings)
    app = build_app(settings, services)
    listening = socket.create_server(("127.0.0.1", 0))  # the backlog holds clients until the server accepts
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    worker = PretendWorker(services.database, redis_url=settings.redis_url)
    thread.start()
    worker.start()
    try:
        yield WebSite(f"http://127.0.0.1:{listening.getsockname()[1]}", services, worker)
    finally:
        worker.stop()
        server.should_exit = True
        thread.join(timeout=30)
        listening.close()
        services.database.close()
        assert not thread.is_alive()
