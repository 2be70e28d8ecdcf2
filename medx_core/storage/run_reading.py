"""A run as the rest of the program sees it, and reading it from its table."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy.orm import defer
from sqlmodel import col, select

from medx_core.storage.service_tables import RunTable


class RunStatus(StrEnum):
    """Where a run stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


UNFINISHED_RUNS = frozenset({RunStatus.QUEUED, RunStatus.RUNNING})


@dataclass(frozen=True)
class Run:
    """One run. `result` is None until it finished, and in lists, where `summary` stands for it.

    `progress` says {what, done, total}; `reason` why it failed, in a sentence.
    """

    public_id: str
    kind: str
    status: RunStatus
    settings: Mapping[str, Any]
    requested_by: str
    owner: str | None
    attempts: int
    progress: Mapping[str, Any] | None
    reason: str
    summary: Mapping[str, Any]
    result: Mapping[str, Any] | None
    created_at: datetime
    started_at: datetime | None
    heartbeat_at: datetime | None
    finished_at: datetime | None

    @property
    def finished(self) -> bool:
        """Whether nothing more will come."""
        return self.status not in UNFINISHED_RUNS


def runs_without_results() -> Any:
    """Select runs without loading their results, which `run_of` then has to leave alone."""
    return select(RunTable).options(defer(col(RunTable.result), raiseload=True))  # type: ignore[arg-type] # a column at run time


def run_of(row: RunTable, *, with_result: bool = True) -> Run:
    """Return what a row says."""
    return Run(
        public_id=row.public_id,
        kind=row.kind,
        status=RunStatus(row.status),
        settings=row.settings,
        requested_by=row.requested_by,
        owner=row.owner,
        attempts=row.attempts,
        progress=row.progress,
        reason=row.reason,
        summary=row.summary or {},
        result=row.result if with_result else None,
        created_at=row.created_at,
        started_at=row.started_at,
        heartbeat_at=row.heartbeat_at,
        finished_at=row.finished_at,
    )
