"""Opening the database that the settings name."""

from medx_core.settings import Settings
from medx_core.storage.engine import Database


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
