"""Ratings: blinded, in an order of one's own, kept with their history."""

from dataclasses import fields

import pytest
from sqlmodel import select

from medx_core.categories import Category
from medx_core.errors import BadInput, NotFound
from medx_core.review import BLIND_VIEW, BlindedAnswer, Harm, NewRating, Urgency
from medx_core.storage.jobs import JobStore
from medx_core.storage.leases import LeaseStore
from medx_core.storage.people import Role
from medx_core.storage.ratings import RatingStore
from medx_core.storage.tables import RatingHistoryTable
from tests.samples import answered, rating_form, submission


@pytest.fixture
def ratings(database, clock):
    return RatingStore(database, clock=clock)


@pytest.fixture
def raters(people):
    return [people.add(f"Rater {n}", Role.CLINICIAN, "a long password").id for n in range(3)]


def answer_some(database, rows, category=Category.LITERATURE):
    jobs, leases = JobStore(database), LeaseStore(database)
    job = jobs.submit(submission(rows=rows), chunk_rows=32)
    ids = [item.id for item in jobs.every_item(job.public_id)]
    for leased in leases.lease(ids, owner="a", seconds=30, max_attempts=3):
        leases.finish([(leased, answered(leased, category=category))])
    return [stored.public_id for item in jobs.every_item(job.public_id) for stored in item.answers]


def order_of(ratings, rater, answers):
    seen: list[str] = []
    while (following := ratings.next_to_rate(rater, skip=seen)) is not None:
        seen.append(following.answer_id)
    assert sorted(seen) == sorted(answers)
    return seen


def test_a_rater_sees_neither_arm_nor_model_nor_vector(database, ratings, raters):
    answer_some(database, rows=1)
    shown = ratings.next_to_rate(raters[0])
    assert (shown.question, shown.verdict, shown.category) == (
        "Statement number 1.",
        "TRUE",
        Category.LITERATURE,
    )
    assert {field.name for field in fields(BlindedAnswer)} == {
        *("answer_id", "question", "mode", "verdict", "text", "category", "red_flag")
    }


def test_each_rater_has_an_order_of_the_own_that_stays(database, ratings, raters):
    answers = answer_some(database, rows=10)
    first, second = (order_of(ratings, rater, answers) for rater in raters[:2])
    assert first == order_of(ratings, raters[0], answers)
    assert first != second
    assert answers not in (first, second)


def test_an_answer_is_offered_until_two_raters_have_judged_it(database, ratings, raters):
    answers = answer_some(database, rows=2)
    for rater in raters[:2]:
        assert ratings.left_to_rate(rater) == 4
        while (shown := ratings.next_to_rate(rater)) is not None:
            ratings.save(NewRating(shown.answer_id, rater, rating_form(), seconds=12.5))
    assert ratings.count() == 2 * len(answers)
    assert ratings.next_to_rate(raters[2]) is None
    assert ratings.left_to_rate(raters[2]) == 0


def test_a_rating_is_stored_raw_with_what_the_rater_could_see(database, ratings, raters, clock):
    (answer, _) = answer_some(database, rows=1)
    form = rating_form(harm=Harm.SEVERE, comment="Dose is ten times too high.")
    saved = ratings.save(NewRating(answer, raters[0], form, seconds=41.5))
    (stored,) = ratings.of_rater(raters[0])
    assert stored == saved == ratings.get(saved.public_id, rater_id=raters[0])
    assert (stored.form, stored.form_version, stored.seconds, stored.seen) == (form, 1, 41.5, BLIND_VIEW)
    assert stored.created_at == clock.now
    assert stored.answer.answer_id == answer


def test_nobody_rates_an_answer_twice(database, ratings, raters):
    (answer, _) = answer_some(database, rows=1)
    ratings.save(NewRating(answer, raters[0], rating_form(), seconds=1))
    with pytest.raises(BadInput, match="rated this answer before"):
        ratings.save(NewRating(answer, raters[0], rating_form(), seconds=1))
    assert ratings.count(raters[0]) == 1


def test_an_edit_keeps_every_earlier_version(database, ratings, raters, clock):
    (answer, _) = answer_some(database, rows=1)
    first = rating_form()
    saved = ratings.save(NewRating(answer, raters[0], first, seconds=10))
    written = clock.now
    clock.advance(60)
    second = rating_form(harm=Harm.MILD)
    ratings.edit(saved.public_id, rater_id=raters[0], form=second, seconds=4)
    clock.advance(60)
    third = rating_form(harm=Harm.SEVERE, comment="Saw it on second reading.")
    changed = ratings.edit(saved.public_id, rater_id=raters[0], form=third, seconds=5)

    assert (changed.form, changed.version, changed.created_at) == (third, 3, written)
    with database.read() as session:
        history = session.exec(select(RatingHistoryTable).order_by(RatingHistoryTable.version)).all()
    assert [(was.version, was.form, was.seconds) for was in history] == [
        (1, first.as_json(), 10.0),
        (2, second.as_json(), 4.0),
    ]
    assert history[0].written_at == written
    assert history[0].replaced_at == history[1].written_at


def test_another_raters_rating_can_be_neither_read_nor_changed(database, ratings, raters):
    (answer, _) = answer_some(database, rows=1)
    saved = ratings.save(NewRating(answer, raters[0], rating_form(), seconds=10))
    with pytest.raises(NotFound):
        ratings.edit(saved.public_id, rater_id=raters[1], form=rating_form(harm=Harm.SEVERE), seconds=1)
    with pytest.raises(NotFound):
        ratings.get(saved.public_id, rater_id=raters[1])
    assert ratings.of_rater(raters[1]) == ()
    assert ratings.get(saved.public_id, rater_id=raters[0]) == saved


def test_an_incomplete_form_is_refused_on_saving_and_on_editing(database, ratings, raters):
    (answer, _) = answer_some(database, rows=1, category=Category.TRIAGE)
    with pytest.raises(BadInput, match="urgency"):
        ratings.save(NewRating(answer, raters[0], rating_form(), seconds=1))
    saved = ratings.save(NewRating(answer, raters[0], rating_form(urgency=Urgency.UNDER), seconds=1))
    with pytest.raises(BadInput, match="extent of harm"):
        ratings.edit(
            saved.public_id, rater_id=raters[0], form=rating_form(harm=None, urgency=Urgency.RIGHT), seconds=1
        )
    assert ratings.get(saved.public_id, rater_id=raters[0]) == saved
    with pytest.raises(NotFound):
        ratings.save(NewRating("no such answer", raters[0], rating_form(), seconds=1))
