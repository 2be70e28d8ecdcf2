"""`medx batch` as a process: through the queue of a running worker, stopped by Ctrl-C, or told what is missing."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medx_core.cli.app import app
from medx_core.errors import BadInput
from medx_core.jobs.status import JobStatus
from medx_core.settings import CHECKOUT, settings
from tests.faults.harness import Installation, installation
from tests.result_files import read_results
from tests.waiting import SECONDS, until

MEDX = str(Path(sys.executable).with_name("medx"))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    home = tmp_path_factory.mktemp("home")
    weights = home / "models" / settings().model / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"the same weights for the worker and for the command")
    with installation(home) as started:
        yield started


def command(home: Path, *arguments: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "MEDX_HOME": str(home), "DATABASE_URL": "", "REDIS_URL": ""}
    return subprocess.Popen(
        [MEDX, "batch", *arguments],
        cwd=CHECKOUT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background has them ignore Ctrl-C, and a child would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def question_file(folder: Path, rows: int, *, held: tuple[int, str] = (0, "")) -> Path:
    path = folder / "in.csv"
    texts = {row: f"Statement {row}." for row in range(1, rows + 1)}
    texts |= dict([held]) if held[0] else {}
    lines = [f"q{row},{text},{'TRUE' if row % 2 else 'FALSE'},note {row}" for row, text in texts.items()]
    path.write_text("\n".join(["id,question,answer,remark", *lines, "empty,,TRUE,no question"]))
    return path


def test_a_file_goes_through_the_queue_of_a_running_worker_with_the_same_model_and_recipe(
    running: Installation, tmp_path: Path
) -> None:
    home, out = running.stack.settings.home, tmp_path / "out.csv"
    with command(home, str(question_file(tmp_path, 30)), "-o", str(out), "--json") as process:
        printed, told = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, told
    summary = json.loads(printed)
    assert summary["through"] == "through the queue"
    assert (summary["rows"], summary["answered"], len(summary["problems"])) == (30, 30, 1)
    assert "not taken: row 31" in told
    assert f"Answered by the running worker {running.stack.worker_name}" in told
    assert summary["accuracy"]["steered"]["value"] == 0.5
    results = read_results(out)
    assert [(row.row, row.arm) for row in results[:3]] == [(1, "steered"), (1, "unsteered"), (2, "steered")]
    assert len(results) == 60
    assert {row.model for row in results} == {"directed"}
    assert results[0].carried["remark"] == "note 1"
    assert {path.name for path in tmp_path.iterdir()} == {"in.csv", "out.csv"}, (
        "a part of a table is left behind"
    )


def test_ctrl_c_cancels_the_job_and_writes_what_was_answered(running: Installation, tmp_path: Path) -> None:
    home, out, hold = running.stack.settings.home, tmp_path / "out.csv", running.hold()
    # Of chunks of 32 rows four are in hand at a time: at the 240th some are finished, and at most 352 rows begun.
    questions = question_file(tmp_path, 600, held=(240, hold.question))
    with command(home, str(questions), "-o", str(out)) as process:
        hold.wait_reached()
        [job] = running.jobs.recent(limit=1)
        process.send_signal(signal.SIGINT)
        until(lambda: running.progress(job.public_id).cancelled > 0, "the job is cancelled")
        hold.release()
        printed, told = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, told
    assert "rows were cancelled" in printed
    assert told.strip().splitlines()[-1] == "medx: stopped by Ctrl-C."
    progress = running.wait_finished(job.public_id)
    assert running.job(job.public_id).status is JobStatus.CANCELLED
    assert progress.answered >= 128
    assert progress.cancelled > 200
    assert len(read_results(out)) == 1200


def test_a_question_is_answered_by_the_running_worker_unless_the_recipe_differs(
    running: Installation,
) -> None:
    def ask(**environment: str) -> "subprocess.CompletedProcess[str]":
        own = {
            "MEDX_HOME": str(running.stack.settings.home),
            "DATABASE_URL": "",
            "REDIS_URL": "",
            **environment,
        }
        arguments = [MEDX, "ask", "Aspirin is a drug.", "--arm", "both", "--json"]
        return subprocess.run(
            arguments, env={**os.environ, **own}, capture_output=True, text=True, check=False, timeout=SECONDS
        )

    done = ask()
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert (shown["status"], shown["question"], shown["route"]["category"]) == (
        "answered",
        "Aspirin is a drug.",
        "literature",
    )
    assert [answer["arm"] for answer in shown["answers"]] == ["steered", "unsteered"]
    assert running.job(shown["job"]).status is JobStatus.DONE
    other = ask(MEDX_MAX_NEW_TOKENS="7")
    assert other.returncode == 1  # the stand-in for the weights cannot be loaded
    assert "answers with other settings (max new tokens): loading the model in this process." in other.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("no-such.csv", "-o", "out.csv"), "no-such.csv: The file cannot be opened"),
        (("in.csv", "-o", "no/such/folder/out.csv"), "cannot be written"),
        (("in.csv", "-o", "out.csv", "--arm", "all"), "choose steered, unsteered or both"),
        (("in.csv", "-o", "out.csv", "--arms", "all"), "choose steered, unsteered or both"),
        (("in.csv", "-o", "out.csv", "--category", "spam"), "There is no category 'spam'"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence_before_anything_is_stored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    question_file(tmp_path, 2)
    monkeypatch.setenv("MEDX_HOME", str(tmp_path / "home"))
    settings.cache_clear()
    placed = [str(tmp_path / part) if part.endswith(".csv") else part for part in arguments]
    fault = CliRunner().invoke(app, ["batch", *placed]).exception
    settings.cache_clear()
    assert isinstance(fault, BadInput)
    assert sentence in str(fault)
    assert not (tmp_path / "home").exists()


def test_without_worker_and_model_the_reason_is_said(tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "out.csv"
    with command(home, str(question_file(tmp_path, 2)), "-o", str(out)) as process:
        _, told = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert "No worker is running: loading the model in this process." in told
    assert "run `medx models pull smollm2-135m`" in told.strip().splitlines()[-1]
    assert not out.exists()
