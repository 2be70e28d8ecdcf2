"""Handing a job in, looking at it, cancelling it."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medx_core.categories import Category
from medx_core.data.question_files import FileRow
from medx_core.errors import BadInput, NotFound
from medx_core.evaluation.bootstrap import all_changes
from medx_core.jobs.messages import BATCH_QUEUE
from medx_core.jobs.snapshots import ArmAccuracy, ArmChanges, RecipeCount, recipes_in_words
from medx_core.jobs.status import ItemStatus, JobKind, JobStatus
from medx_core.questions import Arm, Verdict
from medx_core.storage.jobs import JobStore
from medx_core.storage.leases import LeaseStore
from medx_core.storage.outbox import OutboxStore
from medx_core.storage.people import Person, Role
from medx_core.storage.recipes import RecipeStore
from tests.recipes import recipe
from tests.samples import answered, submission


def lease_all(database, owner="w1", clock=None, max_attempts=3):
    messages = OutboxStore(database).unsent(limit=1000)
    ids = itertools.chain.from_iterable(message.request.item_ids for message in messages)
    leases = LeaseStore(database, clock=clock) if clock else LeaseStore(database)
    return leases.lease(ids, owner=owner, seconds=30, max_attempts=max_attempts)


def test_a_submission_is_stored_whole_with_one_message_a_chunk(database):
    job = JobStore(database).submit(submission(rows=70, title="malaria.csv"), chunk_rows=32)
    messages = OutboxStore(database).unsent()
    items = list(JobStore(database).every_item(job.public_id))

    assert (job.status, job.progress.total, job.progress.queued) == (JobStatus.QUEUED, 70, 70)
    assert [len(message.request.item_ids) for message in messages] == [32, 32, 6]
    assert {(message.queue, message.request.job_id) for message in messages} == {(BATCH_QUEUE, job.public_id)}
    assert [number for message in messages for number in message.request.item_ids] == [
        item.id for item in items
    ]
    assert JobStore(database).get(job.public_id) == job


def test_a_submission_that_fails_half_way_leaves_nothing(database):
    jobs = JobStore(database)
    with pytest.raises(ValueError, match="zero"):
        jobs.submit(submission(rows=5), chunk_rows=0)  # fails after job and items were written
    assert jobs.recent() == ()
    assert OutboxStore(database).unsent() == ()


def test_five_thousand_rows_come_back_in_their_order_with_their_columns(database):
    items = tuple(
        FileRow(2 * n + 1, "", f"Question {n}", carried={"ward": str(n), "a": ""}) for n in range(5000)
    )
    jobs = JobStore(database)
    job = jobs.submit(submission(items=items), chunk_rows=32)
    stored = list(jobs.every_item(job.public_id))
    assert [item.row for item in stored] == [row.number for row in items]
    assert [list(item.carried.items()) for item in stored] == [list(row.carried.items()) for row in items]
    assert job.carried_columns == ("ward", "a")


@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(text=st.text(st.characters(exclude_categories=[]), min_size=1), cell=st.text())
def test_any_text_comes_back_as_it_was_or_is_refused_by_row(database, text, cell):
    jobs = JobStore(database)
    item = FileRow(7, cell, text, carried={"note": cell})
    if any(char == "\0" or "\ud800" <= char <= "\udfff" for char in text + cell):
        with pytest.raises(BadInput, match="Row 7"):
            jobs.submit(submission(items=(item,)), chunk_rows=1)
        return
    job = jobs.submit(submission(items=(item,)), chunk_rows=1)
    stored = next(jobs.every_item(job.public_id))
    assert (stored.text, stored.given_id, stored.carried) == (text, cell, {"note": cell})


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        ({"items": ()}, "no question"),
        ({"arms": ()}, "at least one arm"),
        ({"items": (FileRow(4, "", "a"), FileRow(4, "", "b"))}, "Row 4 appears twice"),
        ({"items": (FileRow(4, "", "a\0b"),)}, "Row 4 contains invalid characters"),
        ({"title": "\ud800.csv"}, "The file's name contains"),
        (
            {"items": (FileRow(0, "", "\0"),), "kind": JobKind.QUESTION},
            "The question contains .* remove them",
        ),
    ],
)
def test_what_cannot_be_a_job_is_refused_in_words(sqlite_database, broken, sentence):
    with pytest.raises(BadInput, match=sentence):
        JobStore(sqlite_database).submit(submission(**broken), chunk_rows=32)


def test_a_job_runs_with_its_first_lease_and_is_done_with_its_last_answer(database):
    jobs, leases = JobStore(database), LeaseStore(database)
    job = jobs.submit(submission(rows=2), chunk_rows=32)
    first, second = lease_all(database)
    assert jobs.get(job.public_id).status is JobStatus.RUNNING

    leases.finish([(first, answered(first))])
    assert jobs.get(job.public_id).finished_at is None
    leases.finish([(second, answered(second))])

    done = jobs.get(job.public_id)
    assert (done.status, done.progress.answered) == (JobStatus.DONE, 2)
    assert done.created_at <= done.started_at <= done.finished_at


def test_what_was_answered_reads_back_as_it_was_given(database):
    jobs, leases = JobStore(database), LeaseStore(database)
    job = jobs.submit(submission(rows=1), chunk_rows=1)
    (leased,) = lease_all(database)
    given = answered(leased, category=None)
    leases.finish([(leased, given)])

    (item,) = jobs.every_item(job.public_id)
    assert item.route == given.route
    assert tuple(stored.answer for stored in item.answers) == given.answers


def test_cancelling_stops_what_waits_and_keeps_what_is_finished(database):
    jobs, leases = JobStore(database), LeaseStore(database)
    job = jobs.submit(submission(rows=4), chunk_rows=2)
    first_chunk = OutboxStore(database).unsent()[0].request.item_ids
    finished, running = leases.lease(first_chunk, owner="w1", seconds=30, max_attempts=3)
    leases.finish([(finished, answered(finished))])

    cancelled = jobs.cancel(job.public_id)
    assert cancelled.status is JobStatus.CANCELLED
    assert (cancelled.progress.answered, cancelled.progress.running, cancelled.progress.cancelled) == (
        1,
        1,
        2,
    )
    assert cancelled.finished_at is None
    assert leases.cancelled_jobs([job.public_id, "another"]) == {job.public_id}

    leases.cancel_running(running)
    ended = jobs.get(job.public_id)
    assert (ended.status, ended.progress.cancelled) == (JobStatus.CANCELLED, 3)
    assert ended.finished_at is not None


def test_cancelling_a_finished_job_changes_nothing(database):
    jobs, leases = JobStore(database), LeaseStore(database)
    job = jobs.submit(submission(rows=1), chunk_rows=1)
    (leased,) = lease_all(database)
    leases.finish([(leased, answered(leased))])
    done = jobs.get(job.public_id)
    assert jobs.cancel(job.public_id) == done


def test_a_page_is_searched_literally_and_filtered_by_state(database):
    texts = ["100% cure", "100 cures", "Statement_1", "statement 1", "Other"]
    items = tuple(FileRow(row, f"q{row}", text) for row, text in enumerate(texts, start=1))
    jobs = JobStore(database)
    job = jobs.submit(submission(items=items), chunk_rows=8)

    def rows(**asked):
        page, total = jobs.items(job.public_id, **asked)
        return [item.row for item in page], total

    assert rows(search="100%") == ([1], 1)
    assert rows(search="STATEMENT_") == ([3], 1)
    assert rows(search="q5") == ([5], 1)
    assert rows(offset=1, limit=2) == ([2, 3], 5)
    assert rows(status=ItemStatus.ANSWERED) == ([], 0)


def test_accuracy_counts_raw_verdicts_of_items_with_an_expected_answer(database):
    expected = [True, True, False, None]
    items = tuple(FileRow(row, "", f"S{row}", answer=gold) for row, gold in enumerate(expected, start=1))
    jobs, leases = JobStore(database), LeaseStore(database)
    job = jobs.submit(submission(items=items), chunk_rows=8)
    leased = lease_all(database)
    verdicts = [Verdict.TRUE, Verdict.FALSE, Verdict.FALSE, Verdict.TRUE]
    for item, verdict in zip(leased, verdicts, strict=True):
        leases.finish([(item, answered(item, verdict=verdict))])
    assert jobs.accuracy(job.public_id) == (
        ArmAccuracy(Arm.STEERED, right=2, judged=3),
        ArmAccuracy(Arm.UNSTEERED, right=2, judged=3),
    )


def test_a_job_says_by_which_recipes_its_rows_were_answered_where_another_one_came_into_use(database):
    jobs, leases, recipes = JobStore(database), LeaseStore(database), RecipeStore(database)
    first, second = (
        recipes.keep(recipe(threshold=threshold), name=f"moved {threshold}", model="tiny")
        for threshold in (2, 1)
    )
    job = jobs.submit(submission(rows=5), chunk_rows=8)
    used = [first.id, first.id, second.id, None]
    for item, by in zip(lease_all(database), used, strict=False):
        given = answered(item)
        leases.finish(
            [(item, replace(given, answers=tuple(replace(each, recipe=by) for each in given.answers)))]
        )
    counts = (RecipeCount(first.id, "moved 2", 2), RecipeCount(second.id, "moved 1", 1))
    assert jobs.recipes(job.public_id) == counts
    assert "Answered by 2 recipes" in recipes_in_words(counts)
    assert f"moved 2 ({first.id}) 2 rows, moved 1 ({second.id}) 1 row;" in recipes_in_words(counts)
    assert recipes_in_words(counts[:1]) == ""


def test_what_steering_changes_is_counted_by_harm_over_items_that_both_arms_judged(database):
    gold = [(True, "severe"), (False, "severe"), (True, ""), (False, "mild"), (None, "mild"), (True, "")]
    items = tuple(FileRow(row, "", "S", answer=answer, harm=harm) for row, (answer, harm) in enumerate(gold))
    jobs, leases = JobStore(database), LeaseStore(database)
    job = jobs.submit(submission(items=items), chunk_rows=8)
    steered = [Verdict.TRUE, Verdict.TRUE, Verdict.TRUE, Verdict.FALSE, Verdict.TRUE, Verdict.FALSE]
    unsteered = [Verdict.FALSE, Verdict.FALSE, Verdict.TRUE, Verdict.TRUE, Verdict.FALSE, Verdict.TRUE]
    for item, *verdicts in zip(lease_all(database), steered, unsteered, strict=True):
        of_arm = [answered(item, verdict=verdict).answers for verdict in verdicts]
        both = tuple(answers[place] for place, answers in enumerate(of_arm))
        leases.finish([(item, replace(answered(item), answers=both))])
    assert jobs.changes(job.public_id) == (
        ArmChanges("", judged=2, helped=0, harmed=1),
        ArmChanges("mild", judged=1, helped=1, harmed=0),
        ArmChanges("severe", judged=2, helped=1, harmed=1),
    )
    total = all_changes(jobs.changes(job.public_id))
    assert total is not None
    assert (total.n, total.helped, total.harmed, total.mcnemar_p) == (5, 2, 2, 1.0)


def test_the_submitters_category_stands_above_the_files(database):
    item = FileRow(1, "", "S", category=Category.TRIAGE)
    JobStore(database).submit(submission(items=(item,)), chunk_rows=1)
    JobStore(database).submit(submission(items=(item,), category=Category.LITERATURE), chunk_rows=1)
    from_file, chosen = lease_all(database)
    assert (from_file.question.category, from_file.question.category_from_file) == (Category.TRIAGE, True)
    assert (chosen.question.category, chosen.question.category_from_file) == (Category.LITERATURE, False)


def test_a_job_is_seen_by_its_owner_and_by_admins_and_an_unowned_one_by_all(database, people):
    owner = people.add("Owner", Role.ASKER, "a long password")
    jobs = JobStore(database)
    owned = jobs.submit(submission(rows=1, person_id=owner.id), chunk_rows=1)
    unowned = jobs.submit(submission(rows=1), chunk_rows=1)
    other = Person(owner.id + 1, "Other", Role.CLINICIAN, disabled=False)
    admin = Person(owner.id + 2, "Admin", Role.ADMIN, disabled=False)

    assert [jobs.may_see(owned.public_id, person) for person in (owner, other, admin)] == [True, False, True]
    assert jobs.may_see(unowned.public_id, other)
    assert not jobs.may_see("no such job", admin)
    assert [job.public_id for job in jobs.recent(owner.id)] == [owned.public_id]
    assert [job.person for job in jobs.recent()] == ["", "Owner"]


def test_unknown_ids_are_said_in_one_sentence(sqlite_database):
    jobs = JobStore(sqlite_database)
    for ask in (
        jobs.get,
        jobs.cancel,
        jobs.items,
        jobs.accuracy,
    ):
        with pytest.raises(NotFound, match="with this id"):
            ask("nothing")
