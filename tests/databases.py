"""Databases for tests: the same test on an SQLite file and on a PostgreSQL from a wheel.

The PostgreSQL server is started once a test session, at the first test that wants it. Each test starts without a row
in any table.
"""

import secrets
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import psycopg
import pytest
from argon2 import PasswordHasher
from sqlalchemy import text
from sqlmodel import Session

from medx_core.storage.engine import Database
from medx_core.storage.jobs import JobStore
from medx_core.storage.leases import LeaseStore
from medx_core.storage.outbox import OutboxStore
from medx_core.storage.people import PersonStore
from medx_core.storage.tables import metadata
from tests.postgresql_server import running_server


class SetClock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The URL of a running server's own database."""
    with running_server() as url:
        yield url


@pytest.fixture(scope="session")
def migrated_postgresql(postgresql_server: str) -> Iterator[str]:
    """The URL of a database with all tables that the tests share, one after another."""
    with _new_database(postgresql_server) as url:
        database = Database(url)
        database.upgrade()
        database.close()
        yield url


@cache
def migrated_sqlite_file() -> bytes:
    """The content of an SQLite file with all tables."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "medx.sqlite3"
        database = Database(f"sqlite:///{file}")
        database.upgrade()
        database.close()
        return file.read_bytes()


@pytest.fixture(params=["sqlite", "postgresql"])
def engine_name(request: pytest.FixtureRequest) -> str:
    """Both engines in turn."""
    return request.param


@pytest.fixture
def database_url(engine_name: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database, on both engines in turn."""
    if engine_name == "sqlite":
        yield f"sqlite:///{tmp_path / 'home' / 'medx.sqlite3'}"
        return
    with _new_database(request.getfixturevalue("postgresql_server")) as url:
        yield url


@pytest.fixture
def migrated_url(engine_name: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database with all tables and no row, on both engines in turn."""
    if engine_name == "sqlite":
        return _migrated_sqlite_url(tmp_path)
    url: str = request.getfixturevalue("migrated_postgresql")
    # Emptying takes a fifth of the time that a new database takes.
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(f"TRUNCATE {', '.join(metadata.tables)} RESTART IDENTITY CASCADE")
    return url


@pytest.fixture
def database(migrated_url: str) -> Iterator[Database]:
    """A database with all tables and no row, on both engines in turn."""
    database = Database(migrated_url)
    yield database
    database.close()


@pytest.fixture
def sqlite_database(tmp_path: Path) -> Iterator[Database]:
    """A database with all tables for tests that are not about storage."""
    database = Database(_migrated_sqlite_url(tmp_path))
    yield database
    database.close()


def _migrated_sqlite_url(folder: Path) -> str:
    file = folder / "medx.sqlite3"
    file.write_bytes(migrated_sqlite_file())
    return f"sqlite:///{file}"


@contextmanager
def _new_database(server_url: str) -> Iterator[str]:
    name = f"medx_{secrets.token_hex(6)}"
    with psycopg.connect(server_url, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"')
        yield server_url.replace("/postgres?", f"/{name}?")
        server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextmanager
def forging(database: Database) -> Iterator[Session]:
    """A session of somebody who may do everything in the database."""
    with database.write() as session:
        if database.is_sqlite:
            for act in ("update", "delete"):
                session.connection().execute(text(f"DROP TRIGGER audit_no_{act}"))
        else:
            session.connection().execute(text("SET LOCAL session_replication_role = replica"))
        yield session


def at_once(*works: Callable[[], object]) -> list[object]:
    """Run the works in threads that start together; return what they returned, or the exception they raised."""
    start = threading.Barrier(len(works))
    results: list[object] = [None] * len(works)

    def run(place: int, work: Callable[[], object]) -> None:
        start.wait(timeout=30)
        try:
            results[place] = work()
        except Exception as error:  # noqa: BLE001 - handed to the test
            results[place] = error

    threads = [threading.Thread(target=run, args=(place, work)) for place, work in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    return results


@pytest.fixture
def people(database: Database, clock: SetClock) -> PersonStore:
    """The people of the test's database, with a quick password hash."""
    return PersonStore(
        database, hasher=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1), clock=clock
    )


@pytest.fixture
def jobs(database: Database, clock: SetClock) -> JobStore:
    return JobStore(database, clock=clock)


@pytest.fixture
def leases(database: Database, clock: SetClock) -> LeaseStore:
    return LeaseStore(database, clock=clock)


@pytest.fixture
def outbox(database: Database, clock: SetClock) -> OutboxStore:
    return OutboxStore(database, clock=clock)
