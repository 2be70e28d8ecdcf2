"""The connection to the database: read and write transactions, the same on SQLite and PostgreSQL."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlmodel import Session

from medx_core.clock import utc_now
from medx_core.errors import StorageFault
from medx_core.settings import Settings

MIGRATIONS = Path(__file__).resolve().parent / "migrations"
BUSY_SECONDS = 15
DAMAGED = "The database is damaged; put back a copy of it, or move it away and begin with an empty one (`medx db upgrade`)"
# Parameters are questions, answers and names, and errors reach the logs.
POOL: dict[str, Any] = {"pool_size": 10, "max_overflow": 30, "hide_parameters": True}
# PostgreSQL advisory lock that every upgrade takes first; the number only has to be the same everywhere.
UPGRADE_LOCK = 7_301_001
WRITES = "medx_writes"
# What SQLite and PostgreSQL say of their disk, and what to do about it.
DISK_FAULTS = {
    "disk is full": "The disk of the database is full; free some space there, and try again",
    "no space left on device": "The disk of the database is full; free some space there, and try again",
    "readonly database": "The database is on a read-only disk, or MedX may not write to it; see to that, and try again",
    "read-only file system": "The disk of the database is read-only; mount it for writing, and try again",
    "unable to open database file": "The database's file cannot be opened; see that its folder is there and that MedX may "
    "read and write in it",
    "disk i/o error": "The disk of the database fails or is full; check the disk, free some space, and try again",
    "disk image is malformed": DAMAGED,
    "not a database": DAMAGED,
    "invalid page in block": DAMAGED,
}
WAL_AGAIN_SECONDS = 0.01


class Database:
    """One database for the whole process. Safe to share between threads; connects at first use.

    Raises StorageFault, whose sentence says what to do, where the URL names no SQLite file or PostgreSQL database, and
    in all methods where the database cannot be reached or used.
    """

    def __init__(self, url: str) -> None:
        self._url = _readable_url(url)
        self._engine = _engine(self._url)
        # PostgreSQL refuses a write in a reading transaction by this option, SQLite by `query_only` below.
        self._reader = self._engine.execution_options(postgresql_readonly=True)
        self._writer = self._engine.execution_options(**{WRITES: True})
        self._turn = threading.Lock()

    @property
    def is_sqlite(self) -> bool:
        """Whether this is an SQLite file, which one transaction at a time may write."""
        return self._engine.dialect.name == "sqlite"

    @property
    def shown_url(self) -> str:
        """The URL with its password hidden."""
        return self._url.render_as_string(hide_password=True)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a session that sees one state of the database and cannot change it."""
        with _faults_in_words(), Session(self._reader) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Open a session whose changes are committed together on the way out, or not at all.

        Not to be nested: on SQLite the inner one would wait for the outer one, for `BUSY_SECONDS` at most.
        """
        with _faults_in_words(), self._writing_turn(), Session(self._writer) as session, session.begin():
            yield session

    def upgrade(self) -> None:
        """Bring the tables to the version this program needs; two processes may do so at once."""
        self._make_folder()
        with _faults_in_words(), self._writing_turn(), self._writer.begin() as connection:
            if not self.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": UPGRADE_LOCK})
            _upgrade(connection)

    def check(self) -> None:
        """Make sure that the database is there and at the version this program needs."""
        file = self._file()
        if file is not None and not file.exists():
            raise StorageFault(f"There is no database at {file}; run `medx db upgrade`.")
        with _faults_in_words(), self._reader.connect() as connection:
            present = _present_version(connection)
        needed = needed_version()
        if present is None:
            raise StorageFault(f"The database at {self.shown_url} has no tables; run `medx db upgrade`.")
        if present != needed:
            raise StorageFault(
                f"The database is at version {present} and this program needs {needed}; run `medx db upgrade`."
            )

    def close(self) -> None:
        """Close all connections; one that is used later opens new ones."""
        self._engine.dispose()

    @contextmanager
    def _writing_turn(self) -> Iterator[None]:
        # SQLite's own waiting is a race of sleepers that can starve a thread; a lock keeps threads of one process fair.
        if not self.is_sqlite:
            yield
            return
        if not self._turn.acquire(timeout=BUSY_SECONDS):
            raise StorageFault(f"The database stayed busy for {BUSY_SECONDS} seconds; try again.")
        try:
            yield
        finally:
            self._turn.release()

    def _file(self) -> Path | None:
        return Path(self._url.database) if self.is_sqlite and self._url.database else None

    def _make_folder(self) -> None:
        file = self._file()
        if file is None:
            return
        try:
            file.parent.parent.mkdir(parents=True, exist_ok=True)
            file.parent.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StorageFault(
                f"The folder {file.parent} for the database cannot be made ({error.strerror})."
            ) from error


def _readable_url(given: str) -> URL:
    try:
        url = make_url(given)
    except ArgumentError as error:
        raise StorageFault(
            "DATABASE_URL cannot be read; write sqlite:///FOLDER/FILE or postgresql://USER@HOST/NAME."
        ) from error
    if url.drivername in {"postgres", "postgresql", "postgresql+psycopg"}:
        return url.set(drivername="postgresql+psycopg")
    if url.drivername != "sqlite":
        raise StorageFault(
            f"MedX stores in SQLite or PostgreSQL; DATABASE_URL names {url.drivername!r}, which is neither."
        )
    if url.database in {None, "", ":memory:"}:
        raise StorageFault("An SQLite database must be a file; write sqlite:///FOLDER/FILE in DATABASE_URL.")
    return url


def _engine(url: URL) -> Engine:
    if url.drivername != "sqlite":
        return create_engine(url, pool_pre_ping=True, **POOL)
    engine = create_engine(url, **POOL)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself; _begin_sqlite does
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
    _switch_to_wal(cursor)
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _switch_to_wal(cursor: sqlite3.Cursor) -> None:
    """Let readers and a writer work side by side.

    Several processes that open a new file at once want the same exclusive lock; SQLite refuses all but one of them at
    once, whatever its busy timeout says, so the others ask again.
    """
    deadline = monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or monotonic() > deadline:
                raise
            threading.Event().wait(WAL_AGAIN_SECONDS)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that begins by reading and writes later fails as soon as another one wrote in between:
    # so writers take the write lock at once, and readers cannot write at all.
    writes = bool(connection.get_execution_options().get(WRITES))
    connection.exec_driver_sql(f"PRAGMA query_only = {'OFF' if writes else 'ON'}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def _faults_in_words() -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise  # stores say which name or rating was there already
    except DataError as error:  # its text holds the value that was refused
        raise StorageFault("The database refused a value that was to be stored or looked for.") from error
    except DBAPIError as error:
        raise StorageFault(_in_words(str(error.orig))) from error
    except PoolTimeout as error:
        raise StorageFault("All connections to the database are in use; try again.") from error


def _in_words(reason: str) -> str:
    first_line = reason.strip().split("\n")[0]
    if "no such table" in first_line or "no such column" in first_line or "does not exist" in first_line:
        return f"The database lacks what this program needs ({first_line}); run `medx db upgrade`."
    for sign, sentence in DISK_FAULTS.items():
        if sign in first_line.lower():
            return f"{sentence} (the database says: {first_line})."
    return f"The database cannot be used ({first_line}); see that it runs and that DATABASE_URL is right."


def open_database(settings: Settings) -> Database:
    """Open the database; MedX's own SQLite file is made when it is not there yet.

    Raises:
        StorageFault: the database cannot be reached, or is at another version and needs `medx db upgrade`.
    """
    database = Database(settings.database)
    try:
        if not settings.database_url and not (settings.home / "medx.sqlite3").exists():
            database.upgrade()
        database.check()
    except BaseException:
        database.close()
        raise
    return database


def needed_version() -> str:
    """Return the version of the tables that this program needs: the number of its last migration."""
    return max(file.name[1:5] for file in (MIGRATIONS / "versions").glob("v*.py"))


def _present_version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(connection: Connection) -> None:
    """Run the missing migrations inside the caller's transaction."""
    # Imported here: Alembic takes a quarter of a second, and almost no process migrates.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


Clock = Callable[[], datetime]


class Store:
    """What every store has: a database, and a clock that tests set."""

    def __init__(self, database: Database, *, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock
