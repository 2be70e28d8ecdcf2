"""Who leads: of several processes, one at a time publishes and reconciles."""

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy.exc import IntegrityError
from sqlmodel import select

from medx_core.clock import utc_now
from medx_core.storage.engine import Database
from medx_core.storage.service_tables import LeaseTable


class LeaderStore:
    """Named leases on duties, kept in one database."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._clock = clock

    def hold(self, name: str, owner: str, seconds: float) -> bool:
        """Take or prolong the lease called `name`; return whether `owner` has it now."""
        now = self._clock()
        until = now + timedelta(seconds=seconds)
        try:
            with self._database.write() as session:
                row = session.exec(
                    select(LeaseTable).where(LeaseTable.name == name).with_for_update()
                ).first()
                if row is None:
                    session.add(LeaseTable(name=name, owner=owner, until=until))
                    return True
                if row.owner != owner and row.until > now:
                    return False
                row.owner = owner
                row.until = until
                return True
        except IntegrityError:
            return False  # two took a lease that nobody had before; the other one was faster

    def release(self, name: str, owner: str) -> None:
        """Give the lease up, if `owner` has it."""
        with self._database.write() as session:
            row = session.get(LeaseTable, name)
            if row is not None and row.owner == owner:
                session.delete(row)
