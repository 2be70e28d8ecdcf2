"""The audit log: append-only and chained by hashes, so that a changed or missing row is detected.

A row's hash covers the hash before it, and triggers of the database refuse to change or delete rows. That the newest
rows were cut off is noticed by the last hash, which stands in a file outside the database (`audit_anchor`).
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlmodel import col, select

from medx_core.clock import utc_now
from medx_core.errors import StorageFault
from medx_core.storage.audit_anchor import AuditAnchor, Marks, RowMark
from medx_core.storage.engine import Clock, Database, Store
from medx_core.storage.installation import installation_id
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
    previous_hash: str
    hash: str


@dataclass(frozen=True)
class Verified:
    """What a verification read: how many rows, after which row it began (0: at the beginning), and the last one."""

    rows: int
    after: int
    last: AuditEntry | None


class AuditStore(Store):
    """The audit log of one database; `anchors` is the folder of the file that says where it ended."""

    def __init__(self, database: Database, *, anchors: Path | None = None, clock: Clock = utc_now) -> None:
        super().__init__(database, clock=clock)
        self._anchors = anchors

    @cached_property
    def _anchor(self) -> AuditAnchor | None:
        return None if self._anchors is None else AuditAnchor(self._anchors, installation_id(self._database))

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
            entry = _entry(row)
        if self._anchor is not None:
            self._anchor.note_written(RowMark(entry.id, entry.hash), self._is_there)
        return entry

    def entries(self, *, limit: int = 100, offset: int = 0) -> tuple[AuditEntry, ...]:
        """Return the actions, the newest first."""
        newest = select(AuditTable).order_by(col(AuditTable.id).desc()).offset(offset).limit(limit)
        with self._database.read() as session:
            return tuple(_entry(row) for row in session.exec(newest))

    def every_entry(self) -> Iterator[AuditEntry]:
        """Yield all actions, the oldest first."""
        with self._rows_after(0) as rows:
            for row in rows:
                yield _entry(row)

    def verify(self, *, go_on: bool = False) -> Verified:
        """Check the whole chain and that it has its end; `go_on`: from where it was found whole the last time.

        Raises:
            StorageFault: a row was changed, put in or taken out, or the newest are missing; the sentence names where.
        """
        marks = self._anchor.read() if self._anchor else Marks()
        begin = marks.verified if go_on else None
        for mark in (begin, marks.written):
            if mark is not None:
                self._check_is_there(mark)
        verified = self._verified_from(begin)
        if self._anchor is not None and verified.last is not None:
            self._anchor.note_verified(RowMark(verified.last.id, verified.last.hash))
        return verified

    def accept_restored(self) -> None:
        """Take the log as it stands after the database was restored from a backup; that is noted in it."""
        if self._anchor is None:
            return
        newest = self.entries(limit=1)
        self._anchor.begin_anew(RowMark(newest[0].id, newest[0].hash) if newest else None)
        self.append(
            "command line", "audit log taken as restored", detail={"after": newest[0].id if newest else 0}
        )

    def _verified_from(self, begin: RowMark | None) -> Verified:
        count, expected, after = 0, begin.hash if begin else FIRST_HASH, begin.id if begin else 0
        last: AuditEntry | None = None
        with self._rows_after(after) as rows:
            for row in rows:
                if row.previous_hash != expected or row.hash != _hash(row):
                    raise StorageFault(
                        f"The audit log is broken at row {row.id} ({row.at:%Y-%m-%d %H:%M} UTC): it or a row before it was changed."
                    )
                count, expected, last = count + 1, row.hash, _entry(row)
        return Verified(count, after, last)

    @contextmanager
    def _rows_after(self, row_id: int) -> Iterator[Iterable[AuditTable]]:
        in_order = select(AuditTable).where(AuditTable.id > row_id).order_by(col(AuditTable.id))
        in_order = in_order.execution_options(yield_per=ROWS_AT_ONCE)
        # Closed also where the chain breaks: PostgreSQL's cursor is on the server.
        with self._database.read() as session, session.exec(in_order) as rows:
            yield rows

    def _is_there(self, mark: RowMark) -> bool:
        with self._database.read() as session:
            row = session.get(AuditTable, mark.id)
            return row is not None and row.hash == mark.hash == _hash(row)

    def _check_is_there(self, mark: RowMark) -> None:
        if not self._is_there(mark):
            raise StorageFault(
                f"The audit log does not have row {mark.id} as it was written: rows were cut off or changed. If the database was "
                "restored from a backup, say so with `medx audit verify --after-restore`."
            )


def _hash(row: AuditTable) -> str:
    at = row.at.astimezone(UTC).isoformat(timespec="microseconds")
    covered = [row.previous_hash, at, row.actor, row.action, row.target, row.detail]
    return hashlib.sha256(_canonical(covered).encode()).hexdigest()


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _entry(row: AuditTable) -> AuditEntry:
    return as_value(AuditEntry, row, detail=json.loads(row.detail))
