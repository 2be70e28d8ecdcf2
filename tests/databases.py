"""Databases for tests: the same test on an SQLite file and on a PostgreSQL from a wheel.

The PostgreSQL server is started once a test session, at the first test that wants it. Each test gets a database of
its own.
"""

import secrets
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from argon2 import PasswordHasher

from medx_core.storage.engine import Database
from medx_core.storage.person_store import PersonStore
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


@pytest.fixture
def postgresql_url(postgresql_server: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    name = f"medx_{secrets.token_hex(6)}"
    with psycopg.connect(postgresql_server, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"')
    yield postgresql_server.replace("/postgres?", f"/{name}?")
    with psycopg.connect(postgresql_server, autocommit=True) as server:
        server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, on both engines in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'home' / 'medx.sqlite3'}"
    return request.getfixturevalue("postgresql_url")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database with all tables, on both engines in turn."""
    database = Database(database_url)
    database.upgrade()
    yield database
    database.close()


@pytest.fixture
def sqlite_database(tmp_path: Path) -> Iterator[Database]:
    """A database with all tables for tests that are not about storage."""
    database = Database(f"sqlite:///{tmp_path / 'home' / 'medx.sqlite3'}")
    database.upgrade()
    yield database
    database.close()


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
