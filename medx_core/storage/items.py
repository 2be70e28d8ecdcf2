"""Questions and their answers: from rows to frozen values, and the state of a job that follows from its questions."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from sqlmodel import Session, col, func, insert, select, update

from medx_core.categories import Category, Route
from medx_core.errors import NotFound
from medx_core.jobs.messages import PRIORITY_OF, QUEUE_OF, AnswerRequest
from medx_core.jobs.snapshots import ItemSnapshot, JobSnapshot, Progress, StoredAnswer
from medx_core.jobs.status import UNFINISHED, ItemStatus, JobStatus
from medx_core.questions import Answer, Arm, Exploration
from medx_core.storage.tables import AnswerTable, ItemTable, JobTable, OutboxTable, PersonTable, as_value

WORKERS_STOPPED = "The worker stopped {attempts} times while answering this question."


def job_of(session: Session, public_id: str) -> JobTable:
    """Return the job with this public id.

    Raises:
        NotFound: there is none.
    """
    job = session.exec(select(JobTable).where(JobTable.public_id == public_id)).first()
    if job is None:
        raise NotFound("There is no job with this id; check the address, or look at your recent jobs.")
    return job


def job_snapshots(session: Session, jobs: Sequence[JobTable]) -> tuple[JobSnapshot, ...]:
    """Return the jobs with their progress and the names of who submitted them."""
    progress = _progress(session, [job.id for job in jobs])
    people = {job.person_id for job in jobs if job.person_id is not None}
    rows = session.exec(select(PersonTable.id, PersonTable.name).where(col(PersonTable.id).in_(people)))
    names: dict[int | None, str] = {None: "", **dict(rows.all())}
    return tuple(
        as_value(
            JobSnapshot,
            job,
            arms=arms_of(job),
            progress=progress[job.id],
            exploration=exploration_of(job),
            person=names[job.person_id],
            carried_columns=tuple(job.carried_columns),
        )
        for job in jobs
    )


def item_snapshots(session: Session, items: Sequence[ItemTable]) -> tuple[ItemSnapshot, ...]:
    """Return the items with their answers, these in the order of the job's arms."""
    answers = _answers(session, items)
    return tuple(
        as_value(ItemSnapshot, item, row=item.row_number, route=_route(item), answers=tuple(answers[item.id]))
        for item in items
    )


def _route(item: ItemTable) -> Route | None:
    if item.route_source is None:
        return None
    return Route(
        category=item.route_category,
        probabilities=route_probabilities(item),
        source=item.route_source,
        red_flag=item.route_red_flag,
        router=item.route_router,
    )


def route_probabilities(item: ItemTable) -> dict[Category, float]:
    """Return what the router said of each category; empty while the item has no route."""
    return {Category(name): share for name, share in (item.route_probabilities or {}).items()}


def exploration_of(job: JobTable) -> Exploration | None:
    """Return what the job tries on its question, None where it is no exploration."""
    if job.exploration is None:
        return None
    return Exploration(tuple(job.exploration["vectors"]), float(job.exploration["strength"]))


def arms_of(job: JobTable) -> tuple[Arm, ...]:
    """Return the arms every item of the job is answered in."""
    return tuple(Arm(arm) for arm in job.arms)


def _progress(session: Session, job_ids: Iterable[int]) -> dict[int, Progress]:
    counts: dict[int, dict[str, int]] = {job_id: {} for job_id in job_ids}
    rows = session.exec(
        select(ItemTable.job_id, ItemTable.status, func.count())
        .where(col(ItemTable.job_id).in_(counts))
        .group_by(col(ItemTable.job_id), col(ItemTable.status))
    )
    for job_id, status, count in rows:
        counts[job_id][status] = count
    return {job_id: Progress(total=sum(count.values()), **count) for job_id, count in counts.items()}


def _answers(session: Session, items: Sequence[ItemTable]) -> dict[int, list[StoredAnswer]]:
    rows = session.exec(select(AnswerTable).where(col(AnswerTable.item_id).in_([item.id for item in items])))
    answers: dict[int, list[StoredAnswer]] = defaultdict(list)
    order = list(Arm)
    for row in sorted(rows, key=lambda row: order.index(row.arm)):
        stored = StoredAnswer(row.public_id, as_value(Answer, row), row.created_at)
        answers[row.item_id].append(stored)
    return answers


def locked_items(session: Session, item_ids: Iterable[int]) -> Sequence[ItemTable]:
    """Return the items that exist, in the order of their ids, locked until the transaction ends."""
    return session.exec(
        select(ItemTable)
        .where(col(ItemTable.id).in_(sorted(set(item_ids))))
        .order_by(col(ItemTable.id))
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).all()


def jobs_of(session: Session, items: Iterable[ItemTable]) -> dict[int, JobTable]:
    """Return the jobs of the items by integer key, without locking them."""
    ids = {item.job_id for item in items}
    return {job.id: job for job in session.exec(select(JobTable).where(col(JobTable.id).in_(ids)))}


def add_requests(
    session: Session, job: JobTable, item_ids: Sequence[int], *, chunk_rows: int, now: datetime
) -> None:
    """Put one message per `chunk_rows` items into the outbox; none for a local job."""
    if job.local or not item_ids:
        return
    queue = QUEUE_OF[job.kind]
    rows = [
        {
            "job_id": job.id,
            "queue": queue,
            "priority": PRIORITY_OF[queue],
            "message": AnswerRequest(
                job_id=job.public_id, item_ids=tuple(item_ids[start : start + chunk_rows])
            ).model_dump(mode="json"),
            "created_at": now,
        }
        for start in range(0, len(item_ids), chunk_rows)
    ]
    session.exec(insert(OutboxTable), params=rows)


def requeue(session: Session, items: Sequence[ItemTable], *, chunk_rows: int, now: datetime) -> None:
    """Release the items, queue them again and put messages about them into the outbox."""
    by_job: dict[int, list[int]] = defaultdict(list)
    for item in items:
        item.wait_again()
        by_job[item.job_id].append(item.id)
    for job_id, job in jobs_of(session, items).items():
        add_requests(session, job, by_job[job_id], chunk_rows=chunk_rows, now=now)


def close_if_hopeless(
    item: ItemTable, job: JobTable, *, max_attempts: int, now: datetime, reason: str = ""
) -> bool:
    """Close an item whose job was cancelled, or whose attempts are used up; return whether it was closed."""
    if job.status == JobStatus.CANCELLED:
        item.close(ItemStatus.CANCELLED, now)
    elif item.attempts >= max_attempts:
        item.close(ItemStatus.QUARANTINED, now, reason or WORKERS_STOPPED.format(attempts=item.attempts))
    else:
        return False
    return True


def cancel_waiting(session: Session, job_ids: Collection[int], *, now: datetime) -> None:
    """Cancel the items of these jobs that wait, and mark the unfinished ones among the jobs as cancelled."""
    waiting = (col(ItemTable.job_id).in_(job_ids), col(ItemTable.status) == ItemStatus.QUEUED)
    in_order = select(ItemTable.id).where(*waiting).order_by(col(ItemTable.id))
    session.exec(in_order.with_for_update(key_share=True)).all()
    cancelled = {"status": ItemStatus.CANCELLED, "finished_at": now}
    session.exec(update(ItemTable).where(*waiting).values(cancelled))
    session.exec(
        update(JobTable)
        .where(col(JobTable.id).in_(job_ids), col(JobTable.finished_at).is_(None))
        .values(status=JobStatus.CANCELLED)
    )


def settle(session: Session, job_ids: Iterable[int], *, now: datetime) -> None:
    """Mark the jobs that have no unfinished item left. Call it last in a transaction.

    The job rows are locked first: of two transactions that finish the last two items, the second then sees both.
    """
    session.flush()
    jobs = session.exec(
        select(JobTable)
        .where(col(JobTable.id).in_(sorted(set(job_ids))), col(JobTable.finished_at).is_(None))
        .order_by(col(JobTable.id))
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).all()
    unfinished = select(ItemTable.job_id).where(col(ItemTable.status).in_(UNFINISHED))
    for job in jobs:
        if session.exec(unfinished.where(ItemTable.job_id == job.id).limit(1)).first() is None:
            job.finished_at = now
            if job.status != JobStatus.CANCELLED:
                job.status = JobStatus.DONE
