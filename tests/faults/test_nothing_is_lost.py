"""Whatever dies, every row of a file is answered exactly once in each arm."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from medx_core.jobs.status import ItemStatus, JobKind, JobStatus
from medx_core.recipes import ModelIdentity
from medx_core.storage.engine import Database
from medx_core.storage.health import HealthStore
from medx_core.storage.recipes import RecipeStore
from tests.faults.harness import BOTH, Hold, Installation, installation
from tests.faults.orders import KILLS, NO_MODEL
from tests.recipes import recipe
from tests.waiting import until

# In the eighth chunk of eight: when the worker is there, it has finished four chunks at least and begun eleven at most.
HELD_ROW = 60


def texts(count: int) -> list[str]:
    return [f"statement number {number}" for number in range(count)]


def assert_each_row_answered_once(running: Installation, job_id: str) -> None:
    items = running.items(job_id)
    assert [item.status for item in items] == [ItemStatus.ANSWERED] * len(items)
    assert [tuple(stored.answer.arm for stored in item.answers) for item in items] == [BOTH] * len(items)
    assert running.job(job_id).status is JobStatus.DONE


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One installation for the faults that it survives unchanged."""
    with installation(tmp_path_factory.mktemp("home")) as started:
        yield started


def file_with_a_hold(running: Installation) -> tuple[str, Hold]:
    """Submit a file; return its job once the worker is held in the middle, with rows behind and before it."""
    hold = running.hold()
    rows = texts(160)
    rows[HELD_ROW - 1] = hold.question
    job_id = running.submit(rows)
    hold.wait_reached()
    assert 0 < running.progress(job_id).answered < 100
    return job_id, hold


def test_a_broker_that_forgets_everything_in_the_middle_loses_nothing(running: Installation) -> None:
    job_id, hold = file_with_a_hold(running)
    with running.broker() as broker:
        until(lambda: broker.llen("batch") > 0, "rows wait in the broker")
        broker.flushall()
    hold.release()
    running.wait_finished(job_id)
    assert_each_row_answered_once(running, job_id)


def test_killing_the_broker_alone_is_survived_by_the_worker(running: Installation) -> None:
    worker = running.stack.process_ids["worker"]
    job_id, hold = file_with_a_hold(running)
    running.kill("broker")
    asked = running.submit(["asked while it was away"], kind=JobKind.QUESTION)
    hold.release()
    running.wait_finished(asked)
    running.wait_finished(job_id)
    assert_each_row_answered_once(running, job_id)
    assert running.stack.process_ids["worker"] == worker


def test_killing_the_worker_in_the_middle_of_a_file_loses_and_doubles_nothing(running: Installation) -> None:
    job_id, hold = file_with_a_hold(running)
    running.kill("worker")
    hold.release()
    running.wait_finished(job_id)
    assert_each_row_answered_once(running, job_id)
    assert running.items(job_id)[HELD_ROW - 1].attempts >= 2, "the kill did not hit the row in hand"


def test_killing_worker_and_broker_together_loses_nothing(running: Installation) -> None:
    job_id, hold = file_with_a_hold(running)
    with running.broker() as broker:
        broker.flushall()
    for part in ("broker", "worker"):
        running.kill(part)
    hold.release()
    running.wait_finished(job_id)
    assert_each_row_answered_once(running, job_id)


def test_a_worker_told_to_stop_hands_its_rows_on_without_waiting_for_leases(tmp_path: Path) -> None:
    with installation(tmp_path, lease_seconds=3600.0) as running:
        job_id, hold = file_with_a_hold(running)
        os.kill(running.stack.process_ids["worker"], signal.SIGTERM)
        until(lambda: "stopping: finishing" in running.worker_log(), "the worker begins to stop")
        hold.release()
        running.wait_finished(job_id)
        assert_each_row_answered_once(running, job_id)
        assert {item.attempts for item in running.items(job_id)} == {1}


def test_a_row_that_kills_its_worker_is_set_aside_and_takes_nobody_with_it(tmp_path: Path) -> None:
    with installation(tmp_path) as running:
        rows = texts(24)
        rows[13] = f"please {KILLS} now"
        job_id = running.submit(rows)
        running.wait_finished(job_id)
        poison = running.items(job_id)[13]
        others = [item for item in running.items(job_id) if item.row != poison.row]
        assert poison.status is ItemStatus.QUARANTINED
        assert poison.reason == "The worker stopped 3 times while answering this question."
        assert {item.status for item in others} == {ItemStatus.ANSWERED}
        assert max(item.attempts for item in others) <= 2


def test_a_worker_without_its_model_ends_and_costs_no_question_an_attempt(tmp_path: Path) -> None:
    with installation(tmp_path, lease_seconds=60.0) as running:
        database = Database(running.stack.settings.database)
        health = HealthStore(database)
        (tmp_path / NO_MODEL).touch()
        running.kill("worker")
        job_id = running.submit(texts(8))
        until(
            lambda: "the model cannot be loaded: The model is not on" in running.worker_log(),
            "the worker says why it ends",
        )
        until(
            lambda: any("is not on" in str(each.detail.get("refused")) for each in health.processes()),
            "Admin can say so too",
        )
        (tmp_path / NO_MODEL).unlink()
        running.wait_finished(job_id)
        assert_each_row_answered_once(running, job_id)
        assert {item.attempts for item in running.items(job_id)} == {1}
        assert not any("refused" in each.detail for each in health.processes())
    database.close()


def test_a_worker_whose_recipe_cannot_answer_lives_on_says_why_and_goes_on_after_a_rollback(
    tmp_path: Path,
) -> None:
    with installation(tmp_path) as running:
        database = Database(running.stack.settings.database)
        health, recipes = HealthStore(database), RecipeStore(database)
        weights = health.processes(kind="worker")[0].detail["weight_sha256"]
        other = recipe(ModelIdentity("directed", weights, "float32", "cd" * 32))
        recipes.promote(recipes.keep(other, name="mine", model="directed").id)
        seen = running.stack.settings.worker_seen_seconds
        until(
            lambda: "mine" in health.refusal(seen_within_seconds=seen),
            "the worker says that it cannot answer",
        )
        job_id = running.submit(texts(8))
        recipes.roll_back(weights, "float32")
        running.wait_finished(job_id)
        assert_each_row_answered_once(running, job_id)
        assert {item.attempts for item in running.items(job_id)} == {1}
        until(lambda: not health.refusal(seen_within_seconds=seen), "and that it can")
    database.close()


def test_the_health_row_says_when_a_worker_is_ready_and_goes_when_it_stops(tmp_path: Path) -> None:
    with installation(tmp_path) as running:
        database = Database(running.stack.settings.database)
        health = HealthStore(database)
        [worker] = health.processes(kind="worker")
        assert worker.detail["ready"] is True
        assert worker.detail["model_name"] == "directed"
        seen = worker.seen_at
        until(lambda: health.processes(kind="worker")[0].seen_at > seen, "the idle worker beats again")
    assert health.processes(kind="worker") == ()
    database.close()
