"""What happens to a job when its items move: messages are queued again, and the job follows its items.

Locks are always taken in one order, items by id and then jobs by id, so that two transactions never wait for each
other; and as `key_share` (FOR NO KEY UPDATE), which the foreign keys of new outbox rows do not collide with.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlmodel import Session, col, insert, select

from medx_core.jobs.messages import BATCH_QUEUE, INTERACTIVE_QUEUE, QUEUE_OF, AnswerRequest
from medx_core.jobs.status import UNFINISHED, ItemStatus, JobKind, JobStatus
from medx_core.storage.job_tables import ItemTable, JobTable, OutboxTable

PRIORITY_OF = {INTERACTIVE_QUEUE: 0, BATCH_QUEUE: 1}


def locked_items(session: Session, item_ids: Iterable[int]) -> Sequence[ItemTable]:
    """Return the items that exist, in the order of their ids, held until the transaction ends."""
    return session.exec(
        select(ItemTable)
        .where(col(ItemTable.id).in_(sorted(set(item_ids))))
        .order_by(col(ItemTable.id))
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).all()


def jobs_of(session: Session, items: Iterable[ItemTable]) -> dict[int, JobTable]:
    """Return the jobs of the items by their integer key, as they stand now, not held."""
    ids = {item.job_id for item in items}
    return {job.id: job for job in session.exec(select(JobTable).where(col(JobTable.id).in_(ids)))}


def add_requests(
    session: Session, job: JobTable, item_ids: Sequence[int], *, chunk_rows: int, now: datetime
) -> None:
    """Put one message for each `chunk_rows` items into the outbox."""
    queue = QUEUE_OF[JobKind(job.kind)]
    chunks = [item_ids[start : start + chunk_rows] for start in range(0, len(item_ids), chunk_rows)]
    rows = [
        {
            "job_id": job.id,
            "queue": queue,
            "priority": PRIORITY_OF[queue],
            "message": AnswerRequest(job_id=job.public_id, item_ids=tuple(chunk)).model_dump(mode="json"),
            "created_at": now,
        }
        for chunk in chunks
    ]
    if rows:
        session.exec(insert(OutboxTable), params=rows)


def requeue(session: Session, items: Sequence[ItemTable], *, chunk_rows: int, now: datetime) -> None:
    """Let the items wait again and queue messages for them; nobody holds them any more."""
    by_job: dict[int, list[int]] = {}
    for item in items:
        item.status = ItemStatus.QUEUED
        item.sent_at = None
        let_go(item)
        by_job.setdefault(item.job_id, []).append(item.id)
    jobs = jobs_of(session, items)
    for job_id, item_ids in by_job.items():
        add_requests(session, jobs[job_id], item_ids, chunk_rows=chunk_rows, now=now)


def close_item(item: ItemTable, status: ItemStatus, *, now: datetime, reason: str = "") -> None:
    """Give the item its last state."""
    item.status = status
    item.reason = reason
    item.finished_at = now
    let_go(item)


def let_go(item: ItemTable) -> None:
    """Take the item from whoever holds it."""
    item.owner = None
    item.lease_until = None


def settle(session: Session, job_ids: Iterable[int], *, now: datetime) -> None:
    """Mark the jobs that have no unfinished item left. Call it last in a transaction, with all items flushed.

    The job rows are held first: of two transactions that finish the last two items, the second one then sees both.
    """
    jobs = session.exec(
        select(JobTable)
        .where(col(JobTable.id).in_(sorted(set(job_ids))), col(JobTable.finished_at).is_(None))
        .order_by(col(JobTable.id))
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).all()
    for job in jobs:
        unfinished = session.exec(
            select(ItemTable.id)
            .where(ItemTable.job_id == job.id, col(ItemTable.status).in_(UNFINISHED))
            .limit(1)
        ).first()
        if unfinished is None:
            job.finished_at = now
            if job.status != JobStatus.CANCELLED:
                job.status = JobStatus.DONE
