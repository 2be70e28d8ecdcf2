"""Runs: evaluations, trainings and benches with what was set and what came out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlmodel import col, select

from medx_core.clock import utc_now
from medx_core.errors import NotFound
from medx_core.storage.engine import Database
from medx_core.storage.service_tables import RunTable


class RunStatus(StrEnum):
    """Where a run stands."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Run:
    """One run; `result` is None until it finished."""

    public_id: str
    kind: str
    status: RunStatus
    settings: Mapping[str, Any]
    result: Mapping[str, Any] | None
    created_at: datetime
    finished_at: datetime | None


class RunStore:
    """The runs of one database."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._clock = clock

    def add(self, kind: str, settings: Mapping[str, Any]) -> Run:
        """Note that a run began."""
        with self._database.write() as session:
            row = RunTable(
                kind=kind, status=RunStatus.RUNNING, settings=dict(settings), created_at=self._clock()
            )
            session.add(row)
            session.flush()
            return _run(row)

    def finish(self, public_id: str, result: Mapping[str, Any], *, status: RunStatus = RunStatus.DONE) -> Run:
        """Store what came out of a run.

        Raises:
            NotFound: there is no such run.
        """
        with self._database.write() as session:
            row = session.exec(select(RunTable).where(RunTable.public_id == public_id)).first()
            if row is None:
                raise NotFound("There is no run under this id.")
            row.status = status
            row.result = dict(result)
            row.finished_at = self._clock()
            return _run(row)

    def list(self, kind: str | None = None, *, limit: int = 50) -> tuple[Run, ...]:
        """Return the newest runs first, of one kind or of all."""
        newest = select(RunTable).order_by(col(RunTable.id).desc()).limit(limit)
        if kind is not None:
            newest = newest.where(RunTable.kind == kind)
        with self._database.read() as session:
            return tuple(_run(row) for row in session.exec(newest))


def _run(row: RunTable) -> Run:
    return Run(
        public_id=row.public_id,
        kind=row.kind,
        status=RunStatus(row.status),
        settings=row.settings,
        result=row.result,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )
