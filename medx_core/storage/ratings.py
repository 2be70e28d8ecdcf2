"""Ratings: the blinded answer that a clinician judges next, and their ratings."""

import hashlib
from collections.abc import Collection
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, func, or_, select

from medx_core.errors import BadInput, NotFound
from medx_core.jobs.status import JobKind
from medx_core.questions import CANCELLED
from medx_core.review import (
    FORM_VERSION,
    BlindedAnswer,
    NewRating,
    RatingForm,
    StoredRating,
    form_from,
    problems,
)
from medx_core.storage.engine import Store
from medx_core.storage.tables import (
    AnswerTable,
    ItemTable,
    JobTable,
    RatedTable,
    RatingHistoryTable,
    RatingTable,
    as_value,
)

RATERS_PER_ANSWER = 2
# Above every `shuffle`, and prime: multiplying by a rater's own factor modulo this is another order for each rater.
_ORDER_PRIME = 2_147_483_659


class RatingStore(Store):
    """The ratings of one database."""

    def next_to_rate(self, rater_id: int, *, skip: Collection[str] = ()) -> BlindedAnswer | None:
        """Return the answer this rater judges next, None when nothing is left.

        Left out are answers that this rater has judged, those with enough raters, texts that were cut short, and the
        answer ids in `skip`. The order is random, stable for one rater and different from rater to rater.
        """
        place = (col(AnswerTable.shuffle) * _factor(rater_id)) % _ORDER_PRIME
        following = (
            select(AnswerTable.id)
            .where(*_open_to(rater_id), col(AnswerTable.public_id).not_in(skip))
            .order_by(place, col(AnswerTable.id))
            .limit(1)
        )
        with self._database.read() as session:
            key = session.exec(following).first()
            return None if key is None else _blinded(session, [key])[key]

    def left_to_rate(self, rater_id: int) -> int:
        """Count the answers this rater could still judge."""
        left = select(func.count()).select_from(AnswerTable).where(*_open_to(rater_id))
        with self._database.read() as session:
            return session.exec(left).one()

    def save(self, rating: NewRating) -> StoredRating:
        """Store a filled-in form.

        Raises:
            NotFound: there is no such answer.
            BadInput: the form is not complete, or this rater has judged the answer before (`edit` changes that).
        """
        now = self._clock()
        try:
            with self._database.write() as session:
                key = _answer_key(session, rating.answer_id)
                _refuse_incomplete(rating.form, _blinded(session, [key])[key])
                row = RatingTable(
                    answer_id=key,
                    rater_id=rating.rater_id,
                    form_version=FORM_VERSION,
                    form=rating.form.as_json(),
                    seconds=rating.seconds,
                    seen=list(rating.seen),
                    created_at=now,
                    changed_at=now,
                )
                session.add(row)
                session.flush()
                return _stored(session, [row])[0]
        except IntegrityError as error:
            raise BadInput("You have rated this answer before; change that rating instead.") from error

    def edit(self, rating_id: str, *, rater_id: int, form: RatingForm, seconds: float) -> StoredRating:
        """Change the rater's own rating; the earlier version goes to the history.

        Raises:
            NotFound: this rater has no such rating.
            BadInput: the form is not complete.
        """
        now = self._clock()
        with self._database.write() as session:
            row = _own_rating(session, rating_id, rater_id)
            _refuse_incomplete(form, _blinded(session, [row.answer_id])[row.answer_id])
            before = row.model_dump(include=set(RatedTable.model_fields))
            session.add(
                RatingHistoryTable(rating_id=row.id, written_at=row.changed_at, replaced_at=now, **before)
            )
            row.version += 1
            row.form_version, row.form = FORM_VERSION, form.as_json()
            row.seconds, row.changed_at = seconds, now
            session.flush()
            return _stored(session, [row])[0]

    def get(self, rating_id: str, *, rater_id: int) -> StoredRating:
        """Return a rating of this rater; NotFound is raised where there is none."""
        with self._database.read() as session:
            return _stored(session, [_own_rating(session, rating_id, rater_id)])[0]

    def of_rater(self, rater_id: int, *, limit: int = 50, offset: int = 0) -> tuple[StoredRating, ...]:
        """Return a rater's own ratings, the newest first."""
        newest = select(RatingTable).where(RatingTable.rater_id == rater_id)
        newest = newest.order_by(col(RatingTable.id).desc()).offset(offset).limit(limit)
        with self._database.read() as session:
            return _stored(session, list(session.exec(newest)))

    def count(self, rater_id: int | None = None) -> int:
        """Count the ratings of one rater, or all."""
        counted = select(func.count()).select_from(RatingTable)
        if rater_id is not None:
            counted = counted.where(RatingTable.rater_id == rater_id)
        with self._database.read() as session:
            return session.exec(counted).one()


def _blinded(session: Session, answer_keys: Collection[int]) -> dict[int, BlindedAnswer]:
    """Return answers as a rater sees them, by their integer key."""
    rows: Any = session.exec(
        select(AnswerTable, ItemTable, JobTable)
        .join(ItemTable, col(ItemTable.id) == col(AnswerTable.item_id))
        .join(JobTable, col(JobTable.id) == col(ItemTable.job_id))
        .where(col(AnswerTable.id).in_(answer_keys))
    )
    return {
        answer.id: BlindedAnswer(
            answer_id=answer.public_id,
            question=item.text,
            mode=job.mode,
            verdict=answer.verdict,
            text=answer.text,
            category=item.route_category,
            red_flag=item.route_red_flag,
        )
        for answer, item, job in rows
    }


def _stored(session: Session, rows: list[RatingTable]) -> tuple[StoredRating, ...]:
    """Return ratings with the blinded answers they judge."""
    answers = _blinded(session, {row.answer_id for row in rows})
    return tuple(
        as_value(
            StoredRating, row, answer=answers[row.answer_id], form=form_from(row.form), seen=tuple(row.seen)
        )
        for row in rows
    )


def _open_to(rater_id: int) -> tuple[Any, ...]:
    """Conditions of the answers that a rater could judge: no exploration; an incomplete one says nothing of its arm."""
    own = select(RatingTable.answer_id).where(RatingTable.rater_id == rater_id)
    full = (
        select(RatingTable.answer_id)
        .group_by(col(RatingTable.answer_id))
        .having(func.count() >= RATERS_PER_ANSWER)
    )
    explored = (
        select(ItemTable.id)
        .join(JobTable, col(JobTable.id) == col(ItemTable.job_id))
        .where(JobTable.kind == JobKind.EXPLORATION)
    )
    return (
        col(AnswerTable.item_id).not_in(explored),
        or_(col(AnswerTable.verdict).is_not(None), col(AnswerTable.text).is_not(None)),
        col(AnswerTable.finish) != CANCELLED,
        col(AnswerTable.id).not_in(own),
        col(AnswerTable.id).not_in(full),
    )


def _factor(rater_id: int) -> int:
    # Below 2^31, so that the product with a 31-bit `shuffle` fits into 64 bits on both engines.
    digest = hashlib.sha256(f"rater {rater_id}".encode()).digest()
    return 1 + int.from_bytes(digest[:8], "big") % (2**31 - 1)


def _refuse_incomplete(form: RatingForm, answer: BlindedAnswer) -> None:
    if sentences := problems(form, answer.is_triage):
        raise BadInput(sentences[0])


def _answer_key(session: Session, answer_id: str) -> int:
    key = session.exec(select(AnswerTable.id).where(AnswerTable.public_id == answer_id)).first()
    if key is None:
        raise NotFound("There is no answer with this id; it may have been deleted.")
    return key


def _own_rating(session: Session, rating_id: str, rater_id: int) -> RatingTable:
    row = session.exec(
        select(RatingTable).where(RatingTable.public_id == rating_id, RatingTable.rater_id == rater_id)
    ).first()
    if row is None:
        raise NotFound("There is no rating of yours with this id.")
    return row
