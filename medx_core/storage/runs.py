"""Runs: evaluations, trainings and benches with what was set, how far they are and what came out.

A command writes its run down while it runs it. A run asked for on a page waits for a worker: `claim` hands it to one
of them, whose heartbeat keeps it; a run that is not heard of any more can be claimed again. The owner's name is unlike
any other's, also of the same worker's next claim, so a result is stored once and by its present owner only.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy.orm import defer
from sqlmodel import Session, col, or_, select

from medx_core.clock import utc_now
from medx_core.errors import BadInput, LeaseLost, NotFound
from medx_core.storage.engine import Database
from medx_core.storage.tables import RunTable


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


SUMMARY_KEYS = (
    "conclusion", "helps", "model", "model_sha256", "data", "data_sha256", "seed", "n_train", "n_test", "seconds",
)  # fmt: skip
"""What lists show of a result; the whole of it may be a megabyte."""

ENDED_UNSAID = "The command that ran it ended without a word."


class RunStore:
    """The runs of one database. Methods that take an id raise NotFound where there is none."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._clock = clock

    def add(self, kind: str, settings: Mapping[str, Any], *, owner: str | None = None) -> Run:
        """Note that a command begins a run; it is never handed to a worker."""
        now = self._clock()
        begun = RunTable(
            kind=kind,
            status=RunStatus.RUNNING,
            settings=dict(settings),
            owner=owner,
            created_at=now,
            started_at=now,
            heartbeat_at=now,
        )
        return self._added(begun)

    def request(self, kind: str, settings: Mapping[str, Any], *, requested_by: str) -> Run:
        """Ask for a run; it waits until a worker claims it."""
        asked = RunTable(
            kind=kind,
            status=RunStatus.QUEUED,
            settings=dict(settings),
            requested_by=requested_by,
            created_at=self._clock(),
        )
        return self._added(asked)

    def claim(self, kind: str, *, owner: str, stale_seconds: float, max_attempts: int) -> Run | None:
        """Take the oldest run that waits, or None; runs not heard of for `stale_seconds` wait again first.

        One that was lost `max_attempts` times has failed instead, and so has one whose command went silent.
        """
        now = self._clock()
        with self._database.write() as session:
            _return_lost(session, kind, now, timedelta(seconds=stale_seconds), max_attempts)
            waiting = select(RunTable).where(RunTable.kind == kind, RunTable.status == RunStatus.QUEUED)
            oldest = waiting.order_by(col(RunTable.id)).limit(1).with_for_update(skip_locked=True)
            row = session.exec(oldest).first()
            if row is None:
                return None
            _begin(row, owner, now)
            row.attempts += 1
            session.flush()
            return run_of(row)

    def begin(self, public_id: str, *, owner: str) -> Run:
        """Take one run that waits, to run it from a command.

        Raises:
            BadInput: it does not wait any more.
        """
        with self._database.write() as session:
            row = _row(session, public_id)
            if row.status != RunStatus.QUEUED:
                raise BadInput(f"This run does not wait to be run: it is {row.status}.")
            _begin(row, owner, self._clock())
            session.flush()
            return run_of(row)

    def keep(self, public_id: str, *, owner: str, progress: Mapping[str, Any] | None = None) -> bool:
        """Say that the run goes on, and how far it is; return whether it is still this owner's to run."""
        with self._database.write() as session:
            row = _row(session, public_id)
            if row.owner != owner or row.status != RunStatus.RUNNING:
                return False
            row.heartbeat_at = self._clock()
            if progress is not None:
                row.progress = dict(progress)
            return True

    def finish(self, public_id: str, result: Mapping[str, Any], *, owner: str | None = None) -> Run:
        """Store what came out of a run.

        Raises:
            LeaseLost: it was cancelled, or is somebody else's by now; nothing is stored.
        """
        with self._database.write() as session:
            row = _row(session, public_id)
            _refuse_lost(row, owner)
            row.result = dict(result)
            row.summary = {key: result[key] for key in SUMMARY_KEYS if key in result}
            row.model_sha256 = str(result.get("model_sha256") or "")
            self._close(row, RunStatus.DONE)
            return run_of(row)

    def fail(self, public_id: str, reason: str, *, owner: str | None = None) -> Run:
        """Store why a run came to nothing; it is not tried again.

        Raises:
            LeaseLost: it was cancelled, or is somebody else's by now; nothing is stored.
        """
        with self._database.write() as session:
            row = _row(session, public_id)
            _refuse_lost(row, owner)
            row.reason = reason
            self._close(row, RunStatus.FAILED)
            return run_of(row)

    def hand_back(self, public_id: str, *, owner: str, reason: str = "", max_attempts: int = 1) -> Run:
        """Let a claimed run wait again. With a `reason` the attempt counts, and after the last one it has failed."""
        with self._database.write() as session:
            row = _row(session, public_id)
            if row.owner == owner and row.status == RunStatus.RUNNING:
                if not reason:
                    row.attempts -= 1
                _requeue_or_fail(row, self._clock(), reason, max_attempts)
                session.flush()
            return run_of(row)

    def cancel(self, public_id: str) -> Run:
        """Cancel a run that waits or runs; whoever runs it notices within seconds.

        Raises:
            BadInput: it is over already.
        """
        with self._database.write() as session:
            row = _row(session, public_id)
            if row.status not in UNFINISHED_RUNS:
                raise BadInput(f"There is nothing to cancel: this run is {row.status}.")
            self._close(row, RunStatus.CANCELLED)
            return run_of(row)

    def get(self, public_id: str) -> Run:
        """Return one run with its result."""
        with self._database.read() as session:
            found = session.exec(select(RunTable).where(RunTable.public_id == public_id)).first()
            if found is None:
                raise NotFound("There is no run under this id.")
            return run_of(found)

    def list(self, kind: str | None = None, *, limit: int = 50) -> tuple[Run, ...]:
        """Return the newest runs first, of one kind or of all, without their results."""
        newest = runs_without_results().order_by(col(RunTable.id).desc()).limit(limit)
        if kind is not None:
            newest = newest.where(RunTable.kind == kind)
        with self._database.read() as session:
            return tuple(run_of(row, with_result=False) for row in session.exec(newest))

    def latest_for_model(self, model_sha256: str, kind: str = "evaluation") -> Run | None:
        """Return the run of this kind that finished last on a model, without its result."""
        if not model_sha256:
            return None
        done = runs_without_results().where(
            RunTable.model_sha256 == model_sha256, RunTable.kind == kind, RunTable.status == RunStatus.DONE
        )
        latest = done.order_by(col(RunTable.finished_at).desc(), col(RunTable.id).desc()).limit(1)
        with self._database.read() as session:
            row = session.exec(latest).first()
            return None if row is None else run_of(row, with_result=False)

    def _added(self, row: RunTable) -> Run:
        with self._database.write() as session:
            session.add(row)
            session.flush()
            return run_of(row)

    def _close(self, row: RunTable, status: RunStatus) -> None:
        row.status = status
        row.owner = None
        row.finished_at = self._clock()


def _return_lost(
    session: Session, kind: str, now: datetime, stale_after: timedelta, max_attempts: int
) -> None:
    unheard = or_(col(RunTable.heartbeat_at).is_(None), col(RunTable.heartbeat_at) <= now - stale_after)
    running = select(RunTable).where(RunTable.kind == kind, RunTable.status == RunStatus.RUNNING, unheard)
    for row in session.exec(running.with_for_update(skip_locked=True)):
        if row.attempts == 0:
            row.reason = ENDED_UNSAID
            row.status, row.owner, row.finished_at = RunStatus.FAILED, None, now
        else:
            _requeue_or_fail(row, now, "Its worker ended without a word", max_attempts)
    session.flush()


def _requeue_or_fail(row: RunTable, now: datetime, reason: str, max_attempts: int) -> None:
    row.owner, row.progress = None, None
    if reason and row.attempts >= max_attempts:
        row.status, row.finished_at = RunStatus.FAILED, now
        row.reason = f"{reason.rstrip('.')}; it was tried {row.attempts} times."
    else:
        row.status = RunStatus.QUEUED


def _begin(row: RunTable, owner: str, now: datetime) -> None:
    row.status, row.owner, row.progress = RunStatus.RUNNING, owner, None
    row.started_at = row.heartbeat_at = now


def _refuse_lost(row: RunTable, owner: str | None) -> None:
    if row.status != RunStatus.RUNNING or row.owner != owner:
        raise LeaseLost(
            "This run was cancelled, or another worker has it by now; what came of it is dropped."
        )


def _row(session: Session, public_id: str) -> RunTable:
    row = session.exec(select(RunTable).where(RunTable.public_id == public_id).with_for_update()).first()
    if row is None:
        raise NotFound("There is no run under this id.")
    return row
