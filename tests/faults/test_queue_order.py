"""People go ahead of files, cancelling cancels, and text reaches those who watch: on a real broker and worker."""

from collections.abc import Iterator
from datetime import datetime

import pytest

from medx_core.jobs.messages import token_stream_name
from medx_core.jobs.status import ItemStatus, JobKind, JobStatus
from medx_core.questions import Mode
from tests.faults.harness import Hold, Installation, installation
from tests.waiting import until


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAKE_ROW_SECONDS", "0.005")
        with installation(tmp_path_factory.mktemp("home"), max_batch_rows=8) as started:
            yield started


def file_with_a_hold(running: Installation) -> tuple[str, Hold]:
    """Submit a file of 200 rows; return once the worker is held at the 60th."""
    hold = running.hold()
    rows = [f"row {number}" for number in range(200)]
    rows[59] = hold.question
    job_id = running.submit(rows)
    hold.wait_reached()
    return job_id, hold


def answered_at(running: Installation, job_id: str) -> list[datetime]:
    return [stored.created_at for item in running.items(job_id) for stored in item.answers]


def test_a_question_overtakes_a_queue_full_of_files(running: Installation) -> None:
    job_id, hold = file_with_a_hold(running)
    with running.broker() as broker:
        until(lambda: broker.llen("batch") > 0, "the file fills the queue")
    asked = [running.submit([f"asked {number}"], kind=JobKind.QUESTION) for number in range(3)]
    for question in asked:
        running.wait_until(question, lambda progress: progress.running == 1, "the question is in hand")
    hold.release()
    for job in (*asked, job_id):
        running.wait_finished(job)
    last = max(moment for question in asked for moment in answered_at(running, question))
    behind = sum(moment > last for moment in answered_at(running, job_id))
    assert behind > 100, "of the file's 400 answers too few came after the questions'"


def test_cancelling_in_the_middle_keeps_what_is_answered_and_answers_no_more(running: Installation) -> None:
    job_id, hold = file_with_a_hold(running)
    running.jobs.cancel(job_id)
    hold.release()
    progress = running.wait_finished(job_id)
    assert progress.answered >= 8
    assert progress.cancelled > 100
    assert progress.answered + progress.cancelled == 200
    assert running.job(job_id).status is JobStatus.CANCELLED
    later = running.submit(["asked after it"], kind=JobKind.QUESTION)
    running.wait_finished(later)
    assert running.progress(job_id) == progress


def test_a_watched_text_arrives_word_by_word_and_ends_with_done(running: Installation) -> None:
    job_id = running.submit(["one two three"], kind=JobKind.QUESTION, mode=Mode.TEXT)
    running.wait_finished(job_id)
    [item] = running.items(job_id)
    with running.broker() as broker:
        name = token_stream_name(item.id, "steered")
        until(lambda: b"done" in broker.xrevrange(name, count=1)[0][1], "the stream ends")
        entries = [fields for _, fields in broker.xrange(name)]
        assert broker.ttl(name) > 0
    assert entries[0] == {b"restart": b"1"}
    assert [fields[b"text"] for fields in entries[1:-1]] == [b"one ", b"two ", b"three "]
    assert item.status is ItemStatus.ANSWERED


def test_a_pass_that_fails_sets_its_row_aside_after_three_attempts_and_answers_the_rest(
    running: Installation,
) -> None:
    rows = [f"row {number}" for number in range(20)]
    rows[4] = "this will break"
    job_id = running.submit(rows)
    progress = running.wait_finished(job_id)
    assert (progress.answered, progress.quarantined) == (19, 1)
    assert running.items(job_id)[4].attempts == 3


def test_logs_never_hold_what_was_asked(running: Installation) -> None:
    job_id = running.submit(["a secret that will break"], kind=JobKind.QUESTION)
    running.wait_finished(job_id)
    assert "secret" not in running.worker_log()
