"""From rows to the frozen values that leave the database."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from sqlmodel import Session, col, func, select

from medx_core.categories import Category, Route, RouteSource
from medx_core.jobs.snapshots import ItemSnapshot, JobSnapshot, Progress, StoredAnswer
from medx_core.jobs.status import ItemStatus, JobKind, JobStatus
from medx_core.questions import Answer, Arm, Mode, Verdict
from medx_core.storage.job_tables import AnswerTable, ItemTable, JobTable
from medx_core.storage.people_tables import PersonTable


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
            calibrated=row.calibrated,
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
    found: dict[int, list[StoredAnswer]] = defaultdict(list)
    ids = [item.id for item in items]
    order = list(Arm)
    for row in session.exec(select(AnswerTable).where(col(AnswerTable.item_id).in_(ids))):
        found[row.item_id].append(stored_answer(row))
    for answers in found.values():
        answers.sort(key=lambda stored: order.index(stored.answer.arm))
    return found
