"""Items and their answers: between rows and frozen values, and the state of a job that follows from its items."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from secrets import randbits
from typing import Any

from sqlmodel import Session, col, func, insert, select, update

from medx_core.categories import Category, Route, RouteSource
from medx_core.jobs.messages import PRIORITY_OF, QUEUE_OF, AnswerRequest
from medx_core.jobs.snapshots import ItemSnapshot, JobSnapshot, Progress, StoredAnswer
from medx_core.jobs.status import UNFINISHED, ItemStatus, JobKind, JobStatus
from medx_core.questions import CANCELLED, Answer, Answered, Arm, Mode, Verdict
from medx_core.storage.tables import AnswerTable, ItemTable, JobTable, OutboxTable, PersonTable, new_public_id


def job_snapshots(session: Session, jobs: Sequence[JobTable]) -> tuple[JobSnapshot, ...]:
    """Return the jobs with their progress and the name of who submitted them."""
    progress = _progress(session, [job.id for job in jobs])
    people = {job.person_id for job in jobs if job.person_id is not None}
    rows = session.exec(select(PersonTable.id, PersonTable.name).where(col(PersonTable.id).in_(people)))
    names: dict[int | None, str] = {None: "", **dict(rows.all())}
    return tuple(
        JobSnapshot(
            public_id=job.public_id,
            kind=JobKind(job.kind),
            status=JobStatus(job.status),
            mode=Mode(job.mode),
            arms=arms_of(job),
            title=job.title,
            progress=progress[job.id],
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
            person=names[job.person_id],
            carried_columns=tuple(job.carried_columns),
        )
        for job in jobs
    )


def item_snapshots(session: Session, items: Sequence[ItemTable]) -> tuple[ItemSnapshot, ...]:
    """Return the items with their answers, these in the order of the job's arms."""
    answers = _answers(session, items)
    return tuple(
        ItemSnapshot(
            id=item.id,
            row=item.row_number,
            given_id=item.given_id,
            text=item.text,
            status=ItemStatus(item.status),
            reason=item.reason,
            attempts=item.attempts,
            route=route_of(item),
            expected=item.expected,
            harm=item.harm,
            urgency=item.urgency,
            carried=item.carried,
            answers=tuple(answers[item.id]),
        )
        for item in items
    )


def stored_answer(row: AnswerTable) -> StoredAnswer:
    """Return one answer with its public id."""
    return StoredAnswer(
        public_id=row.public_id,
        created_at=row.created_at,
        answer=Answer(
            arm=Arm(row.arm),
            model=row.model,
            model_sha256=row.model_sha256,
            prompt_version=row.prompt_version,
            seconds=row.seconds,
            verdict=_verdict(row.verdict),
            raw_verdict=_verdict(row.raw_verdict),
            score=row.score,
            text=row.text,
            vector=row.vector,
            layer=row.layer,
            alpha=row.alpha,
            tokens=row.tokens,
            finish=row.finish,
            note=row.note,
        ),
    )


def route_of(item: ItemTable) -> Route | None:
    """Return the item's route, None while it has none."""
    if item.route_source is None:
        return None
    probabilities = item.route_probabilities or {}
    return Route(
        category=category_of(item.route_category),
        probabilities={Category(name): value for name, value in probabilities.items()},
        source=RouteSource(item.route_source),
        red_flag=item.route_red_flag,
        router=item.route_router,
    )


def arms_of(job: JobTable) -> tuple[Arm, ...]:
    """Return the arms every item of the job is answered in."""
    return tuple(Arm(arm) for arm in job.arms)


def category_of(name: str | None) -> Category | None:
    """Return a stored category."""
    return None if name is None else Category(name)


def _verdict(name: str | None) -> Verdict | None:
    return None if name is None else Verdict(name)


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
    answers: dict[int, list[StoredAnswer]] = defaultdict(list)
    ids = [item.id for item in items]
    order = list(Arm)
    for row in session.exec(select(AnswerTable).where(col(AnswerTable.item_id).in_(ids))):
        answers[row.item_id].append(stored_answer(row))
    for of_item in answers.values():
        of_item.sort(key=lambda stored: order.index(stored.answer.arm))
    return answers


def set_route(item: ItemTable, route: Route) -> None:
    """Write a decided route into the item's row."""
    item.route_source = route.source
    item.route_category = route.category
    item.route_probabilities = {category.value: value for category, value in route.probabilities.items()}
    item.route_red_flag = route.red_flag
    item.route_router = route.router


def answer_values(answer: Answer, item_id: int, now: datetime) -> dict[str, Any]:
    """Return the row of one answer."""
    given = {"public_id": new_public_id(), "item_id": item_id, "shuffle": randbits(31), "created_at": now}
    return {**answer.as_json(), **given}


def status_of(answered: Answered) -> ItemStatus:
    """Return the final state of an item with these answers; a text that was cut short counts as cancelled."""
    broken_off = any(answer.finish == CANCELLED for answer in answered.answers)
    return ItemStatus.CANCELLED if broken_off else ItemStatus.ANSWERED


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
    if job.local:
        return
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
    """Release the items, queue them again and put messages about them into the outbox."""
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
    """Set the final state of the item."""
    item.status = status
    item.reason = reason
    item.finished_at = now
    let_go(item)


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


def let_go(item: ItemTable) -> None:
    """End the item's lease."""
    item.owner = None
    item.lease_until = None


def settle(session: Session, job_ids: Iterable[int], *, now: datetime) -> None:
    """Mark the jobs that have no unfinished item left. Call it last in a transaction, with all items flushed.

    The job rows are locked first: of two transactions that finish the last two items, the second then sees both.
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
