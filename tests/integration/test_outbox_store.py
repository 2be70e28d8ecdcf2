"""The outbox: what was committed reaches the broker, whatever is lost on the way."""

from functools import partial

from medx_core.jobs.messages import BATCH_QUEUE, INTERACTIVE_QUEUE
from medx_core.jobs.status import ItemStatus, JobKind, JobStatus
from medx_core.storage.outbox import SILENT_SECONDS
from tests.databases import at_once
from tests.samples import answered, item_of, submission


def submitted(jobs, rows=1, kind=JobKind.BATCH):
    job = jobs.submit(submission(rows=rows, kind=kind), chunk_rows=32)
    return job.public_id, tuple(item.id for item in jobs.every_item(job.public_id))


def send_all(outbox):
    messages = outbox.unsent(limit=1000)
    outbox.mark_sent([message.id for message in messages])
    return [message.request.item_ids for message in messages]


def test_an_interactive_question_is_sent_before_batches_that_came_first(jobs, outbox):
    batch, _ = submitted(jobs, rows=3)
    question, _ = submitted(jobs, kind=JobKind.QUESTION)
    assert [(message.queue, message.request.job_id) for message in outbox.unsent()] == [
        (INTERACTIVE_QUEUE, question),
        (BATCH_QUEUE, batch),
    ]


def test_what_was_sent_is_not_sent_again_and_is_forgotten_after_a_day(jobs, outbox, clock):
    submitted(jobs, rows=3)
    assert len(send_all(outbox)) == 1
    assert outbox.unsent() == ()
    assert outbox.forget_sent() == 0
    clock.advance(24 * 3600 + 1)
    submitted(jobs)
    assert outbox.forget_sent() == 1
    assert len(outbox.unsent()) == 1


def test_items_of_a_worker_that_fell_silent_wait_again_with_a_message(jobs, leases, outbox, clock):
    _, ids = submitted(jobs, rows=5)
    send_all(outbox)
    *_, alive = leases.lease(ids, owner="a", seconds=30, max_attempts=3)
    clock.advance(20)
    leases.renew([alive], seconds=30)
    clock.advance(10)

    assert outbox.return_expired(max_attempts=3, chunk_rows=2) == 4
    assert send_all(outbox) == [ids[:2], ids[2:4]]
    assert [item_of(jobs, item_id).status for item_id in ids] == [ItemStatus.QUEUED] * 4 + [
        ItemStatus.RUNNING
    ]
    assert outbox.return_expired(max_attempts=3, chunk_rows=2) == 0


def test_an_expired_item_without_attempts_left_is_quarantined_and_ends_its_job(jobs, leases, outbox, clock):
    job_id, ids = submitted(jobs)
    leases.lease(ids, owner="a", seconds=30, max_attempts=1)
    clock.advance(30)
    outbox.return_expired(max_attempts=1, chunk_rows=32)
    assert item_of(jobs, ids[0]).status is ItemStatus.QUARANTINED
    assert jobs.get(job_id).status is JobStatus.DONE


def test_a_local_job_is_never_sent_and_is_cancelled_when_its_command_is_gone(jobs, leases, outbox, clock):
    job = jobs.submit(submission(rows=3), chunk_rows=1, local=True)
    first, second, _ = leases.lease(
        [item.id for item in jobs.every_item(job.public_id)], owner="command", seconds=30, max_attempts=3
    )
    leases.finish([(first, answered(first))])
    leases.fail(second, "It did not fit.", max_attempts=3)
    assert outbox.unsent() == ()
    clock.advance(30)
    assert outbox.return_expired(max_attempts=3, chunk_rows=1) == 1
    assert [item.status for item in jobs.every_item(job.public_id)] == [
        ItemStatus.ANSWERED,
        ItemStatus.CANCELLED,
        ItemStatus.CANCELLED,
    ]
    assert jobs.get(job.public_id).status is JobStatus.CANCELLED
    assert outbox.unsent() == ()


def test_a_local_job_whose_command_died_before_it_took_a_row_is_cancelled(jobs, leases, outbox, clock):
    job = jobs.submit(submission(rows=2), chunk_rows=1, local=True)
    sent = jobs.submit(submission(rows=1), chunk_rows=1)
    (first, _) = jobs.every_item(job.public_id)

    def sweep(seconds):
        clock.advance(seconds)
        assert outbox.return_expired(max_attempts=3, chunk_rows=1) == 0
        return jobs.get(job.public_id).status

    assert sweep(SILENT_SECONDS - 1) is JobStatus.QUEUED
    (leased,) = leases.lease([first.id], owner="command", seconds=SILENT_SECONDS, max_attempts=3)
    assert sweep(SILENT_SECONDS - 1) is JobStatus.RUNNING  # a row is in hand
    leases.finish([(leased, answered(leased))])
    assert sweep(SILENT_SECONDS - 1) is JobStatus.RUNNING  # a row was finished lately
    assert sweep(1) is JobStatus.CANCELLED
    assert jobs.get(job.public_id).finished_at == clock.now
    assert [item.status for item in jobs.every_item(job.public_id)] == [
        ItemStatus.ANSWERED,
        ItemStatus.CANCELLED,
    ]
    assert jobs.get(sent.public_id).status is JobStatus.QUEUED  # another worker may answer it


def test_what_the_broker_lost_is_sent_again_once(jobs, leases, outbox, clock):
    _, ids = submitted(jobs, rows=4)
    _, question = submitted(jobs, kind=JobKind.QUESTION)
    send_all(outbox)
    leased = leases.lease(ids[:1], owner="a", seconds=300, max_attempts=3)
    leases.finish([(leased[0], answered(leased[0]))])
    leases.lease(ids[1:2], owner="a", seconds=300, max_attempts=3)

    def resend():
        return outbox.resend_stale(older_than_seconds=30, queue=BATCH_QUEUE, chunk_rows=32, limit=100)

    clock.advance(30)
    assert resend() == 0  # not old enough
    clock.advance(1)
    assert resend() == 2
    assert resend() == 0  # their message waits to be sent
    assert send_all(outbox) == [ids[2:]]
    assert resend() == 0  # sent just now
    assert item_of(jobs, question[0]).status is ItemStatus.QUEUED


def test_two_processes_that_resend_at_once_send_each_item_once(jobs, outbox, clock):
    for _ in range(5):
        submitted(jobs, rows=8)
        send_all(outbox)
        clock.advance(60)
        resend = partial(
            outbox.resend_stale, older_than_seconds=30, queue=BATCH_QUEUE, chunk_rows=32, limit=1000
        )
        counts = at_once(resend, resend, resend)
        waiting = sum(job.progress.queued for job in jobs.recent())
        assert sum(counts) == waiting
        assert sum(map(len, send_all(outbox))) == waiting


def test_resending_takes_the_oldest_up_to_its_limit(jobs, outbox, clock):
    _, ids = submitted(jobs, rows=5)
    send_all(outbox)
    clock.advance(60)
    assert outbox.resend_stale(older_than_seconds=30, queue=BATCH_QUEUE, chunk_rows=2, limit=3) == 3
    assert send_all(outbox) == [ids[:2], ids[2:3]]
