"""Health of the installation: its processes, the backlog per queue, and quarantined questions."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlmodel import col, delete, func, select

from medx_core.errors import BadInput, NotFound
from medx_core.jobs.messages import QUEUE_OF
from medx_core.jobs.snapshots import ItemSnapshot
from medx_core.jobs.status import ItemStatus, JobKind, JobStatus
from medx_core.recipes import Recipe
from medx_core.storage.engine import Store
from medx_core.storage.items import item_snapshots, job_of, locked_items, requeue
from medx_core.storage.tables import ItemTable, JobTable, ProcessTable, as_value

FORGET_PROCESS_SECONDS = 24 * 3600


@dataclass(frozen=True)
class ProcessHealth:
    """A worker or web process at its last heartbeat; `seen_at` is when it last made progress or polled."""

    name: str
    kind: str
    detail: Mapping[str, Any]
    started_at: datetime
    seen_at: datetime
    seconds_since_seen: float

    @property
    def waits(self) -> bool:
        """Whether it runs and answers nothing, because the recipe in use cannot answer."""
        return self.detail.get("stage") == "waiting"


@dataclass(frozen=True)
class QueueBacklog:
    """The number of questions waiting in one queue, and the age of the oldest job among them."""

    waiting: int = 0
    oldest_seconds: float | None = None


@dataclass(frozen=True)
class QuarantinedItem:
    """A question set aside after its last attempt, with the job it belongs to."""

    job_id: str
    job_title: str
    item: ItemSnapshot


class HealthStore(Store):
    """The health of one installation, as its database records it."""

    def beat(self, name: str, kind: str, detail: Mapping[str, Any] | None = None) -> None:
        """Record that the process `name` made progress or polled just now."""
        now = self._clock()
        with self._database.write() as session:
            row = session.get(ProcessTable, name)
            if row is None:
                row = ProcessTable(name=name, kind=kind, detail={}, started_at=now, seen_at=now)
                forgotten = now - timedelta(seconds=FORGET_PROCESS_SECONDS)
                session.exec(delete(ProcessTable).where(col(ProcessTable.seen_at) < forgotten))
            row.kind, row.detail, row.seen_at = kind, dict(detail or {}), now
            session.add(row)

    def leave(self, name: str) -> None:
        """Remove a process that stops in good order."""
        with self._database.write() as session:
            session.exec(delete(ProcessTable).where(col(ProcessTable.name) == name))

    def processes(self, *, kind: str | None = None) -> tuple[ProcessHealth, ...]:
        """Return the processes of the last day, the most recently seen first."""
        now = self._clock()
        newest = select(ProcessTable).order_by(col(ProcessTable.seen_at).desc())
        if kind is not None:
            newest = newest.where(ProcessTable.kind == kind)
        with self._database.read() as session:
            return tuple(
                as_value(ProcessHealth, row, seconds_since_seen=max(0.0, (now - row.seen_at).total_seconds()))
                for row in session.exec(newest)
            )

    def live_workers(self, *, seen_within_seconds: float, kind: str = "worker") -> tuple[ProcessHealth, ...]:
        """Return the workers of a kind that made progress or polled within these seconds.

        One that says why it is refused is none: its model cannot be used and it has ended, or the recipe in use cannot answer.
        """
        return tuple(
            worker
            for worker in self.processes(kind=kind)
            if worker.seconds_since_seen <= seen_within_seconds and not worker.detail.get("refused")
        )

    def refusal(self, *, seen_within_seconds: float, kind: str = "worker") -> str:
        """Return why the latest worker of a kind cannot answer: its model or the recipe in use; empty while another one can.

        That of a recipe counts while its worker lives; one that ended for its model leaves its sentence behind.
        """
        if self.live_workers(seen_within_seconds=seen_within_seconds, kind=kind):
            return ""
        latest = next(iter(self.processes(kind=kind)), None)
        if latest is None or (latest.waits and latest.seconds_since_seen > seen_within_seconds):
            return ""
        return str(latest.detail.get("refused") or "")

    def why_unaskable(self, recipe: Recipe, *, seen_within_seconds: float) -> str | None:
        """Return why the workers that have a recipe's model refuse its prompts; empty where they do not, None without one."""
        told = [
            worker.detail.get("unaskable") or {}
            for worker in self.processes(kind="worker")
            if worker.seconds_since_seen <= seen_within_seconds
            and worker.detail.get("identity_sha256")
            and (worker.detail.get("weight_sha256"), worker.detail.get("number_type"))
            == (recipe.model_sha256, recipe.number_type)
        ]
        return next((str(each[recipe.id]) for each in told if recipe.id in each), "") if told else None

    def backlog(self) -> dict[str, QueueBacklog]:
        """Return the backlog per queue."""
        now = self._clock()
        waiting = (
            select(JobTable.kind, func.count(), func.min(JobTable.created_at, type_=JobTable.created_at.type))  # type: ignore[attr-defined] # a column at run time
            .join(ItemTable, col(ItemTable.job_id) == col(JobTable.id))
            .where(ItemTable.status == ItemStatus.QUEUED)
            .group_by(col(JobTable.kind))
        )
        backlog = {queue: QueueBacklog() for queue in QUEUE_OF.values()}
        with self._database.read() as session:
            for kind, count, oldest in session.exec(waiting):
                queue, age = QUEUE_OF[JobKind(kind)], (now - oldest).total_seconds()
                others = backlog[queue]
                backlog[queue] = QueueBacklog(
                    others.waiting + count, max(0.0, age, others.oldest_seconds or 0.0)
                )
        return backlog

    def ahead_of(self, job_id: str) -> int:
        """Count the waiting questions of the same queue that were submitted before the job; 0 if it is next."""
        with self._database.read() as session:
            job = job_of(session, job_id)
            earlier = (
                select(func.count())
                .select_from(ItemTable)
                .join(JobTable, col(JobTable.id) == col(ItemTable.job_id))
                .where(
                    ItemTable.status == ItemStatus.QUEUED,
                    col(JobTable.kind).in_(
                        [kind for kind in JobKind if QUEUE_OF[kind] == QUEUE_OF[JobKind(job.kind)]]
                    ),
                    col(JobTable.id) < job.id,
                )
            )
            return session.exec(earlier).one()

    def quarantined(self, limit: int = 100) -> tuple[QuarantinedItem, ...]:
        """Return the quarantined questions, the latest first; explorations that came to nothing are none."""
        latest = (
            select(ItemTable, JobTable)
            .join(JobTable, col(JobTable.id) == col(ItemTable.job_id))
            .where(ItemTable.status == ItemStatus.QUARANTINED, JobTable.kind != JobKind.EXPLORATION)
            .order_by(col(ItemTable.finished_at).desc(), col(ItemTable.id).desc())
            .limit(limit)
        )
        with self._database.read() as session:
            rows = session.exec(latest).all()
            items = item_snapshots(session, [item for item, _ in rows])
            return tuple(
                QuarantinedItem(job.public_id, job.title, item)
                for (_, job), item in zip(rows, items, strict=True)
            )

    def retry_quarantined(self, item_id: int) -> None:
        """Queue a quarantined question again, with its count of attempts reset.

        Raises:
            NotFound: there is no such question.
            BadInput: it is not quarantined.
        """
        now = self._clock()
        with self._database.write() as session:
            items = locked_items(session, [item_id])
            if not items:
                raise NotFound(f"There is no question with the number {item_id}.")
            item = items[0]
            if item.status != ItemStatus.QUARANTINED:
                raise BadInput(
                    f"Question {item_id} is {item.status}, not quarantined; there is nothing to retry."
                )
            item.attempts, item.reason, item.finished_at = 0, "", None
            job = session.exec(
                select(JobTable).where(JobTable.id == item.job_id).with_for_update(key_share=True)
            ).one()
            # The command that answered a finished local job is gone: a worker takes the question.
            job.local = job.local and job.finished_at is None
            job.status, job.finished_at = JobStatus.RUNNING, None
            requeue(session, items, chunk_rows=1, now=now)
