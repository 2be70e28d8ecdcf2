"""From rating rows to the frozen values that leave the database, blinded."""

from collections.abc import Collection
from typing import Any

from sqlmodel import Session, col, select

from medx_core.questions import Mode, Verdict
from medx_core.review.rating_form import form_from
from medx_core.review.ratings import BlindedAnswer, StoredRating
from medx_core.storage.item_reading import category_of
from medx_core.storage.job_tables import AnswerTable, ItemTable, JobTable
from medx_core.storage.people_tables import RatingTable


def blinded(session: Session, answer_keys: Collection[int]) -> dict[int, BlindedAnswer]:
    """Return answers as a rater sees them, by their integer key."""
    rows: Any = session.exec(
        select(AnswerTable, ItemTable, JobTable)
        .join(ItemTable, col(ItemTable.id) == col(AnswerTable.item_id))
        .join(JobTable, col(JobTable.id) == col(ItemTable.job_id))
        .where(col(AnswerTable.id).in_(answer_keys))
    )
    return {answer.id: _blinded_answer(answer, item, job) for answer, item, job in rows}


def _blinded_answer(answer: AnswerTable, item: ItemTable, job: JobTable) -> BlindedAnswer:
    return BlindedAnswer(
        answer_id=answer.public_id,
        question=item.text,
        mode=Mode(job.mode),
        verdict=None if answer.verdict is None else Verdict(answer.verdict),
        text=answer.text,
        category=category_of(item.route_category),
        red_flag=item.route_red_flag,
    )


def stored_ratings(session: Session, rows: list[RatingTable]) -> tuple[StoredRating, ...]:
    """Return ratings with the blinded answers they judge."""
    answers = blinded(session, {row.answer_id for row in rows})
    return tuple(
        StoredRating(
            public_id=row.public_id,
            answer=answers[row.answer_id],
            rater_id=row.rater_id,
            form=form_from(row.form),
            form_version=row.form_version,
            seconds=row.seconds,
            seen=tuple(row.seen),
            version=row.version,
            created_at=row.created_at,
            changed_at=row.changed_at,
        )
        for row in rows
    )
