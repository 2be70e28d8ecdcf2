"""Runs: written down by commands, asked for on a page, claimed by one worker, never stored twice or left for ever."""

from functools import partial

import pytest

from medx_core.errors import BadInput, LeaseLost, NotFound
from medx_core.storage.runs import ENDED_UNSAID, Run, RunStatus, RunStore
from tests.databases import at_once
from tests.evaluation_results import synthetic_result

KIND = "evaluation"
MODEL = "a5" * 32


@pytest.fixture
def runs(database, clock):
    return RunStore(database, clock=clock)


def claim(runs: RunStore, owner: str) -> Run | None:
    return runs.claim(KIND, owner=owner, stale_seconds=30, max_attempts=3)


def asked(runs: RunStore) -> Run:
    return runs.request(KIND, {"seed": 1}, requested_by="ada")


def test_a_commands_run_is_kept_with_its_settings_and_its_result(runs, clock):
    started = runs.add(KIND, {"seed": 1})
    runs.add("bench", {})
    assert (started.status, started.result) == (RunStatus.RUNNING, None)
    clock.advance(5)
    runs.finish(started.public_id, {"accuracy": {"value": 0.5}, "conclusion": "Nobody can say."})
    [listed] = runs.list(KIND)
    found = runs.get(started.public_id)
    assert found.result == {"accuracy": {"value": 0.5}, "conclusion": "Nobody can say."}
    assert (found.status, found.finished_at) == (RunStatus.DONE, clock.now)
    assert (listed.result, listed.summary) == (None, {"conclusion": "Nobody can say."})
    assert [run.kind for run in runs.list()] == ["bench", KIND]
    for act in (runs.get, runs.cancel, partial(runs.finish, result={}), partial(runs.fail, reason="x")):
        with pytest.raises(NotFound):
            act("nothing")


def test_what_was_asked_for_first_is_claimed_first_and_by_one_worker(runs):
    first, second = asked(runs), asked(runs)
    found = at_once(*(partial(claim, runs, f"w{number}") for number in range(4)))
    taken = sorted(run.public_id for run in found if isinstance(run, Run))
    assert taken == sorted([first.public_id, second.public_id])
    assert [run for run in found if not isinstance(run, Run)] == [None, None]
    assert claim(runs, "w9") is None


def test_a_run_not_heard_of_is_claimed_again_and_the_first_owners_result_is_dropped(runs, clock):
    run = asked(runs)
    claim(runs, "first")
    clock.advance(20)
    assert runs.keep(run.public_id, owner="first", progress={"what": "states", "done": 2, "total": 9})
    clock.advance(20)
    assert claim(runs, "second") is None
    assert runs.get(run.public_id).progress == {"what": "states", "done": 2, "total": 9}
    clock.advance(20)
    again = claim(runs, "second")
    assert again is not None
    assert (again.public_id, again.attempts, again.progress) == (run.public_id, 2, None)
    assert not runs.keep(run.public_id, owner="first")
    for late in (partial(runs.finish, run.public_id, {}), partial(runs.fail, run.public_id, "late")):
        with pytest.raises(LeaseLost):
            late(owner="first")
    assert runs.finish(run.public_id, {"helps": None}, owner="second").result == {"helps": None}


def test_after_three_lost_workers_a_run_has_failed_in_words(runs, clock):
    run = asked(runs)
    for attempt in range(3):
        assert claim(runs, f"w{attempt}") is not None
        clock.advance(31)
    assert claim(runs, "w3") is None
    failed = runs.get(run.public_id)
    assert (failed.status, failed.finished_at) == (RunStatus.FAILED, clock.now)
    assert failed.reason == "Its worker ended without a word; it was tried 3 times."


def test_a_worker_that_stops_in_good_order_hands_its_run_back_without_counting_the_attempt(runs):
    run = asked(runs)
    for attempt in range(5):
        assert claim(runs, f"w{attempt}") is not None
        assert runs.hand_back(run.public_id, owner=f"w{attempt}").status is RunStatus.QUEUED
    for attempt in range(3):
        assert claim(runs, f"x{attempt}") is not None
        last = runs.hand_back(run.public_id, owner=f"x{attempt}", reason="Its process died.", max_attempts=3)
    assert (last.status, last.reason) == (RunStatus.FAILED, "Its process died; it was tried 3 times.")


def test_a_cancelled_run_is_left_by_its_owner_and_never_claimed(runs):
    waiting, running = asked(runs), runs.add(KIND, {}, owner="command")
    for run in (waiting, running):
        assert runs.cancel(run.public_id).status is RunStatus.CANCELLED
        with pytest.raises(BadInput, match="this run is cancelled"):
            runs.cancel(run.public_id)
    assert claim(runs, "w") is None
    assert not runs.keep(running.public_id, owner="command")
    with pytest.raises(LeaseLost):
        runs.finish(running.public_id, {}, owner="command")


def test_a_command_that_went_silent_has_failed_and_its_run_goes_to_no_worker(runs, clock):
    run = runs.add(KIND, {}, owner="command")
    runs.add("bench", {})
    clock.advance(31)
    assert claim(runs, "w") is None
    assert (runs.get(run.public_id).status, runs.get(run.public_id).reason) == (
        RunStatus.FAILED,
        ENDED_UNSAID,
    )
    assert runs.list("bench")[0].status is RunStatus.RUNNING


def test_a_waiting_run_may_be_begun_by_a_command_once(runs):
    run = asked(runs)
    assert runs.begin(run.public_id, owner="command").owner == "command"
    with pytest.raises(BadInput, match="does not wait"):
        runs.begin(run.public_id, owner="other")


def test_the_latest_finished_evaluation_of_a_model_is_found(runs, clock):
    first, second, failed = (runs.add(KIND, {}) for _ in range(3))
    runs.finish(second.public_id, synthetic_result())
    clock.advance(1)
    runs.finish(first.public_id, synthetic_result())
    runs.fail(failed.public_id, "No.")
    latest = runs.latest_for_model(MODEL)
    assert latest is not None
    assert (latest.public_id, latest.result) == (first.public_id, None)
    assert latest.summary["n_test"] == 1077
    assert runs.latest_for_model("ef" * 32) is None
    assert runs.latest_for_model("") is None
