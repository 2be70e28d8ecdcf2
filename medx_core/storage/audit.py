"""The audit log: append-only and chained by hashes, so that a changed or missing row is detected.

A row's hash covers the hash before it. The chain cannot show that its newest rows were cut off: note the last hash
somewhere else (a print-out, another machine) where that matters.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text
from sqlmodel import col, select

from medx_core.errors import StorageFault
from medx_core.storage.engine import Store
from medx_core.storage.tables import AuditTable, as_value

FIRST_HASH = "0" * 64
APPEND_LOCK = 7_301_002
ROWS_AT_ONCE = 1_000


@dataclass(frozen=True)
class AuditEntry:
    """One action, with the hash that covers it and everything before it."""

    id: int
    at: datetime
    actor: str
    action: str
    target: str
    detail: Mapping[str, Any]
    hash: str


class AuditStore(Store):
    """The audit log of one database."""

    def append(
        self, actor: str, action: str, target: str = "", detail: Mapping[str, Any] | None = None
    ) -> AuditEntry:
        """Add one action. `detail` holds plain values: ids and numbers, never the text of questions or answers."""
        with self._database.write() as session:
            if not self._database.is_sqlite:  # SQLite has one writer at a time anyway
                session.connection().execute(
                    text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": APPEND_LOCK}
                )
            last = session.exec(select(AuditTable).order_by(col(AuditTable.id).desc()).limit(1)).first()
            row = AuditTable(
                at=self._clock(),
                actor=actor,
                action=action,
                target=target,
                detail=_canonical(detail or {}),
                previous_hash=last.hash if last else FIRST_HASH,
                hash="",
            )
            row.hash = _hash(row)
            session.add(row)
            session.flush()
            return _entry(row)

    def entries(self, *, limit: int = 100, offset: int = 0) -> tuple[AuditEntry, ...]:
        """Return the actions, the newest first."""
        newest = select(AuditTable).order_by(col(AuditTable.id).desc()).offset(offset).limit(limit)
        with self._database.read() as session:
            return tuple(_entry(row) for row in session.exec(newest))

    def verify(self) -> int:
        """Check the whole chain; return how many rows it has.

        Raises:
            StorageFault: a row was changed, put in or taken out; the sentence names the first one that does not fit.
        """
        count, expected = 0, FIRST_HASH
        in_order = select(AuditTable).order_by(col(AuditTable.id)).execution_options(yield_per=ROWS_AT_ONCE)
        # Closed also where the chain breaks: PostgreSQL's cursor is on the server.
        with self._database.read() as session, session.exec(in_order) as rows:
            for row in rows:
                if row.previous_hash != expected or row.hash != _hash(row):
                    raise StorageFault(
                        f"The audit log is broken at row {row.id} ({row.at:%Y-%m-%d %H:%M} UTC): it or a row before it was changed."
                    )
                count, expected = count + 1, row.hash
        return count


def _hash(row: AuditTable) -> str:
    at = row.at.astimezone(UTC).isoformat(timespec="microseconds")
    covered = [row.previous_hash, at, row.actor, row.action, row.target, row.detail]
    return hashlib.sha256(_canonical(covered).encode()).hexdigest()


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _entry(row: AuditTable) -> AuditEntry:
    return as_value(AuditEntry, row, detail=json.loads(row.detail))
