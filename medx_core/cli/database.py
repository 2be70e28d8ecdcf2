"""The database that the commands work on."""

from collections.abc import Iterator
from contextlib import contextmanager

from medx_core.settings import settings
from medx_core.storage.engine import Database
from medx_core.storage.opening import open_database


@contextmanager
def opened_database() -> Iterator[Database]:
    """Open the database that the settings name, at the version this program needs.

    Raises:
        StorageFault: it cannot be reached or is at another version.
    """
    database = open_database(settings())
    try:
        yield database
    finally:
        database.close()
