"""Runs: asked for with a message, leased by one process under a fence, never stored twice or left for ever."""

from functools import partial

import pytest

from medx_core.errors import BadInput, LeaseLost, NotFound
from medx_core.jobs.messages import EVALUATION_QUEUE
from medx_core.storage.outbox import OutboxStore
from medx_core.storage.runs import COMMAND_ENDED, LeasedRun, Run, RunProgress, RunStatus, RunStore
from tests.databases import at_once
from tests.evaluation_results import synthetic_result

KIND = "evaluation"
MODEL = "a5" * 32


@pytest.fixture
def runs(database, clock):
    return RunStore(database, clock=clock)


def lease(runs: RunStore, run: Run, owner: str) -> LeasedRun | None:
    return runs.lease(run.public_id, owner=owner, seconds=30, max_attempts=3)


def asked(runs: RunStore) -> Run:
    return runs.request(KIND, {"seed": 1}, requested_by="ada")


def begun(runs: RunStore, kind: str = KIND) -> LeasedRun:
    return runs.begin(kind, {"seed": 1}, owner="command", seconds=30)


def sent(outbox: OutboxStore) -> list[str]:
    """Send what waits; return the runs of the messages."""
    messages = outbox.unsent()
    assert {message.queue for message in messages} <= {EVALUATION_QUEUE}
    outbox.mark_sent([message.id for message in messages])
    return [message.request.run_id for message in messages]


def test_a_commands_run_is_kept_with_its_settings_and_its_result_and_sent_to_nobody(runs, outbox, clock):
    leased = begun(runs)
    begun(runs, "bench")
    started = runs.get(leased.public_id)
    assert (started.status, started.result, started.settings) == (RunStatus.RUNNING, None, {"seed": 1})
    clock.advance(5)
    result = {"accuracy": {"value": 0.5}, "conclusion": "Nobody can say."}
    runs.finish(leased, result, items=b"rows")
    [listed] = runs.list(KIND)
    finished = runs.get(leased.public_id)
    assert (finished.result, runs.items(leased.public_id)) == (result, b"rows")
    assert (finished.status, finished.finished_at) == (RunStatus.DONE, clock.now)
    assert (listed.result, listed.summary.conclusion) == (None, "Nobody can say.")
    assert [run.kind for run in runs.list()] == ["bench", KIND]
    assert sent(outbox) == []


def test_what_there_is_not_is_said_so(runs):
    nothing = LeasedRun("nothing", {}, "w", 1)
    for act in (partial(runs.finish, result={}), partial(runs.fail, reason="x"), runs.renew, runs.give_back):
        with pytest.raises(NotFound):
            act(nothing, **({"seconds": 30} if act == runs.renew else {}))
    for act in (runs.get, runs.cancel):
        with pytest.raises(NotFound):
            act("nothing")


def test_a_run_is_sent_with_its_request_and_leased_by_one_worker(runs, outbox):
    run = asked(runs)
    assert sent(outbox) == [run.public_id]
    leases = at_once(*(partial(lease, runs, run, f"w{number}") for number in range(4)))
    [leased] = [taken for taken in leases if isinstance(taken, LeasedRun)]
    assert runs.held_by(leased.owner) == (leased,)
    assert leases.count(None) == 3


def test_a_run_whose_lease_ran_out_is_sent_again_and_the_first_owners_result_is_dropped(runs, outbox, clock):
    run = asked(runs)
    first = lease(runs, run, "w")
    sent(outbox)
    clock.advance(20)
    assert runs.renew(first, seconds=30, progress=RunProgress("states", 2, 9))
    clock.advance(20)
    assert runs.return_expired(max_attempts=3) == 0
    assert runs.get(run.public_id).progress == RunProgress("states", 2, 9)
    clock.advance(20)
    assert runs.return_expired(max_attempts=3) == 1
    assert sent(outbox) == [run.public_id]
    again = lease(runs, run, "w")  # the same worker: the fence alone tells the leases apart
    stored = runs.get(run.public_id)
    assert (again.fence, stored.attempts, stored.progress) == (2, 2, None)
    assert not runs.renew(first, seconds=30)
    assert runs.held_by("w") == (again,)
    for late in (partial(runs.finish, first, {}), partial(runs.fail, first, "late")):
        with pytest.raises(LeaseLost):
            late()
    runs.finish(again, {"helps": None})
    assert runs.get(run.public_id).result == {"helps": None}


def test_a_message_that_comes_again_takes_a_run_over_only_when_its_lease_ran_out(runs, clock):
    run = asked(runs)
    assert lease(runs, run, "first") is not None
    assert lease(runs, run, "second") is None
    clock.advance(31)
    taken = lease(runs, run, "second")
    assert taken is not None
    runs.finish(taken, {})
    assert lease(runs, run, "third") is None


def test_after_three_lost_workers_a_run_has_failed_in_words(runs, clock):
    run = asked(runs)
    for attempt in range(3):
        assert lease(runs, run, f"w{attempt}") is not None
        clock.advance(31)
        runs.return_expired(max_attempts=3)
    failed = runs.get(run.public_id)
    assert (failed.status, failed.finished_at) == (RunStatus.FAILED, clock.now)
    assert failed.reason.startswith("Its process ended 3 times before it was finished")
    assert lease(runs, run, "w3") is None


def test_a_worker_that_stops_in_good_order_gives_its_run_back_without_counting_the_attempt(runs, outbox):
    run = asked(runs)
    for attempt in range(5):
        assert sent(outbox) == [run.public_id]
        runs.give_back(lease(runs, run, f"w{attempt}"))
    waiting = runs.get(run.public_id)
    assert (waiting.status, waiting.attempts, waiting.owner) == (RunStatus.QUEUED, 0, None)


def test_what_the_broker_lost_is_sent_again_once(runs, outbox, clock):
    waiting, in_hand = asked(runs), asked(runs)
    sent(outbox)
    lease(runs, in_hand, "w")
    assert runs.resend_stale(older_than_seconds=30) == 0  # not old enough
    clock.advance(31)
    assert runs.resend_stale(older_than_seconds=30) == 1
    assert runs.resend_stale(older_than_seconds=30) == 0  # its message waits to be sent
    assert sent(outbox) == [waiting.public_id]


def test_a_cancelled_run_is_left_by_its_owner_and_never_leased(runs):
    waiting, running = asked(runs), begun(runs)
    for run in (waiting, running):
        runs.cancel(run.public_id)
        assert runs.get(run.public_id).status is RunStatus.CANCELLED
        with pytest.raises(BadInput, match="this run is cancelled"):
            runs.cancel(run.public_id)
    assert lease(runs, waiting, "w") is None
    assert not runs.renew(running, seconds=30)
    with pytest.raises(LeaseLost):
        runs.finish(running, {})


def test_a_command_that_went_silent_has_failed_and_its_run_goes_to_no_worker(runs, outbox, clock):
    leased = begun(runs)
    clock.advance(31)
    assert lease(runs, runs.get(leased.public_id), "w") is None
    assert runs.return_expired(max_attempts=3) == 1
    failed = runs.get(leased.public_id)
    assert (failed.status, failed.reason) == (RunStatus.FAILED, COMMAND_ENDED)
    assert sent(outbox) == []


def test_the_latest_finished_evaluation_of_a_recipe_is_found(runs, clock):
    first, second, failed = (begun(runs) for _ in range(3))
    measured = synthetic_result() | {"recipes": {"0123456789ab": "gated"}}
    runs.finish(second, measured)
    clock.advance(1)
    runs.finish(first, measured)
    runs.fail(failed, "No.")
    latest = runs.latest_of_recipe("0123456789ab", MODEL)
    assert latest is not None
    assert (latest.public_id, latest.result) == (first.public_id, None)
    assert latest.summary.n_test == 1077
    assert latest.summary.recipes == measured["recipes"]
    assert runs.latest_of_recipe("0123456789ab", "ef" * 32) is None
    assert runs.latest_of_recipe("another", MODEL) is None
