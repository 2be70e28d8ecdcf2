"""The kill test once more around the real engine: a tiny language model with random weights, a real router."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.stack import Commands
from medx_core.jobs.status import ItemStatus, JobKind
from medx_core.questions import Mode
from tests.faults.harness import BOTH, installation
from tests.language_models import saved_tiny_model
from tests.result_files import read_results

MEDX = str(Path(sys.executable).with_name("medx"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a tiny model; the router is the one that ships."""
    folder = tmp_path_factory.mktemp("home")
    saved_tiny_model(folder)
    return folder


def test_killing_a_real_worker_in_the_middle_of_a_file_loses_and_doubles_nothing(home: Path) -> None:
    # Written answers keep the worker's hands full: their rows are in hand for as many steps as they may have tokens.
    texts = [f"Statement {number}: the patient is well." for number in range(48)]
    with installation(
        home,
        commands=Commands(),
        model=str(home / "tiny"),
        worker_threads=2,
        threads=1,
        max_batch_rows=16,
        max_new_tokens=32,
    ) as running:
        job_id = running.submit(texts, mode=Mode.TEXT)
        running.wait_until(job_id, lambda progress: progress.answered > 0, "some rows are answered")
        held = running.kill_with_rows_in_hand(job_id)
        running.wait_finished(job_id)
        items = running.items(job_id)
        assert {item.status for item in items} == {ItemStatus.ANSWERED}
        assert {tuple(stored.answer.arm for stored in item.answers) for item in items} == {BOTH}
        assert all(stored.answer.tokens is not None for item in items for stored in item.answers)
        assert min(item.attempts for item in items if item.row in held) >= 2
        asked = running.submit(["The patient is well."], kind=JobKind.QUESTION)
        running.wait_finished(asked)
        [question] = running.items(asked)
        assert [stored.answer.score is not None for stored in question.answers] == [True, True]
        assert question.route is not None
        assert sum(question.route.probabilities.values()) > 0.99


def test_without_a_worker_the_batch_command_answers_in_its_own_process(home: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("question,answer\n" + "\n".join(f"Statement {row}.,TRUE" for row in range(40)))
    environment = {
        **os.environ,
        "MEDX_HOME": str(home),
        "MEDX_MODEL": str(home / "tiny"),
        "MEDX_THREADS": "1",
        "DATABASE_URL": "",
        "REDIS_URL": "",
    }
    done = subprocess.run(
        [MEDX, "batch", str(source), "-o", str(out), "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["through"], summary["answered"]) == ("in this process", 40)
    results = read_results(out)
    assert [row.row for row in results] == [row for row in range(1, 41) for _ in BOTH]
    assert {row.model for row in results} == {"tiny"}
