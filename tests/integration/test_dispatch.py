"""Where a command's questions are answered, and that nothing of it lives on afterwards."""

import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from medx_core.categories import Category, Route
from medx_core.job_execution.dispatch import End, answer_here, choose, follow
from medx_core.job_execution.interfaces import TextWriting
from medx_core.jobs.engine import EngineDescription
from medx_core.jobs.status import ItemStatus, JobStatus
from medx_core.models.model_files import model_identity_sha256, model_weight_sha256
from medx_core.questions import Answer, ArmRow, Question, Verdict
from medx_core.recipes import ModelIdentity
from medx_core.settings import Settings
from medx_core.storage.engine import Database
from medx_core.storage.health import HealthStore
from medx_core.storage.jobs import JobStore
from medx_core.storage.outbox import OutboxStore
from medx_core.storage.recipes import RecipeStore
from medx_core.storage.vectors import VectorRecord, VectorStore
from tests.databases import SetClock
from tests.samples import submission

LOADED = """
import sys
import medx_core.cli.ask
print(sorted({"torch", "transformers", "scipy", "pandas", "sklearn"} & set(sys.modules)))
"""


@pytest.fixture
def here(tmp_path: Path) -> Settings:
    """Settings with something in the place of a model's weights."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    return Settings(home=tmp_path, model=str(folder), device="cpu", lease_seconds=5.0, max_wait_seconds=0.0)


def beat(database: Database, settings: Settings, name: str = "w1", **given: object) -> None:
    """Let a worker with these settings say that it lives; `given` replaces parts of what it reports."""
    weights = model_weight_sha256(settings.model, settings.models_folder)
    identity = model_identity_sha256(settings.model, settings.models_folder)
    model = ModelIdentity("tiny", weights, "float32", identity)
    recipe = RecipeStore(database).answering(model, settings)
    engine = EngineDescription("tiny", weights, "cpu float32", "float32", recipe.id, recipe.name, identity)
    detail = {"ready": True, **engine.report(settings), **given}
    HealthStore(database).beat(name, "worker", detail)


def test_a_running_worker_that_answers_alike_is_chosen(sqlite_database: Database, here: Settings) -> None:
    beat(sqlite_database, here)
    choice = choose(here, sqlite_database)
    assert choice.through_worker
    assert "running worker w1" in choice.sentence
    assert not choose(here, sqlite_database, local=True).through_worker


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"ready": False}, "No worker is running"),
        ({"identity_sha256": "ab" * 32}, "another model"),
        ({"number_type": "bfloat16"}, "the number type bfloat16"),
        ({"recipe": "0123456789ab", "recipe_name": "mine"}, "another recipe (mine; here it is unsteered ("),
    ],
)
def test_a_worker_that_differs_is_left_alone(
    sqlite_database: Database, here: Settings, given: dict[str, object], why: str
) -> None:
    beat(sqlite_database, here, **given)
    choice = choose(here, sqlite_database)
    assert not choice.through_worker
    assert why in choice.sentence
    assert choice.sentence.endswith("loading the model in this process.")


def test_other_limits_other_vectors_and_a_second_worker_that_differs_are_noticed(
    sqlite_database: Database, here: Settings
) -> None:
    beat(sqlite_database, here)
    shorter = here.model_copy(update={"max_new_tokens": 7})
    assert "other settings (max new tokens)" in choose(shorter, sqlite_database).sentence
    record = VectorRecord(
        model="tiny",
        model_sha256=model_weight_sha256(here.model, here.models_folder),
        category=Category.TRIAGE,
        layer=1,
        alpha=1.0,
        file="triage.safetensors",
        file_sha256="ab" * 32,
    )
    VectorStore(sqlite_database).register(record)
    assert "another recipe (unsteered; here it is paper" in choose(here, sqlite_database).sentence
    beat(sqlite_database, here)
    assert choose(here, sqlite_database).through_worker
    beat(sqlite_database, here, recipe="", name="w2")
    assert not choose(here, sqlite_database).through_worker


def test_a_worker_that_was_not_seen_lately_is_not_running(
    sqlite_database: Database, here: Settings, clock: SetClock
) -> None:
    clock.advance(-365 * 24 * 3600)
    HealthStore(sqlite_database, clock=clock).beat("w1", "worker", {"ready": True})
    assert "No worker is running" in choose(here, sqlite_database).sentence


def test_choosing_loads_no_model_library() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class AgreeableEngine:
    """Answers TRUE to everything; presses Ctrl-C at one statement, and answers on once the main thread has noticed."""

    description = EngineDescription("agreeable", "0" * 64, "cpu", "float32", recipe="", recipe_name="")

    def __init__(self) -> None:
        self.noticed = threading.Event()

    def notice(self, *_signal: object) -> None:
        """Handle SIGINT in the main thread."""
        self.noticed.set()
        raise KeyboardInterrupt

    def route(self, questions: Sequence[Question]) -> tuple[Route, ...]:
        return tuple(Route(Category.TRIAGE) for _ in questions)

    def verdicts(self, rows: Sequence[ArmRow]) -> tuple[Answer, ...]:
        if any("number 40." in row.question.text for row in rows):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            assert self.noticed.wait(60)
        return tuple(
            Answer(row.arm, "m", "ab", "p", 0.0, Verdict.TRUE, Verdict.TRUE, score=0.9) for row in rows
        )

    def write(self, rows: Sequence[ArmRow]) -> TextWriting:
        raise NotImplementedError

    def refresh_recipe(self) -> None:
        pass


def test_no_thread_outlives_a_job_answered_here_and_no_message_about_it_is_sent(
    sqlite_database: Database, here: Settings
) -> None:
    jobs, before = JobStore(sqlite_database), threading.enumerate()
    for _ in range(20):
        job = jobs.submit(submission(rows=3), chunk_rows=1, local=True)
        end = answer_here(here, sqlite_database, job.public_id, engine=AgreeableEngine(), on_progress=id)
        assert end is End.FINISHED
        assert jobs.get(job.public_id).progress.answered == 3
        assert threading.enumerate() == before
    assert OutboxStore(sqlite_database).unsent() == ()


def test_ctrl_c_ends_a_job_here_with_its_threads_and_keeps_what_was_answered(
    sqlite_database: Database, here: Settings
) -> None:
    jobs, before = JobStore(sqlite_database), threading.enumerate()
    job = jobs.submit(submission(rows=200), chunk_rows=4, local=True)
    settings = here.model_copy(update={"chunk_rows": 4})
    engine = AgreeableEngine()
    earlier = signal.signal(signal.SIGINT, engine.notice)
    try:
        end = answer_here(settings, sqlite_database, job.public_id, engine=engine, on_progress=id)
    finally:
        signal.signal(signal.SIGINT, earlier)
    assert end is End.INTERRUPTED
    assert threading.enumerate() == before
    progress = jobs.get(job.public_id).progress
    assert (progress.queued, progress.running) == (0, 0)
    assert progress.answered >= 32
    assert progress.cancelled > 0


def test_following_ends_with_the_job_or_when_no_worker_is_left(
    sqlite_database: Database, here: Settings
) -> None:
    jobs = JobStore(sqlite_database)
    job = jobs.submit(submission(rows=2), chunk_rows=2)
    seen: list[int] = []
    end = follow(
        here,
        sqlite_database,
        job.public_id,
        on_progress=lambda progress: seen.append(progress.total),
        look_seconds=0.0,
    )
    assert end is End.WORKER_GONE
    assert seen[0] == 2
    assert jobs.get(job.public_id).status is JobStatus.QUEUED, "the job goes on elsewhere"
    jobs.cancel(job.public_id)
    assert follow(here, sqlite_database, job.public_id, on_progress=id) is End.FINISHED


def test_a_fault_while_following_cancels_the_job(sqlite_database: Database, here: Settings) -> None:
    jobs = JobStore(sqlite_database)
    job = jobs.submit(submission(rows=2), chunk_rows=2)

    def fail(_progress: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        follow(here, sqlite_database, job.public_id, on_progress=fail)
    assert {item.status for item in jobs.every_item(job.public_id)} == {ItemStatus.CANCELLED}
