"""The outbox: messages that were committed with their items or their run and still have to reach the broker.

Sending twice is harmless, because leases decide who works. A committed item or run must never stay unsent.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlmodel import col, delete, or_, select, update
from sqlmodel.sql.expression import SelectOfScalar

from medx_core.jobs.messages import QUEUE_OF, AnswerRequest, RunRequest
from medx_core.jobs.status import ItemStatus
from medx_core.storage.engine import Store
from medx_core.storage.items import (
    cancel_waiting,
    close_if_hopeless,
    jobs_of,
    locked_items,
    requeue,
    settle,
)
from medx_core.storage.tables import ItemTable, JobTable, OutboxTable, RunTable

KEEP_SENT_SECONDS = 24 * 3600
EXPIRED_AT_ONCE = 1_000
SILENT_SECONDS = 600.0
"""A local job of which no row was held or finished for this long has lost its command."""


@dataclass(frozen=True)
class OutboxMessage:
    """One message and the queue it goes to."""

    id: int
    queue: str
    request: AnswerRequest | RunRequest


class OutboxStore(Store):
    """The outbox of one database. One process at a time publishes (see `LeaderStore`); two would only send twice."""

    def unsent(self, limit: int = 100) -> tuple[OutboxMessage, ...]:
        """Return what still has to be sent: interactive questions first, then batches, then evaluations."""
        waiting = (
            select(OutboxTable)
            .where(col(OutboxTable.sent_at).is_(None))
            .order_by(col(OutboxTable.priority), col(OutboxTable.id))
            .limit(limit)
        )
        with self._database.read() as session:
            return tuple(OutboxMessage(row.id, row.queue, _request(row)) for row in session.exec(waiting))

    def mark_sent(self, message_ids: Iterable[int]) -> None:
        """Note that the broker has taken these messages."""
        now = self._clock()
        with self._database.write() as session:
            rows = session.exec(select(OutboxTable).where(col(OutboxTable.id).in_(set(message_ids)))).all()
            item_ids = sorted({item_id for row in rows for item_id in row.message.get("item_ids", ())})
            in_order = select(ItemTable.id).where(col(ItemTable.id).in_(item_ids)).order_by(col(ItemTable.id))
            session.exec(in_order.with_for_update(key_share=True)).all()
            session.exec(update(ItemTable).where(col(ItemTable.id).in_(item_ids)).values(sent_at=now))
            run_ids = {row.run_id for row in rows if row.run_id is not None}
            session.exec(update(RunTable).where(col(RunTable.id).in_(run_ids)).values(sent_at=now))
            for row in rows:
                row.sent_at = now

    def return_expired(self, *, max_attempts: int, chunk_rows: int) -> int:
        """Take back the items whose worker let its lease run out; return how many.

        They wait again with a new message, or are quarantined when their attempts are used up. A local job, whose
        command is gone, is cancelled, also when the command had no row in hand for `SILENT_SECONDS`.
        """
        now = self._clock()
        silent = _silent_jobs(now - timedelta(seconds=SILENT_SECONDS))
        with self._database.read() as session:
            expired = session.exec(_expired_items(now)).all()
            if not expired and session.exec(silent).first() is None:
                return 0
        with self._database.write() as session:
            # Looked at again under the lock: a heartbeat or another process may have been faster.
            items = [item for item in locked_items(session, expired) if item.has_expired(now)]
            jobs = jobs_of(session, items)
            abandoned = {job.id for job in jobs.values() if job.local} | set(session.exec(silent))
            again = []
            for item in items:
                if item.job_id in abandoned:
                    item.close(ItemStatus.CANCELLED, now)
                elif not close_if_hopeless(item, jobs[item.job_id], max_attempts=max_attempts, now=now):
                    again.append(item)
            requeue(session, again, chunk_rows=chunk_rows, now=now)
            cancel_waiting(session, abandoned, now=now)
            settle(session, abandoned | jobs.keys(), now=now)
            return len(items)

    def resend_stale(self, *, older_than_seconds: float, queue: str, chunk_rows: int, limit: int) -> int:
        """Queue messages again for items that wait although they were sent long ago; return how many items.

        For use when the broker's `queue` is seen empty: then what was sent and still waits was lost with it.
        """
        now = self._clock()
        before = now - timedelta(seconds=older_than_seconds)
        kinds = [kind for kind, name in QUEUE_OF.items() if name == queue]
        stale = (
            select(ItemTable.id)
            .join(JobTable, col(JobTable.id) == col(ItemTable.job_id))
            .where(
                ItemTable.status == ItemStatus.QUEUED,
                col(ItemTable.sent_at) < before,
                col(JobTable.kind).in_(kinds),
            )
            .order_by(col(ItemTable.id))
            .limit(limit)
        )
        with self._database.read() as session:
            item_ids = session.exec(stale).all()
        if not item_ids:
            return 0
        with self._database.write() as session:
            items = [
                item
                for item in locked_items(session, item_ids)
                if item.status == ItemStatus.QUEUED and item.sent_at is not None and item.sent_at < before
            ]
            requeue(session, items, chunk_rows=chunk_rows, now=now)
            return len(items)

    def forget_sent(self) -> int:
        """Delete messages that were sent more than a day ago; return how many."""
        before = self._clock() - timedelta(seconds=KEEP_SENT_SECONDS)
        with self._database.write() as session:
            return int(session.exec(delete(OutboxTable).where(col(OutboxTable.sent_at) < before)).rowcount)


def _request(row: OutboxTable) -> AnswerRequest | RunRequest:
    return (AnswerRequest if row.run_id is None else RunRequest).model_validate(row.message)


def _expired_items(now: datetime) -> SelectOfScalar[int]:
    return (
        select(ItemTable.id)
        .where(ItemTable.status == ItemStatus.RUNNING, col(ItemTable.lease_until) <= now)
        .order_by(col(ItemTable.id))
        .limit(EXPIRED_AT_ONCE)
    )


def _silent_jobs(before: datetime) -> SelectOfScalar[int]:
    """Select the unfinished local jobs of which no row is held and none was finished since."""
    is_alive = or_(col(ItemTable.status) == ItemStatus.RUNNING, col(ItemTable.finished_at) > before)
    return select(JobTable.id).where(
        col(JobTable.local).is_(True),
        col(JobTable.finished_at).is_(None),
        col(JobTable.created_at) <= before,
        ~select(ItemTable.id).where(ItemTable.job_id == JobTable.id, is_alive).exists(),
    )
