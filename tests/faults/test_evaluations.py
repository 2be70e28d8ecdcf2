"""Evaluations asked for on a page: a worker runs them in a process of their own, and none is lost or left running."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from medx_core.evaluation.request import EvaluationRequest
from medx_core.settings import Settings
from medx_core.storage.engine import Database
from medx_core.storage.runs import Run, RunStatus, RunStore
from tests.faults.harness import eventually, installation, is_running
from tests.language_models import tiny_network, word_tokenizer
from tests.small_evaluation import write_statements
from workers.evaluations import STUCK, STUCK_SECONDS, TIDY_SECONDS, Evaluations
from workers.kept_files import KEPT_SECONDS

SLEEPS = (sys.executable, "-c", "import signal; signal.pause()")
DIES = (sys.executable, "-c", "import os; os.kill(os.getpid(), 9)")


def asked(runs: RunStore, data: str = "bundled", **given: object) -> Run:
    request = EvaluationRequest(data, **given)
    return runs.request("evaluation", request.as_json(), requested_by="ada")


@pytest.fixture
def runs(sqlite_database: Database) -> RunStore:
    return RunStore(sqlite_database)


class SetSeconds:
    """A clock that stands where a test puts it, and counts how often somebody looked at it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.looks = 0

    def __call__(self) -> float:
        self.looks += 1
        return self.now

    def wait_for_looks(self) -> None:
        """Return once a worker has surely looked since now: one look reads the clock twice at most."""
        wanted = self.looks + 3
        eventually(lambda: self.looks >= wanted, "the worker looks at its clock")


@contextmanager
def worker(
    database: Database, home: Path, command: tuple[str, ...], *, begins: bool = True, **given: object
) -> Iterator[Evaluations]:
    found = Evaluations(
        database, Settings(home=home), owner="here", may_begin=lambda: begins, command=command, **given
    )
    found.start()
    try:
        yield found
    finally:
        found.stop()


def children() -> list[psutil.Process]:
    """The processes of evaluations; the tests have others, the database's server among them."""
    return [child for child in psutil.Process().children() if is_running(child.pid) and _sleeps(child)]


def _sleeps(process: psutil.Process) -> bool:
    try:
        return SLEEPS[-1] in process.cmdline()
    except psutil.Error:  # it has just ended
        return False


def reached(runs: RunStore, run: Run, status: RunStatus) -> Callable[[], bool]:
    return lambda: runs.get(run.public_id).status is status


def test_a_process_that_always_dies_fails_in_words_after_three_attempts(runs, sqlite_database, tmp_path):
    run = asked(runs)
    with worker(sqlite_database, tmp_path, DIES):
        eventually(reached(runs, run, RunStatus.FAILED), "the run has failed")
    failed = runs.get(run.public_id)
    assert failed.reason == (
        "Its process was killed, perhaps because the machine ran out of memory; it was tried 3 times."
    )


def test_cancelling_ends_the_process_and_the_next_run_begins(runs, sqlite_database, tmp_path):
    first, second = asked(runs), asked(runs)
    with worker(sqlite_database, tmp_path, SLEEPS):
        eventually(lambda: len(children()) == 1, "the first process runs")
        [process] = children()
        assert reached(runs, second, RunStatus.QUEUED)()
        runs.cancel(first.public_id)
        eventually(lambda: not is_running(process.pid), "the process has ended")
        eventually(reached(runs, second, RunStatus.RUNNING), "the second run begins")
    assert children() == []


def test_a_worker_that_stops_ends_the_process_and_hands_the_run_back(runs, sqlite_database, tmp_path):
    run = asked(runs)
    with worker(sqlite_database, tmp_path, SLEEPS):
        eventually(lambda: len(children()) == 1, "the process runs")
    assert children() == []
    left = runs.get(run.public_id)
    assert (left.status, left.attempts, left.owner) == (RunStatus.QUEUED, 0, None)


def test_a_process_that_reports_nothing_new_for_hours_is_ended_and_its_run_has_failed(
    runs, sqlite_database, tmp_path
):
    hung, waiting = asked(runs), asked(runs)
    clock = SetSeconds()
    with worker(sqlite_database, tmp_path, SLEEPS, clock=clock):
        eventually(lambda: len(children()) == 1, "the process runs")
        [process] = children()
        clock.wait_for_looks()
        clock.now += STUCK_SECONDS - 1
        clock.wait_for_looks()
        assert reached(runs, hung, RunStatus.RUNNING)()
        clock.now += 2
        eventually(reached(runs, hung, RunStatus.FAILED), "the run has failed")
        assert not is_running(process.pid)
        eventually(reached(runs, waiting, RunStatus.RUNNING), "the next run begins")
    failed = runs.get(hung.public_id)
    assert (failed.reason, failed.attempts) == (STUCK, 1)
    assert failed.reason.startswith("Its process reported no progress for 6 hours and was ended;")


def test_a_slow_process_that_gets_on_is_left_alone(runs, sqlite_database, tmp_path):
    run = asked(runs)
    clock = SetSeconds()
    with worker(sqlite_database, tmp_path, SLEEPS, clock=clock):
        eventually(lambda: len(children()) == 1, "the process runs")
        clock.wait_for_looks()
        owner = runs.get(run.public_id).owner
        for done in range(3):
            clock.now += STUCK_SECONDS - 1
            assert runs.keep(
                run.public_id, owner=owner, progress={"what": "states", "done": done, "total": 3}
            )
            clock.wait_for_looks()
        assert clock.now > 2 * STUCK_SECONDS
        assert reached(runs, run, RunStatus.RUNNING)()


def test_a_file_goes_a_day_after_it_came_once_no_evaluation_needs_it(runs, sqlite_database, tmp_path):
    folder, clock = Settings(home=tmp_path).evaluations_folder, SetSeconds()
    folder.mkdir(parents=True)
    names = {
        "needed": "a" * 32 + ".csv",
        "over": "b" * 32 + ".csv",
        "young": "c" * 32 + ".csv",
        "other": "notes.csv",
    }
    for what, name in names.items():
        file = folder / name
        file.write_text("statement,answer\n")
        age = 0 if what == "young" else KEPT_SECONDS + 60
        os.utime(file, (file.stat().st_atime, file.stat().st_mtime - age))
    needed, over = (asked(runs, names[what], kept=True) for what in ("needed", "over"))
    runs.cancel(over.public_id)
    with worker(sqlite_database, tmp_path, SLEEPS, begins=False, clock=clock):
        eventually(lambda: not (folder / names["over"]).exists(), "what nobody needs is removed at the start")
        runs.cancel(needed.public_id)
        clock.wait_for_looks()
        assert sorted(file.name for file in folder.iterdir()) == sorted(
            names[what] for what in ("needed", "young", "other")
        )
        clock.now += TIDY_SECONDS
        eventually(lambda: not (folder / names["needed"]).exists(), "an hour later it looks again")
    assert sorted(file.name for file in folder.iterdir()) == [names["young"], names["other"]]


def test_a_killed_worker_takes_its_evaluation_along_and_the_next_one_finishes_it(tmp_path):
    home, model = tmp_path / "home", tmp_path / "tiny"
    tiny_network("llama").save_pretrained(model)
    word_tokenizer().save_pretrained(model)
    file = write_statements(tmp_path / "statements.csv", split=True)
    refused = tmp_path / "one_sided.csv"
    refused.write_text("statement,answer\n" + "".join(f"Number {row}.,TRUE\n" for row in range(60)))
    with installation(home, max_attempts=3) as running:
        database = Database(running.stack.settings.database)
        runs = RunStore(database)
        run = asked(runs, str(file), models=(str(model),))
        hopeless = asked(runs, str(refused), models=(str(model),))
        eventually(lambda: runs.get(run.public_id).progress is not None, "the evaluation is under way")
        process_id = running.stack.process_ids["worker"]
        [process] = psutil.Process(process_id).children()
        assert process.nice() == psutil.Process(process_id).nice() + 10
        process.suspend()  # it must not finish between look and kill
        assert runs.get(run.public_id).status is RunStatus.RUNNING
        running.kill("worker")
        process.resume()
        eventually(lambda: not is_running(process.pid), "the evaluation's process ends with its worker")
        eventually(reached(runs, run, RunStatus.DONE), "another worker finishes the run")
        eventually(lambda: runs.get(hopeless.public_id).finished, "the other run ends too")
        done, told = runs.get(run.public_id), runs.get(hopeless.public_id)
        database.close()
    assert done.attempts == 2
    assert done.result is not None
    assert (done.result["n_train"], done.result["n_test"], done.result["data"]) == (110, 40, "statements.csv")
    assert (told.status, told.attempts) == (RunStatus.FAILED, 1)
    assert "needs at least 20" in told.reason
