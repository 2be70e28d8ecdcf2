"""The id of an installation, which its database holds: all processes on one database share it."""

import secrets

from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError
from sqlmodel import select

from medx_core.clock import utc_now
from medx_core.storage.engine import Database
from medx_core.storage.tables import InstallationTable

BYTES = 16


def installation_id(database: Database) -> str:
    """Return the id of this installation, made at the first call by any of its processes."""
    with database.read() as session:
        known = session.exec(select(InstallationTable.public_id)).first()
    if known is not None:
        return known
    made = {"id": 1, "public_id": secrets.token_hex(BYTES), "created_at": utc_now()}
    try:
        with database.write() as session:
            session.connection().execute(insert(InstallationTable), made)
    except IntegrityError:  # another process was first
        pass
    with database.read() as session:
        return session.exec(select(InstallationTable.public_id)).one()
