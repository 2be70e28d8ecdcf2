"""Leases: exactly one worker's result counts, whatever happens to the others."""

from dataclasses import replace
from functools import partial

import pytest

from medx_core.errors import LeaseLost
from medx_core.jobs.status import ItemStatus, JobStatus
from medx_core.questions import Verdict
from tests.databases import at_once
from tests.samples import BOTH, answered, item_of, submission


def submitted(jobs, rows=1):
    job = jobs.submit(submission(rows=rows), chunk_rows=32)
    return job.public_id, [item.id for item in jobs.every_item(job.public_id)]


def take(leases, ids, owner, max_attempts=3):
    return leases.lease(ids, owner=owner, seconds=30, max_attempts=max_attempts)


def test_of_owners_that_race_for_an_item_exactly_one_wins(jobs, leases):
    _, ids = submitted(jobs, rows=25)
    for item_id in ids:
        results = at_once(*(partial(take, leases, [item_id], owner) for owner in "abcd"))
        assert sorted(len(won) for won in results) == [0, 0, 0, 1]


def test_owners_that_race_for_overlapping_chunks_share_them_without_waiting_for_each_other(jobs, leases):
    _, ids = submitted(jobs, rows=60)
    results = at_once(
        lambda: take(leases, ids[:40], "a"),
        lambda: take(leases, ids[::-1][:40], "b"),
        lambda: take(leases, ids, "c"),
    )
    won = [item.id for part in results for item in part]
    assert sorted(won) == ids


def test_a_second_delivery_finds_nothing_to_do(jobs, leases):
    _, ids = submitted(jobs)
    (leased,) = take(leases, ids, "a")
    assert take(leases, ids, "a") == ()
    leases.finish([(leased, answered(leased))])
    assert take(leases, ids, "b") == ()


def test_a_late_result_is_refused_and_stores_nothing(jobs, leases, clock):
    job_id, ids = submitted(jobs)
    (late,) = take(leases, ids, "slow")
    clock.advance(31)
    (taken,) = take(leases, ids, "fast")
    assert taken.fence > late.fence

    assert leases.finish([(late, answered(late, verdict=Verdict.FALSE))]) == frozenset()
    assert item_of(jobs, ids[0]).answers == ()

    assert leases.finish([(taken, answered(taken, verdict=Verdict.TRUE))]) == {taken.id}
    assert leases.finish([(late, answered(late, verdict=Verdict.FALSE))]) == frozenset()
    assert [stored.answer.verdict for stored in item_of(jobs, ids[0]).answers] == [Verdict.TRUE] * len(BOTH)
    assert jobs.get(job_id).status is JobStatus.DONE


def test_the_same_worker_cannot_store_under_an_older_fence(jobs, leases, clock):
    _, ids = submitted(jobs)
    (older,) = take(leases, ids, "a")
    clock.advance(31)
    (newer,) = take(leases, ids, "a")
    assert leases.finish([(older, answered(older))]) == frozenset()
    assert leases.finish([(newer, answered(newer))]) == {newer.id}


def test_a_lease_is_good_in_the_hands_of_its_owner_only(jobs, leases):
    _, ids = submitted(jobs)
    (leased,) = take(leases, ids, "a")
    in_other_hands = replace(leased, owner="b")
    assert leases.renew([in_other_hands], seconds=30) == frozenset()
    assert leases.finish([(in_other_hands, answered(leased))]) == frozenset()
    assert item_of(jobs, ids[0]).answers == ()


def test_a_lease_that_ran_out_stores_nothing_until_it_is_renewed(jobs, leases, clock):
    _, ids = submitted(jobs)
    (leased,) = take(leases, ids, "a")
    clock.advance(30)
    assert leases.finish([(leased, answered(leased))]) == frozenset()
    assert leases.renew([leased], seconds=30) == {ids[0]}
    leases.finish([(leased, answered(leased))])
    assert item_of(jobs, ids[0]).status is ItemStatus.ANSWERED


def test_renewing_keeps_others_away_and_tells_which_items_were_lost(jobs, leases, clock):
    _, ids = submitted(jobs, rows=2)
    kept, lost = take(leases, ids, "a")
    clock.advance(20)
    assert leases.renew([kept], seconds=30) == {kept.id}
    clock.advance(20)
    assert [item.id for item in take(leases, ids, "b")] == [lost.id]
    assert leases.renew([kept, lost], seconds=30) == {kept.id}


def test_a_micro_batch_stores_what_is_held_and_names_it(jobs, leases, clock):
    _, ids = submitted(jobs, rows=3)
    batch = take(leases, ids, "a")
    clock.advance(31)
    take(leases, ids[1:2], "b")
    leases.renew(batch, seconds=30)
    stored = leases.finish([(item, answered(item)) for item in batch])
    assert stored == {ids[0], ids[2]}
    assert [len(item_of(jobs, item_id).answers) for item_id in ids] == [2, 0, 2]


def test_an_item_whose_workers_never_come_back_is_quarantined_and_the_others_go_on(jobs, leases, clock):
    job_id, ids = submitted(jobs, rows=2)
    for owner in ("a", "b", "c"):
        poison, fine = take(leases, ids, owner)
        clock.advance(31)
        leases.give_back([fine])
    (fine,) = take(leases, ids, "d")
    leases.finish([(fine, answered(fine))])

    item = item_of(jobs, poison.id)
    assert (item.status, item.attempts) == (ItemStatus.QUARANTINED, 3)
    assert item.reason == "The worker stopped 3 times while answering this question."
    assert jobs.get(job_id).status is JobStatus.DONE


def test_a_failed_attempt_waits_again_and_the_last_one_is_quarantined_with_its_reason(jobs, leases, outbox):
    job_id, ids = submitted(jobs)
    outbox.mark_sent([message.id for message in outbox.unsent()])
    states = []
    for attempt in range(3):
        (leased,) = take(leases, ids, "a")
        states.append(leases.fail(leased, f"Too long ({attempt}).", max_attempts=3))
    assert states == [ItemStatus.QUEUED, ItemStatus.QUEUED, ItemStatus.QUARANTINED]
    assert item_of(jobs, ids[0]).reason == "Too long (2)."
    assert [message.request.item_ids for message in outbox.unsent()] == [tuple(ids)] * 2
    assert jobs.get(job_id).status is JobStatus.DONE


def test_a_failure_reported_after_the_item_was_taken_over_changes_nothing(jobs, leases, clock):
    _, ids = submitted(jobs)
    (late,) = take(leases, ids, "a")
    clock.advance(31)
    take(leases, ids, "b")
    before = item_of(jobs, ids[0])
    for report in (
        lambda: leases.fail(late, "No.", max_attempts=1),
        lambda: leases.cancel_running(late),
    ):
        with pytest.raises(LeaseLost, match="Question 1"):
            report()
    assert item_of(jobs, ids[0]) == before


def test_what_a_stopping_worker_gives_back_costs_no_attempt_and_is_sent_again(jobs, leases, outbox):
    _, ids = submitted(jobs, rows=3)
    outbox.mark_sent([message.id for message in outbox.unsent()])
    leases.give_back(take(leases, ids, "a"))
    assert [message.request.item_ids for message in outbox.unsent()] == [tuple(ids)]
    assert [item.attempts for item in (item_of(jobs, item_id) for item_id in ids)] == [0, 0, 0]


@pytest.mark.parametrize("end", ["lease ran out", "attempt failed"])
def test_items_of_a_cancelled_job_do_not_come_back(jobs, leases, clock, end):
    job_id, ids = submitted(jobs)
    (leased,) = take(leases, ids, "a")
    jobs.cancel(job_id)
    if end == "lease ran out":
        clock.advance(31)
        assert take(leases, ids, "b") == ()
    else:
        leases.fail(leased, "No.", max_attempts=3)
    ended = jobs.get(job_id)
    assert (ended.status, ended.progress.cancelled) == (JobStatus.CANCELLED, 1)
    assert ended.finished_at == clock.now


def test_a_job_is_done_also_when_its_last_items_finish_at_the_same_moment(jobs, leases):
    for _ in range(10):
        job_id, ids = submitted(jobs, rows=4)
        leased = take(leases, ids, "a")
        results = at_once(*(partial(leases.finish, [(item, answered(item))]) for item in leased))
        assert results == [{item.id} for item in leased]
        assert jobs.get(job_id).status is JobStatus.DONE


def test_workers_that_hammer_one_job_answer_every_item_exactly_once(jobs, leases, outbox, clock):
    job_id, ids = submitted(jobs, rows=48)

    def work(owner):
        for start in range(0, len(ids), 5):
            for leased in take(leases, ids[start : start + 5], owner):
                fate = (leased.id + ord(owner)) % 4
                if fate == 0 and leased.fence == 1:
                    continue  # killed: the lease runs out
                if fate == 1 and leased.fence == 1:
                    leases.fail(leased, "Once.", max_attempts=3)
                    continue
                leases.renew([leased], seconds=30)
                leases.finish([(leased, answered(leased))])

    for _ in range(4):
        results = at_once(*(partial(work, owner) for owner in "abcdef"))
        assert results == [None] * 6
        clock.advance(31)
        outbox.return_expired(max_attempts=3, chunk_rows=8)

    job = jobs.get(job_id)
    assert (job.status, job.progress.answered) == (JobStatus.DONE, 48)
    assert [len(item.answers) for item in jobs.every_item(job_id)] == [2] * 48
