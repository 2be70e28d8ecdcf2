"""Runs: evaluations and other long jobs, with what was set, how far they are and what came out.

A run that was asked for is committed with its message in the outbox; the worker that gets the message leases it as an
item is leased: for a time, under a fence that rises with every lease. A command that runs something in its own process
holds a lease of the same kind. Progress and results are taken from the holder of the present lease only.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy.orm import defer
from sqlmodel import Session, col, select

from medx_core.errors import BadInput, LeaseLost, NotFound
from medx_core.jobs.messages import EVALUATION_QUEUE, PRIORITY_OF, RunRequest
from medx_core.storage.engine import Store
from medx_core.storage.tables import OutboxTable, RunTable, as_value


class RunStatus(StrEnum):
    """The states of a run."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


UNFINISHED_RUNS = frozenset({RunStatus.QUEUED, RunStatus.RUNNING})

COMMAND_ENDED = "The command that ran it ended before it was finished; start it again."
WORKER_ENDED = (
    "Its process ended {attempts} times before it was finished, perhaps because the machine ran out of memory; see the "
    "worker's log, then start it again."
)


@dataclass(frozen=True)
class RunProgress:
    """How far a run is: `done` of `total` steps of the present stage."""

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class RunSummary:
    """The part of a result that lists show; the whole result may be a megabyte. Empty until the run has finished.

    `recipes` names the arm that measured each recipe, by the recipe's id.
    """

    conclusion: str = ""
    helps: bool | None = None
    model: str = ""
    model_sha256: str = ""
    data: str = ""
    data_sha256: str = ""
    seed: int | None = None
    n_train: int = 0
    n_test: int = 0
    seconds: float | None = None
    recipes: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> "RunSummary":
        """Return the summary of a result, or of a stored summary; keys that are missing or null are left empty."""
        given = {name: result.get(name) for name in cls.__dataclass_fields__}
        return cls(**{name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True)
class Run:
    """One run as it is stored.

    `settings` is the JSON of the request. `result` is None until the run has finished, and in lists. `reason` says in
    a sentence why it failed. `attempts` counts the leases of workers; it is 0 for a command's own run.
    """

    public_id: str
    kind: str
    status: RunStatus
    settings: Mapping[str, Any]
    requested_by: str
    owner: str | None
    attempts: int
    progress: RunProgress | None
    reason: str
    summary: RunSummary
    result: Mapping[str, Any] | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def finished(self) -> bool:
        """Whether the run has ended, in whatever way."""
        return self.status not in UNFINISHED_RUNS


@dataclass(frozen=True)
class LeasedRun:
    """A run in the hands of one process; `fence` tells this lease from earlier ones of the same owner."""

    public_id: str
    settings: Mapping[str, Any]
    owner: str
    fence: int


class RunStore(Store):
    """The runs of one database.

    Methods that take an id raise NotFound where there is none. Those that end a lease raise LeaseLost, and store nothing,
    where the run was cancelled or another process has it.
    """

    def request(self, kind: str, settings: Mapping[str, Any], *, requested_by: str) -> Run:
        """Ask for a run: store it together with the message that brings it to a worker."""
        now = self._clock()
        with self._database.write() as session:
            row = _new_row(kind, settings, now)
            row.requested_by = requested_by
            session.add(row)
            session.flush()
            _send(session, row, now)
            return _run(row)

    def begin(self, kind: str, settings: Mapping[str, Any], *, owner: str, seconds: float) -> LeasedRun:
        """Store a run that a command begins in its own process; it is never sent to a worker."""
        now = self._clock()
        with self._database.write() as session:
            row = _new_row(kind, settings, now)
            row.take(owner, now, seconds)
            row.started_at = now
            session.add(row)
            session.flush()
            return as_value(LeasedRun, row)

    def lease(self, public_id: str, *, owner: str, seconds: float, max_attempts: int) -> LeasedRun | None:
        """Take a run that waits, or whose lease ran out; None if it is finished or somebody works on it.

        One that was left unfinished `max_attempts` times has failed instead.
        """
        now = self._clock()
        with self._database.write() as session:
            row = _row(session, public_id, locked=True)
            is_of_command = row.status == RunStatus.RUNNING and row.attempts == 0
            if not row.is_free(now) or is_of_command or _has_failed(row, now, max_attempts):
                return None
            row.take(owner, now, seconds)
            row.progress, row.started_at = None, now
            row.attempts += 1
            return as_value(LeasedRun, row)

    def renew(self, leased: LeasedRun, *, seconds: float, progress: RunProgress | None = None) -> bool:
        """Prolong a lease and note how far the run is; return whether it is still held.

        A lease that ran out but that nobody took over comes back to life.
        """
        with self._database.write() as session:
            row = _row(session, leased.public_id, locked=True)
            if not row.is_held_by(leased.owner, leased.fence):
                return False
            row.lease_until = self._clock() + timedelta(seconds=seconds)
            if progress is not None:
                row.progress = asdict(progress)
            return True

    def held_by(self, owner: str) -> tuple[LeasedRun, ...]:
        """Return the runs that `owner` holds."""
        held = _without_results().where(RunTable.owner == owner, RunTable.status == RunStatus.RUNNING)
        with self._database.read() as session:
            return tuple(as_value(LeasedRun, row) for row in session.exec(held))

    def finish(self, leased: LeasedRun, result: Mapping[str, Any], *, items: bytes | None = None) -> None:
        """Store what came out of a run: its JSON, and what was measured per statement."""
        with self._database.write() as session:
            row = _held(session, leased)
            row.result = dict(result)
            row.items = items
            row.summary = asdict(RunSummary.of(result))
            row.model_sha256 = str(result.get("model_sha256") or "")
            row.close(RunStatus.DONE, self._clock())

    def fail(self, leased: LeasedRun, reason: str) -> None:
        """Store why a run came to nothing; it is not tried again."""
        with self._database.write() as session:
            _held(session, leased).close(RunStatus.FAILED, self._clock(), reason)

    def give_back(self, leased: LeasedRun) -> None:
        """Let a run wait again, as a worker does that stops in good order; it counts as no attempt."""
        with self._database.write() as session:
            row = _row(session, leased.public_id, locked=True)
            if row.is_held_by(leased.owner, leased.fence):
                row.attempts -= 1
                _requeue(session, row, self._clock())

    def cancel(self, public_id: str) -> None:
        """Cancel a run that waits or runs; whoever runs it notices within seconds.

        Raises:
            BadInput: it is over already.
        """
        with self._database.write() as session:
            row = _row(session, public_id, locked=True)
            if row.status not in UNFINISHED_RUNS:
                raise BadInput(f"There is nothing to cancel: this run is {row.status}.")
            row.close(RunStatus.CANCELLED, self._clock())

    def return_expired(self, *, max_attempts: int) -> int:
        """Take back the runs whose process let its lease run out; return how many.

        They wait again with a new message. One without attempts left, or of a command, has failed instead.
        """
        now = self._clock()
        expired = select(RunTable.public_id).where(
            RunTable.status == RunStatus.RUNNING, col(RunTable.lease_until) <= now
        )
        with self._database.read() as session:
            public_ids = session.exec(expired).all()
        for public_id in public_ids:
            with self._database.write() as session:
                row = _row(session, public_id, locked=True)
                # A heartbeat or another process may have been faster.
                if row.has_expired(now) and not _has_failed(row, now, max_attempts):
                    _requeue(session, row, now)
        return len(public_ids)

    def resend_stale(self, *, older_than_seconds: float) -> int:
        """Queue messages again for runs that wait although they were sent long ago; return how many.

        For use when the broker's queue is seen empty: then what was sent and still waits was lost with it.
        """
        now = self._clock()
        before = now - timedelta(seconds=older_than_seconds)
        stale = select(RunTable).where(RunTable.status == RunStatus.QUEUED, col(RunTable.sent_at) < before)
        with self._database.read() as session:
            if session.exec(stale.limit(1)).first() is None:
                return 0
        with self._database.write() as session:
            rows = session.exec(stale.order_by(col(RunTable.id)).with_for_update(skip_locked=True)).all()
            for row in rows:
                _requeue(session, row, now)
            return len(rows)

    def get(self, public_id: str) -> Run:
        """Return one run with its result."""
        with self._database.read() as session:
            return _run(_row(session, public_id))

    def items(self, public_id: str) -> bytes | None:
        """Return what a finished run measured per statement, as a Parquet file; None where it is not stored."""
        with self._database.read() as session:
            return session.exec(select(RunTable.items).where(RunTable.public_id == public_id)).first()

    def list(self, kind: str | None = None, *, limit: int | None = 50) -> tuple[Run, ...]:
        """Return the newest runs first, of one kind or of all, without their results."""
        newest = _without_results().order_by(col(RunTable.id).desc()).limit(limit)
        if kind is not None:
            newest = newest.where(RunTable.kind == kind)
        with self._database.read() as session:
            return tuple(_run(row, with_result=False) for row in session.exec(newest))

    def latest_of_recipe(self, recipe_id: str, model_sha256: str, kind: str = "evaluation") -> Run | None:
        """Return the run of this kind that finished last and measured a recipe of that model, without its result."""
        done = _without_results().where(
            RunTable.model_sha256 == model_sha256, RunTable.kind == kind, RunTable.status == RunStatus.DONE
        )
        latest = done.order_by(col(RunTable.finished_at).desc(), col(RunTable.id).desc())
        with self._database.read() as session:
            runs = (_run(row, with_result=False) for row in session.exec(latest))
            return next((run for run in runs if recipe_id in run.summary.recipes), None)


def _new_row(kind: str, settings: Mapping[str, Any], now: datetime) -> RunTable:
    return RunTable(kind=kind, status=RunStatus.QUEUED, settings=dict(settings), created_at=now)


def _without_results() -> Any:
    """Select runs without loading their results, which `_run` then has to leave alone."""
    unread = (defer(column, raiseload=True) for column in (col(RunTable.result), col(RunTable.items)))  # type: ignore[arg-type] # columns at run time
    return select(RunTable).options(*unread)


def _run(row: RunTable, *, with_result: bool = True) -> Run:
    return as_value(
        Run,
        row,
        status=RunStatus(row.status),
        progress=RunProgress(**row.progress) if row.progress else None,
        summary=RunSummary.of(row.summary or {}),
        result=row.result if with_result else None,
    )


def _has_failed(row: RunTable, now: datetime, max_attempts: int) -> bool:
    """Close a run that is not to be tried again; return whether it was closed."""
    if row.attempts >= max_attempts:
        row.close(RunStatus.FAILED, now, WORKER_ENDED.format(attempts=row.attempts))
    elif row.status == RunStatus.RUNNING and row.attempts == 0:
        row.close(RunStatus.FAILED, now, COMMAND_ENDED)
    else:
        return False
    return True


def _requeue(session: Session, row: RunTable, now: datetime) -> None:
    row.wait_again()
    row.progress = None
    _send(session, row, now)


def _send(session: Session, row: RunTable, now: datetime) -> None:
    session.add(
        OutboxTable(
            run_id=row.id,
            queue=EVALUATION_QUEUE,
            priority=PRIORITY_OF[EVALUATION_QUEUE],
            message=RunRequest(run_id=row.public_id).model_dump(mode="json"),
            created_at=now,
        )
    )


def _row(session: Session, public_id: str, *, locked: bool = False) -> RunTable:
    wanted = select(RunTable).where(RunTable.public_id == public_id)
    row = session.exec(wanted.with_for_update() if locked else wanted).first()
    if row is None:
        raise NotFound("There is no run under this id.")
    return row


def _held(session: Session, leased: LeasedRun) -> RunTable:
    row = _row(session, leased.public_id, locked=True)
    if not row.is_held_by(leased.owner, leased.fence):
        raise LeaseLost("This run was cancelled, or another worker has it by now; its result is dropped.")
    return row
