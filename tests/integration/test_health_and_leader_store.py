"""Who leads, who is alive, what waits, and what was set aside."""

from functools import partial

import pytest

from medx_core.errors import BadInput, NotFound
from medx_core.jobs.messages import BATCH_QUEUE, INTERACTIVE_QUEUE
from medx_core.jobs.status import ItemStatus, JobKind, JobStatus
from medx_core.storage.health import HealthStore, QueueBacklog
from medx_core.storage.jobs import JobStore
from medx_core.storage.leases import LeaderStore, LeaseStore
from medx_core.storage.outbox import OutboxStore
from tests.databases import at_once
from tests.samples import answered, item_of, submission


@pytest.fixture
def health(database, clock):
    return HealthStore(database, clock=clock)


@pytest.fixture
def leaders(database, clock):
    return LeaderStore(database, clock=clock)


def test_of_processes_that_race_to_lead_exactly_one_does(leaders):
    for duty in ("publish", "reconcile", "third"):
        results = at_once(*(partial(leaders.hold, duty, owner, 10) for owner in "abcde"))
        assert sorted(results) == [False] * 4 + [True]


def test_a_leader_stays_until_it_falls_silent_or_releases(leaders, clock):
    assert leaders.hold("publish", "a", 10)
    clock.advance(9)
    assert leaders.hold("publish", "a", 10)
    clock.advance(9)
    assert not leaders.hold("publish", "b", 10)
    clock.advance(1)
    assert leaders.hold("publish", "b", 10)
    assert not leaders.hold("publish", "a", 10)
    leaders.release("publish", "a")  # not the one who holds it
    assert not leaders.hold("publish", "a", 10)
    leaders.release("publish", "b")
    assert leaders.hold("publish", "a", 10)


def test_a_process_is_known_by_its_last_sign_of_life(health, clock):
    health.beat("worker-1", "worker", {"device": "cpu"})
    health.beat("web-1", "web")
    clock.advance(5)
    health.beat("worker-1", "worker", {"device": "cpu", "answered": 3})
    clock.advance(2)

    worker, web = health.processes()
    assert (worker.name, worker.seconds_since_seen, worker.detail["answered"]) == ("worker-1", 2.0, 3)
    assert (web.name, web.seconds_since_seen) == ("web-1", 7.0)
    assert (worker.seen_at - worker.started_at).total_seconds() == 5
    assert [process.name for process in health.processes(kind="web")] == ["web-1"]

    health.leave("web-1")
    clock.advance(24 * 3600)
    health.beat("worker-2", "worker")
    assert [process.name for process in health.processes()] == ["worker-2"]


def test_the_backlog_counts_what_waits_in_each_queue_and_for_how_long(database, health, clock):
    jobs = JobStore(database, clock=clock)
    assert health.backlog() == {INTERACTIVE_QUEUE: QueueBacklog(), BATCH_QUEUE: QueueBacklog()}
    batch = jobs.submit(submission(rows=3), chunk_rows=32)
    clock.advance(4)
    later = jobs.submit(submission(rows=2), chunk_rows=32)
    question = jobs.submit(submission(rows=1, kind=JobKind.QUESTION), chunk_rows=32)
    clock.advance(6)

    assert health.backlog()[BATCH_QUEUE] == QueueBacklog(waiting=5, oldest_seconds=10.0)
    assert health.backlog()[INTERACTIVE_QUEUE] == QueueBacklog(waiting=1, oldest_seconds=6.0)
    assert [health.ahead_of(job.public_id) for job in (batch, later, question)] == [0, 3, 0]


@pytest.mark.parametrize("local", [False, True])
def test_a_quarantined_item_is_listed_and_can_be_tried_again_from_the_start(database, health, clock, local):
    jobs, leases, outbox = (part(database, clock=clock) for part in (JobStore, LeaseStore, OutboxStore))
    job = jobs.submit(submission(rows=1, title="a.csv"), chunk_rows=32, local=local)
    outbox.mark_sent([message.id for message in outbox.unsent()])
    ids = [item.id for item in jobs.every_item(job.public_id)]
    (leased,) = leases.lease(ids, owner="a", seconds=30, max_attempts=1)
    leases.fail(leased, "The question is too long for this model.", max_attempts=1)

    (aside,) = health.quarantined()
    assert (aside.job_id, aside.job_title, aside.item.id) == (job.public_id, "a.csv", leased.id)
    assert aside.item.reason == "The question is too long for this model."

    health.retry_quarantined(leased.id)
    assert health.quarantined() == ()
    assert jobs.get(job.public_id).status is JobStatus.RUNNING
    (again,) = leases.lease(outbox.unsent()[0].request.item_ids, owner="a", seconds=30, max_attempts=1)
    leases.finish([(again, answered(again))])
    assert item_of(jobs, leased.id).status is ItemStatus.ANSWERED
    assert jobs.get(job.public_id).status is JobStatus.DONE

    with pytest.raises(BadInput, match="answered, not quarantined"):
        health.retry_quarantined(leased.id)
    with pytest.raises(NotFound):
        health.retry_quarantined(leased.id + 1)
