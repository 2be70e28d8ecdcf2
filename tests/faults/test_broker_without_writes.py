"""A broker that answers and takes nothing: the worker stays, and goes on when it is well again."""

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from redis import Redis

from tests.faults.harness import installation
from tests.waiting import until


def out_of_memory(broker: Redis) -> Callable[[], object]:
    broker.config_set("maxmemory", "1")
    return lambda: broker.config_set("maxmemory", "0")


def read_only(broker: Redis) -> Callable[[], object]:
    broker.execute_command("REPLICAOF", "127.0.0.1", "1")  # nobody is there: a replica takes no writes
    return lambda: broker.execute_command("REPLICAOF", "NO", "ONE")


@pytest.mark.parametrize("fault", [out_of_memory, read_only])
def test_a_worker_outlives_a_broker_that_takes_no_writes(
    tmp_path: Path, fault: Callable[[Redis], Callable[[], object]]
) -> None:
    with installation(tmp_path) as running, running.broker() as broker:
        worker = running.stack.process_ids["worker"]
        first = running.submit(["one", "two"])
        running.wait_finished(first)
        mend = fault(broker)
        job = running.submit(["three", "four"])
        # It connects anew, or waits with its outbox, several times over.
        until(lambda: running.worker_log().count("publishing waits") >= 1, "the publisher waits")
        mend()
        assert running.wait_finished(job).answered == 2
        assert running.stack.process_ids["worker"] == worker
        assert psutil.pid_exists(worker)
