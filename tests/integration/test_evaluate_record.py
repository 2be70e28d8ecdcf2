"""`medx evaluate` keeps what it ran, what failed and why, and runs what was asked for on a page."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from medx_core.cli.app import app
from medx_core.errors import BadInput, LeaseLost
from medx_core.evaluation.request import EvaluationRequest
from medx_core.settings import settings
from medx_core.storage.engine import open_database
from medx_core.storage.runs import RunStatus, RunStore
from tests.language_models import tiny_network, word_tokenizer
from tests.small_evaluation import write_statements

KIND = "evaluation"


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """The runs of a home with a tiny model."""
    tiny_network("llama").save_pretrained(tmp_path / "tiny")
    word_tokenizer().save_pretrained(tmp_path / "tiny")
    for name, value in (
        ("MEDX_HOME", tmp_path / "home"),
        ("MEDX_MODEL", tmp_path / "tiny"),
        ("DATABASE_URL", ""),
    ):
        monkeypatch.setenv(name, str(value))
    settings.cache_clear()
    database = open_database(settings())
    yield RunStore(database)
    database.close()
    settings.cache_clear()


def evaluate(*arguments: str):
    return CliRunner().invoke(app, ["evaluate", *arguments])


def few_statements(folder: Path) -> Path:
    path = folder / "few.csv"
    path.write_text("statement,answer\n" + "".join(f"Number {row}.,{row % 2 == 0}\n" for row in range(60)))
    return path


def test_a_refused_evaluation_is_kept_with_its_sentence_unless_told_otherwise(runs, tmp_path):
    arguments = ("--data", str(few_statements(tmp_path)))
    assert isinstance(evaluate(*arguments, "--no-store").exception, BadInput)
    assert runs.list(KIND) == ()
    refused = evaluate(*arguments)
    [kept] = runs.list(KIND)
    assert (kept.status, kept.reason) == (RunStatus.FAILED, str(refused.exception))
    assert "needs at least 20" in kept.reason


def test_what_was_asked_for_on_a_page_is_run_and_kept(runs, tmp_path):
    folder = settings().evaluations_folder
    folder.mkdir()
    write_statements(folder / "abc.csv", split=True)
    request = EvaluationRequest("abc.csv", name="mine.csv", kept=True, seed=7)
    run = runs.request(KIND, request.as_json(), requested_by="ada")
    done = evaluate("--run", run.public_id)
    assert done.exit_code == 0, done.output
    kept = runs.get(run.public_id)
    assert (kept.status, kept.requested_by, kept.owner) == (RunStatus.DONE, "ada", None)
    assert kept.progress is not None
    assert kept.summary.items() >= {"data": "mine.csv", "seed": 7, "n_train": 110, "n_test": 40}.items()
    assert kept.result is not None
    assert kept.result["settings"]["preset"] is None
    assert runs.latest_for_model(kept.result["model_sha256"]).public_id == run.public_id
    assert isinstance(evaluate("--run", run.public_id).exception, BadInput)


def test_a_file_that_is_only_on_another_machine_is_told_of(runs):
    run = runs.request(
        KIND, EvaluationRequest("x.csv", name="mine.csv", kept=True).as_json(), requested_by="ada"
    )
    evaluate("--run", run.public_id)
    assert "mine.csv is not on this machine" in runs.get(run.public_id).reason


def test_a_run_taken_over_meanwhile_is_left_to_whoever_has_it(runs, tmp_path):
    request = EvaluationRequest(str(write_statements(tmp_path / "s.csv", split=True)))
    run = runs.request(KIND, request.as_json(), requested_by="ada")
    runs.claim(KIND, owner="other", stale_seconds=60, max_attempts=3)
    late = evaluate("--run", run.public_id, "--owner", "earlier")
    assert late.exit_code == 1
    assert "another worker" in str(late.exception) or isinstance(late.exception, LeaseLost)
    assert (runs.get(run.public_id).status, runs.get(run.public_id).owner) == (RunStatus.RUNNING, "other")
