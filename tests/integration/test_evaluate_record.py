"""`medx evaluate` keeps what it ran, and goes through an evaluation worker when there is one."""

import json
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medx_core.cli import evaluate as command
from medx_core.cli.app import app
from medx_core.cli.evaluate import IN_PROCESS, THROUGH_WORKER, WORKER_GONE
from medx_core.errors import BadInput
from medx_core.evaluation.request import request_from
from medx_core.job_execution.evaluation_run import EVALUATOR, has_evaluation_worker, worker_detail
from medx_core.settings import settings
from medx_core.storage.engine import open_database
from medx_core.storage.health import HealthStore
from medx_core.storage.runs import RunStatus, RunStore
from tests.evaluation_results import synthetic_result
from tests.small_evaluation import PROMPT, write_statements

KIND = "evaluation"


@pytest.fixture
def database(tiny_home):
    """The database of a home with a tiny model."""
    database = open_database(settings())
    yield database
    database.close()


@pytest.fixture
def runs(database):
    return RunStore(database)


def evaluate(*arguments: str):
    return CliRunner().invoke(app, ["evaluate", *arguments])


def few_statements(folder: Path) -> Path:
    path = folder / "few.csv"
    path.write_text("statement,answer\n" + "".join(f"Number {row}.,{row % 2 == 0}\n" for row in range(60)))
    return path


def test_a_file_that_cannot_be_evaluated_on_is_refused_before_anything_is_stored(runs, tmp_path):
    refused = evaluate("--data", str(few_statements(tmp_path)))
    assert isinstance(refused.exception, BadInput)
    assert "needs at least 20" in str(refused.exception)
    assert runs.list(KIND) == ()


def test_without_a_worker_the_command_evaluates_in_its_own_process_and_keeps_the_run(runs, tmp_path):
    file = write_statements(tmp_path / "mine.csv", split=True)
    done = evaluate("--data", str(file), "--seed", "7", "--prompt", PROMPT)
    assert done.exit_code == 0, done.output
    assert IN_PROCESS in done.stderr
    [kept] = runs.list(KIND)
    assert (kept.status, kept.owner, kept.attempts) == (RunStatus.DONE, None, 0)
    assert kept.progress is not None
    summary = kept.summary
    assert (summary.data, summary.seed, summary.n_train, summary.n_test) == ("mine.csv", 7, 110, 40)
    stored = runs.get(kept.public_id).result
    assert stored["settings"]["preset"] is None
    (recipe,) = stored["recipes"]
    assert runs.latest_of_recipe(recipe, stored["model_sha256"]).public_id == kept.public_id


def test_with_a_running_worker_the_command_submits_the_run_and_writes_the_stored_result(
    runs, database, tmp_path
):
    HealthStore(database).beat("w", EVALUATOR, worker_detail(settings()))
    file, out = write_statements(tmp_path / "mine.csv", split=True), tmp_path / "out.json"
    with pretended_worker(runs, synthetic_result()) as seen:
        done = evaluate("--data", str(file), "--json", str(out), "--report", str(tmp_path / "report"))
    assert done.exit_code == 0, done.output
    assert THROUGH_WORKER in done.stderr
    assert json.loads(out.read_text()) == synthetic_result()
    assert (tmp_path / "report" / "index.html").is_file()
    [request] = seen
    assert (request.name, request.kept, request.models) == ("mine.csv", True, (str(tmp_path / "tiny"),))
    kept = settings().evaluations_folder / request.data
    assert kept.read_bytes() == file.read_bytes()


def test_a_worker_that_is_gone_before_it_began_leaves_the_evaluation_to_the_command(
    runs, monkeypatch, tmp_path
):
    seen = iter([True])
    monkeypatch.setattr(command, "has_evaluation_worker", lambda *_: next(seen, False))
    monkeypatch.setattr(command, "LOOK_SECONDS", 0)
    file = write_statements(tmp_path / "mine.csv", split=True)
    done = evaluate("--data", str(file), "--prompt", PROMPT)
    assert done.exit_code == 0, done.output
    assert done.stderr.index(THROUGH_WORKER) < done.stderr.index(WORKER_GONE)
    assert sorted(run.status for run in runs.list(KIND)) == [RunStatus.CANCELLED, RunStatus.DONE]


def test_a_worker_with_another_number_type_is_not_asked(runs, database, tmp_path):
    detail = worker_detail(settings()) | {"dtype": "bfloat16"}
    HealthStore(database).beat("w", EVALUATOR, detail)
    assert not has_evaluation_worker(settings(), database)


@contextmanager
def pretended_worker(runs, result):
    """Finish each run that is asked for with `result`; yields what was asked for."""
    seen, stopped = [], threading.Event()

    def work():
        while not stopped.wait(0.02):
            for run in runs.list(KIND):
                leased = runs.lease(run.public_id, owner="w", seconds=60, max_attempts=3)
                if leased is not None:
                    seen.append(request_from(leased.settings))
                    runs.finish(leased, result)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield seen
    finally:
        stopped.set()
        thread.join()
