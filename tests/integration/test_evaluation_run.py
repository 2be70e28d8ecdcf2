"""One evaluation under its lease: progress and result are stored, and it stops when it is not wanted any more."""

import os
import threading
from functools import partial

import pytest

from medx_core.errors import BadInput, Cancelled
from medx_core.evaluation.request import EvaluationRequest
from medx_core.job_execution.evaluation_run import (
    BROKEN,
    STUCK,
    STUCK_SECONDS,
    Measured,
    read_statements,
    run_evaluation,
)
from medx_core.settings import Settings
from medx_core.storage.kept_files import KEPT_SECONDS, keep, remove_unneeded
from medx_core.storage.runs import RunProgress, RunStatus, RunStore

RESULT = {"conclusion": "Nobody can say.", "n_train": 3}


@pytest.fixture
def runs(sqlite_database):
    return RunStore(sqlite_database)


@pytest.fixture
def leased(runs):
    return runs.begin("evaluation", EvaluationRequest("x.csv", seed=7).as_json(), owner="w", seconds=60)


def run(runs, leased, evaluate, **given):
    # So short a lease is renewed every few milliseconds, so that nothing here waits.
    return run_evaluation(runs, leased, evaluate, lease_seconds=0.03, **given)


def test_an_evaluation_is_given_its_request_and_its_last_progress_and_result_are_stored(runs, leased):
    def evaluate(request, on_stage):
        on_stage("states", 2, 9)
        return Measured(RESULT | {"seed": request.seed}, b"items")

    assert run(runs, leased, evaluate).result == RESULT | {"seed": 7}
    assert runs.items(leased.public_id) == b"items"
    stored = runs.get(leased.public_id)
    assert (stored.status, stored.result) == (RunStatus.DONE, RESULT | {"seed": 7})
    assert stored.progress == RunProgress("states", 2, 9)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(BadInput("The file is empty."), "The file is empty."), (ZeroDivisionError("secret"), BROKEN)],
)
def test_why_an_evaluation_failed_is_stored_in_a_sentence(runs, leased, fault, reason):
    def evaluate(_request, _on_stage):
        raise fault

    with pytest.raises(type(fault)):
        run(runs, leased, evaluate)
    stored = runs.get(leased.public_id)
    assert (stored.status, stored.reason) == (RunStatus.FAILED, reason)


def test_a_result_that_is_not_json_is_not_stored(runs, leased):
    with pytest.raises(ValueError, match="JSON"):
        run(runs, leased, lambda _request, _on_stage: Measured({"accuracy": float("nan")}))
    assert runs.get(leased.public_id).reason == BROKEN


def test_interrupting_the_command_cancels_its_run(runs, leased):
    def evaluate(_request, _on_stage):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(runs, leased, evaluate)
    assert runs.get(leased.public_id).status is RunStatus.CANCELLED


def until_told(on_stage):
    """Report the same progress until the run is not wanted any more."""
    pause = threading.Event()
    while not pause.wait(0.002):
        on_stage("states", 1, 2)


def test_a_run_that_is_cancelled_or_taken_over_stops_at_its_next_report(runs, leased):
    def cancelled_meanwhile(_request, on_stage):
        runs.cancel(leased.public_id)
        until_told(on_stage)

    with pytest.raises(Cancelled):
        run(runs, leased, cancelled_meanwhile)
    assert runs.get(leased.public_id).status is RunStatus.CANCELLED


def test_a_result_that_comes_after_the_run_was_cancelled_is_dropped(runs, leased):
    def evaluate(_request, _on_stage):
        runs.cancel(leased.public_id)
        return Measured(RESULT)

    with pytest.raises(Cancelled):
        run(runs, leased, evaluate)
    assert runs.get(leased.public_id).result is None


def test_a_run_that_reports_no_progress_for_hours_has_failed_and_one_that_moves_has_not(runs, leased):
    now = [0.0]
    failed = threading.Event()

    def evaluate(_request, on_stage):
        for _ in range(3):
            now[0] += STUCK_SECONDS - 1
            on_stage("states", 1, 2)
        assert runs.held_by("w")
        now[0] += STUCK_SECONDS + 1
        while runs.held_by("w"):
            failed.wait(0.002)
        on_stage("states", 2, 2)

    with pytest.raises(Cancelled):
        run(runs, leased, evaluate, clock=lambda: now[0])
    stored = runs.get(leased.public_id)
    assert (stored.status, stored.reason) == (RunStatus.FAILED, STUCK)


def test_a_file_kept_on_another_machine_is_named_with_what_to_share(tmp_path):
    request = EvaluationRequest("0123.csv", name="my statements.csv", kept=True)
    with pytest.raises(
        BadInput, match=r"^The file my statements\.csv is not on this machine; .* MEDX_HOME\.$"
    ):
        read_statements(Settings(home=tmp_path), request)


def test_a_file_goes_a_day_after_it_came_once_no_evaluation_needs_it(runs, tmp_path):
    folder, names = tmp_path / "evaluations", {}
    for name in ("needed", "over", "young"):
        file = tmp_path / f"{name}.csv"
        file.write_text(name)
        names[name] = keep(file, folder)
        age = 0 if name == "young" else KEPT_SECONDS + 60
        os.utime(folder / names[name], (0, (folder / names[name]).stat().st_mtime - age))
    (folder / "notes.csv").write_text("not ours")
    os.utime(folder / "notes.csv", (0, 0))
    now = (folder / names["young"]).stat().st_mtime + 1

    def asked(name):
        request = EvaluationRequest(name, kept=True).as_json()
        return runs.request("evaluation", request, requested_by="ada")

    needed, over = asked(names["needed"]), asked(names["over"])
    runs.cancel(over.public_id)
    tidy = partial(remove_unneeded, folder, now=now)
    assert tidy(runs.list()) == 1
    assert {file.name for file in folder.iterdir()} == {names["needed"], names["young"], "notes.csv"}
    runs.cancel(needed.public_id)
    assert tidy(runs.list()) == 1
    assert {file.name for file in folder.iterdir()} == {names["young"], "notes.csv"}
