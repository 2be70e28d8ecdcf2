"""`medx batch` as a process: through the queue of a running worker, stopped by Ctrl-C, or told what is missing."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from medx_core.data.result_files import read_results
from medx_core.jobs.status import JobStatus
from medx_core.settings import CHECKOUT
from tests.faults.harness import Installation, eventually, installation

MEDX = str(Path(sys.executable).with_name("medx"))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAKE_ROW_SECONDS", "0.01")
        with installation(tmp_path_factory.mktemp("home")) as started:
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


def question_file(folder: Path, rows: int) -> Path:
    path = folder / "in.csv"
    lines = [
        f"q{row},Statement {row}.,{'TRUE' if row % 2 else 'FALSE'},note {row}" for row in range(1, rows + 1)
    ]
    path.write_text("\n".join(["id,question,answer,remark", *lines, "empty,,TRUE,no question"]))
    return path


def test_a_file_goes_through_the_queue_of_a_running_worker(running: Installation, tmp_path: Path) -> None:
    home, out = running.stack.settings.home, tmp_path / "out.csv"
    with command(home, str(question_file(tmp_path, 30)), "-o", str(out), "--json") as process:
        printed, told = process.communicate(timeout=90)
    assert process.returncode == 0, told
    summary = json.loads(printed)
    assert summary["through"] == "through the queue"
    assert (summary["rows"], summary["answered"], len(summary["problems"])) == (30, 30, 1)
    assert "not taken: row 31" in told
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
    home, out = running.stack.settings.home, tmp_path / "out.csv"
    with command(home, str(question_file(tmp_path, 400)), "-o", str(out)) as process:
        eventually(lambda: running.jobs.recent(limit=1)[0].progress.total == 400, "the job is submitted")
        [job] = running.jobs.recent(limit=1)
        running.wait_until(job.public_id, lambda progress: progress.answered >= 10, "some rows are answered")
        process.send_signal(signal.SIGINT)
        printed, told = process.communicate(timeout=90)
    assert process.returncode == 130, told
    assert "rows were cancelled" in printed
    progress = running.wait_finished(job.public_id)
    assert running.job(job.public_id).status is JobStatus.CANCELLED
    assert progress.cancelled > 200
    assert len(read_results(out)) == 800


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("no-such.csv", "-o", "out.csv"), "no-such.csv: The file cannot be opened"),
        (("in.csv", "-o", "no/such/folder/out.csv"), "cannot be written"),
        (("in.csv", "-o", "out.csv", "--arms", "all"), "choose steered, unsteered or both"),
        (("in.csv", "-o", "out.csv", "--category", "spam"), "There is no category 'spam'"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence_before_anything_is_stored(
    running: Installation, tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    question_file(tmp_path, 2)
    before = running.jobs.recent(limit=1)
    placed = [str(tmp_path / part) if part.endswith(".csv") else part for part in arguments]
    with command(running.stack.settings.home, *placed) as process:
        _, told = process.communicate(timeout=90)
    assert process.returncode == 1
    assert sentence in told.strip().splitlines()[-1]
    assert running.jobs.recent(limit=1)[:1] == before


def test_without_worker_and_model_the_job_is_cancelled_and_the_reason_said(tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "out.csv"
    with command(home, str(question_file(tmp_path, 2)), "-o", str(out)) as process:
        _, told = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "run `medx models pull smollm2-135m`" in told.strip().splitlines()[-1]
    assert not out.exists()
