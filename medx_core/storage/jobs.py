"""Jobs: submitting, reading and cancelling them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import and_, case, not_
from sqlalchemy.orm import aliased
from sqlmodel import col, func, insert, or_, select

from medx_core.categories import RouteSource
from medx_core.data.question_files import FileRow
from medx_core.data.result_files import ResultRow
from medx_core.data.routing_texts import RouteOverride
from medx_core.data.spellings import HARMS
from medx_core.errors import BadInput
from medx_core.jobs.snapshots import ArmAccuracy, ArmChanges, ItemSnapshot, JobSnapshot, RecipeCount
from medx_core.jobs.status import ItemStatus, JobKind, JobStatus
from medx_core.jobs.submission import Submission
from medx_core.questions import Answer, Arm, Verdict
from medx_core.storage.engine import Store
from medx_core.storage.items import (
    add_requests,
    cancel_waiting,
    item_snapshots,
    job_of,
    job_snapshots,
    route_probabilities,
    settle,
)
from medx_core.storage.people import Person, Role
from medx_core.storage.tables import AnswerTable, ItemTable, JobTable, RecipeTable


def refuse_unusable(submission: Submission) -> None:
    """Refuse a submission that cannot be stored or answered.

    Raises:
        BadInput: it has no question or no arm, a row appears twice, or a text contains invalid characters.
    """
    if not submission.items:
        raise BadInput("There is no question in this submission.")
    if not submission.arms:
        raise BadInput("Choose at least one arm to answer in.")
    rows = set()
    for item in submission.items:
        if item.number in rows:
            raise BadInput(f"Row {item.number} appears twice in this submission.")
        rows.add(item.number)
        carried = item.along()
        if not _storable([item.text, item.id, *carried, *carried.values()]):
            raise BadInput(_invalid_characters(submission.kind, f"Row {item.number}"))
    if not _storable([submission.title]):
        raise BadInput(_invalid_characters(submission.kind, "The file's name"))


def _invalid_characters(kind: JobKind, where: str) -> str:
    if kind is JobKind.QUESTION:
        return "The question contains invalid characters; remove them."
    return f"{where} contains invalid characters (damaged encoding); correct the file."


def _storable(texts: Iterable[str]) -> bool:
    # PostgreSQL cannot store NUL, and neither engine half a surrogate pair; both come from damaged files.
    try:
        return not any(b"\0" in text.encode() for text in texts)
    except UnicodeEncodeError:
        return False


def result_rows(items: Iterable[ItemSnapshot], arms: Sequence[Arm]) -> Iterator[ResultRow]:
    """Yield the rows of a job's items, in their order and the order of `arms`."""
    for item in items:
        for arm in arms:
            yield _result_row(item, arm)


def _result_row(item: ItemSnapshot, arm: Arm) -> ResultRow:
    answer, route = item.answer_in(arm), item.route
    columns: dict[str, Any] = {}
    if route is not None:
        columns |= {"category_probability": route.probability, "route_source": route.source.value}
        columns |= {"category": route.category.value if route.category else "", "emergency": route.red_flag}
    if answer is not None:
        given = answer.as_json()
        columns |= {name: given[name] for name in _ANSWER_COLUMNS if given[name] is not None}
        columns |= {"correct": is_correct(answer, item.expected)}
    is_given = answer is not None and item.status is ItemStatus.QUARANTINED  # another arm was refused
    return ResultRow(
        row=item.row,
        id=item.given_id,
        question=item.text,
        arm=arm.value,
        answer=item.expected,
        status=(ItemStatus.ANSWERED if is_given else item.status).value,
        reason=answer.note if answer and is_given else item.reason or (answer.note if answer else ""),
        carried=item.carried,
        **columns,
    )


_ANSWER_COLUMNS = (
    *("verdict", "score", "text", "model", "model_sha256", "vector", "layer", "alpha"),
    *("prompt_version", "seconds", "recipe", "raw_verdict", "dose"),
)


def is_correct(answer: Answer, expected: bool | None) -> bool | None:
    """Whether the raw verdict agrees with the expected answer; None if either is missing."""
    if expected is None or answer.raw_verdict is None:
        return None
    return (answer.raw_verdict is Verdict.TRUE) is expected


PAGE_ROWS = 500


class JobStore(Store):
    """The jobs of one database. Every method that takes a public id raises NotFound if there is no such job."""

    def submit(self, submission: Submission, *, chunk_rows: int, local: bool = False) -> JobSnapshot:
        """Store the job, its items and the messages about them in one transaction; a `local` job has no messages.

        Raises:
            BadInput: there is no question, a row number appears twice, or a text cannot be stored.
        """
        refuse_unusable(submission)
        now = self._clock()
        with self._database.write() as session:
            job = _job_row(submission, now, local=local)
            session.add(job)
            session.flush()
            rows = [_item_values(item, job.id) for item in submission.items]
            # Into the bare table: through the mapped class 100,000 rows take twice as long.
            session.exec(insert(ItemTable.metadata.tables["item"]), params=rows)
            ids = session.exec(
                select(ItemTable.id).where(ItemTable.job_id == job.id).order_by(col(ItemTable.row_number))
            ).all()
            add_requests(session, job, ids, chunk_rows=chunk_rows, now=now)
            return job_snapshots(session, [job])[0]

    def get(self, public_id: str) -> JobSnapshot:
        """Return the present state of the job."""
        with self._database.read() as session:
            return job_snapshots(session, [job_of(session, public_id)])[0]

    def recent(self, person_id: int | None = None, limit: int = 20) -> tuple[JobSnapshot, ...]:
        """Return the newest jobs first: one person's, or everybody's with `person_id` None."""
        newest = (
            select(JobTable).order_by(col(JobTable.created_at).desc(), col(JobTable.id).desc()).limit(limit)
        )
        if person_id is not None:
            newest = newest.where(JobTable.person_id == person_id)
        with self._database.read() as session:
            return job_snapshots(session, session.exec(newest).all())

    def may_see(self, public_id: str, person: Person) -> bool:
        """Return whether the person may see the job: their own, one without a person, or any if they are an admin."""
        with self._database.read() as session:
            owner = session.exec(select(JobTable.person_id).where(JobTable.public_id == public_id)).all()
        return bool(owner) and (person.role is Role.ADMIN or owner[0] in {None, person.id})

    def cancel(self, public_id: str) -> JobSnapshot:
        """Cancel waiting items at once; workers notice it for running ones. A finished job does not change."""
        now = self._clock()
        with self._database.write() as session:
            job_id = job_of(session, public_id).id
            cancel_waiting(session, [job_id], now=now)
            settle(session, [job_id], now=now)
            session.flush()
            return job_snapshots(session, [job_of(session, public_id)])[0]

    def items(
        self,
        public_id: str,
        *,
        offset: int = 0,
        limit: int = 50,
        search: str = "",
        status: ItemStatus | None = None,
    ) -> tuple[list[ItemSnapshot], int]:
        """Return a page of the job's items in row order, and the total number of matching items.

        `search` looks into the text and the given id, without regard to case (on SQLite for plain letters only).
        """
        with self._database.read() as session:
            matching: list[Any] = [ItemTable.job_id == job_of(session, public_id).id]
            if status is not None:
                matching.append(ItemTable.status == status)
            if search:
                matching.append(
                    or_(
                        col(ItemTable.text).icontains(search, autoescape=True),
                        col(ItemTable.given_id).icontains(search, autoescape=True),
                    )
                )
            total = session.exec(select(func.count()).select_from(ItemTable).where(*matching)).one()
            page = select(ItemTable).where(*matching).order_by(col(ItemTable.row_number))
            rows = session.exec(page.offset(offset).limit(limit)).all()
            return list(item_snapshots(session, rows)), total

    def every_item(self, public_id: str) -> Iterator[ItemSnapshot]:
        """Yield all items in row order, read a page at a time, so that a large job is never in memory whole."""
        with self._database.read() as session:
            of_job = ItemTable.job_id == job_of(session, public_id).id
        following = select(ItemTable).where(of_job).order_by(col(ItemTable.row_number)).limit(PAGE_ROWS)
        row = -1
        while True:
            with self._database.read() as session:
                page = item_snapshots(
                    session, session.exec(following.where(ItemTable.row_number > row)).all()
                )
            yield from page
            if len(page) < PAGE_ROWS:
                return
            row = page[-1].row

    def overrides(self, *, page_rows: int = PAGE_ROWS) -> Iterator[RouteOverride]:
        """Yield the routes that users overrode, in the order of submission, read a page at a time.

        A question counts once it was answered, because its route is stored then. Categories given in a file are not
        overrides: the router was not meant to decide those.
        """
        overridden = (
            select(ItemTable, JobTable)
            .join(JobTable, col(JobTable.id) == col(ItemTable.job_id))
            .where(ItemTable.route_source == RouteSource.USER)
            .order_by(col(ItemTable.id))
            .execution_options(yield_per=page_rows)
        )
        with self._database.read() as session, session.exec(overridden) as rows:
            for item, job in rows:
                if item.route_category is not None:
                    yield RouteOverride(
                        item.text, item.route_category, route_probabilities(item), job.created_at
                    )

    def recipes(self, public_id: str) -> tuple[RecipeCount, ...]:
        """Count the rows of a job by the recipe that answered them, in the order in which the recipes did."""
        with self._database.read() as session:
            counted = session.exec(
                select(AnswerTable.recipe, RecipeTable.name, func.count(col(ItemTable.id).distinct()))
                .join(ItemTable, col(ItemTable.id) == col(AnswerTable.item_id))
                .outerjoin(RecipeTable, col(RecipeTable.id) == col(AnswerTable.recipe))
                .where(
                    ItemTable.job_id == job_of(session, public_id).id, col(AnswerTable.recipe).is_not(None)
                )
                .group_by(col(AnswerTable.recipe), col(RecipeTable.name))
                .order_by(func.min(AnswerTable.id))
            ).all()
        return tuple(RecipeCount(str(recipe), name or "", rows) for recipe, name, rows in counted)

    def accuracy(self, public_id: str) -> tuple[ArmAccuracy, ...]:
        """Count right verdicts and accepted FALSE items per arm, by the raw verdict, over items with an expected answer."""
        said_true = func.sum(case((col(AnswerTable.raw_verdict) == Verdict.TRUE, 1), else_=0))
        with self._database.read() as session:
            counted = session.exec(
                select(AnswerTable.arm, ItemTable.expected, func.count(), said_true)
                .join(ItemTable, col(ItemTable.id) == col(AnswerTable.item_id))
                .where(
                    ItemTable.job_id == job_of(session, public_id).id,
                    col(ItemTable.expected).is_not(None),
                    col(AnswerTable.raw_verdict).is_not(None),
                )
                .group_by(col(AnswerTable.arm), col(ItemTable.expected))
            ).all()
        parts = {(Arm(arm), expected): (judged, int(trues)) for arm, expected, judged, trues in counted}
        arms = {arm for arm, _ in parts}
        of_arms = []
        for arm in (arm for arm in Arm if arm in arms):
            (true, hits), (false, accepted) = (
                parts.get((arm, expected), (0, 0)) for expected in (True, False)
            )
            of_arms.append(ArmAccuracy(arm, hits + false - accepted, true + false, accepted, false))
        return tuple(of_arms)

    def changes(self, public_id: str) -> tuple[ArmChanges, ...]:
        """Count by harm what steering mends and breaks, by the raw verdict: without a harm first, then the least harm."""
        steered, unsteered = aliased(AnswerTable), aliased(AnswerTable)
        rights = [
            (col(answer.raw_verdict) == Verdict.TRUE) == col(ItemTable.expected)
            for answer in (steered, unsteered)
        ]
        helped, harmed = (
            func.sum(case((and_(right, not_(wrong)), 1), else_=0)) for right, wrong in (rights, rights[::-1])
        )
        with self._database.read() as session:
            counted = session.exec(
                select(ItemTable.harm, func.count(), helped, harmed)
                .join(steered, and_(col(steered.item_id) == ItemTable.id, col(steered.arm) == Arm.STEERED))
                .join(
                    unsteered,
                    and_(col(unsteered.item_id) == ItemTable.id, col(unsteered.arm) == Arm.UNSTEERED),
                )
                .where(
                    ItemTable.job_id == job_of(session, public_id).id,
                    col(ItemTable.expected).is_not(None),
                    col(steered.raw_verdict).is_not(None),
                    col(unsteered.raw_verdict).is_not(None),
                )
                .group_by(col(ItemTable.harm))
            ).all()
        by_harm = {
            harm: ArmChanges(harm, int(n), int(mended), int(broken)) for harm, n, mended, broken in counted
        }
        return tuple(by_harm[harm] for harm in ("", *HARMS) if harm in by_harm)


def _job_row(submission: Submission, now: datetime, *, local: bool) -> JobTable:
    columns = dict.fromkeys(name for item in submission.items for name in item.along())
    return JobTable(
        kind=submission.kind,
        status=JobStatus.QUEUED,
        mode=submission.mode,
        arms=[arm.value for arm in submission.arms],
        category=submission.category,
        title=submission.title,
        file_sha256=submission.file_sha256,
        carried_columns=list(columns),
        person_id=submission.person_id,
        created_at=now,
        local=local,
        exploration=asdict(submission.exploration) if submission.exploration else None,
    )


def _item_values(row: FileRow, job_id: int) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "row_number": row.number,
        "given_id": row.id,
        "text": row.text,
        "category": row.category,
        "expected": row.answer,
        "harm": row.harm,
        "urgency": row.urgency,
        "carried": row.along(),
        "status": ItemStatus.QUEUED,
    }
