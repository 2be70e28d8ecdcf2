"""The database as commands open it, and how they sign the audit log."""

from contextlib import AbstractContextManager, closing

from medx_core.settings import settings
from medx_core.storage.audit import AuditStore
from medx_core.storage.engine import Database, open_database

ACTOR = "command line"


def opened_database() -> AbstractContextManager[Database]:
    """Open the database that the settings name, at the version this program needs; close it after the block.

    Raises:
        StorageFault: it cannot be reached or is at another version.
    """
    return closing(open_database(settings()))


def note(database: Database, action: str, target: str, **detail: str | int) -> None:
    """Write into the audit log what this command did."""
    audit_log(database).append(ACTOR, action, target, detail)


def audit_log(database: Database) -> AuditStore:
    """Return the audit log with the file in which its end is anchored."""
    return AuditStore(database, anchors=settings().anchors_folder)
