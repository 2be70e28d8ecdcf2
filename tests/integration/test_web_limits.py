"""Rate limits across web processes, on a real broker and without one."""

import threading

import pytest

from web.limits import AttemptCounts, per_hour, per_minute

NOBODY_LISTENS = "redis://127.0.0.1:1/0"


def test_two_web_processes_share_one_limit(broker_url):
    first, second = (per_minute(AttemptCounts(broker_url), "shared", 3) for _ in range(2))
    assert [limit.take("asa") for limit in (first, second, first)] == [True] * 3
    assert not second.take("asa")
    assert second.take("ada")
    assert first.counts.is_shared()


def test_an_attempt_given_back_in_one_process_is_free_in_the_other(broker_url):
    first, second = (per_hour(AttemptCounts(broker_url), "given back", 1) for _ in range(2))
    assert first.take("asa")
    first.give_back("asa")
    assert second.take("asa")
    assert not first.take("asa")


@pytest.mark.parametrize("away", [False, True])
def test_attempts_at_the_same_moment_do_not_pass_the_limit(broker_url, away):
    limit = per_minute(AttemptCounts(NOBODY_LISTENS if away else broker_url), "at once", 5)
    start, allowed = threading.Barrier(20), []

    def attempt() -> None:
        start.wait()
        allowed.append(limit.take("asa"))

    threads = [threading.Thread(target=attempt) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(allowed) == 5


def test_without_a_broker_limits_hold_within_the_process_and_health_can_tell():
    limit = per_minute(AttemptCounts(NOBODY_LISTENS), "away", 2)
    assert [limit.take("asa") for _ in range(3)] == [True, True, False]
    assert not limit.counts.is_shared()
    assert not AttemptCounts("").is_shared()
