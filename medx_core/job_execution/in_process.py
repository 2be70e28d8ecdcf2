"""Answers a job right here, without a broker: the same leases, micro-batches and storing as in a worker."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from medx_core.job_execution.execution import JobExecutor
from medx_core.job_execution.interfaces import Engine, Lane
from medx_core.job_execution.lease_keeping import LeaseKeeper, LeaseTerms
from medx_core.job_execution.micro_batching import MicroBatcher
from medx_core.job_execution.scheduling import BatchLimits
from medx_core.jobs.messages import AnswerRequest
from medx_core.jobs.status import UNFINISHED
from medx_core.settings import Settings
from medx_core.storage.engine import Database
from medx_core.storage.jobs import JobStore
from medx_core.storage.leases import LeaseStore

# Enough requests in hand that the engine always finds a full micro-batch waiting.
REQUESTS_AT_ONCE = 3
LOOK_AGAIN_SECONDS = 0.5


@contextmanager
def in_process_executor(
    settings: Settings, database: Database, *, owner: str, load_engine: Callable[[], Engine]
) -> Iterator[JobExecutor]:
    """Keep an engine and an executor around it inside the block; `owner` must be unlike any other's.

    Raises:
        ModelUnavailable: or whatever else kept the engine from loading.
    """
    answerer = MicroBatcher(load_engine, BatchLimits(settings.max_batch_rows, settings.max_wait_seconds))
    terms = LeaseTerms(owner, settings.lease_seconds, settings.max_attempts)
    leases = LeaseStore(database)
    keeper = LeaseKeeper(leases, terms)
    answerer.start()
    keeper.start()
    try:
        answerer.ready.result()
        yield JobExecutor(leases, answerer, keeper, terms)
    finally:
        answerer.close()
        keeper.stop()


def answer_job(executor: JobExecutor, jobs: JobStore, job_id: str, *, chunk_rows: int) -> None:
    """Answer a job's items until none is left; those that a worker holds are waited for."""
    pause = threading.Event()
    while left := [item.id for item in jobs.every_item(job_id) if item.status in UNFINISHED]:
        _run_all(executor, _requests(job_id, left, chunk_rows))
        still_left = jobs.get(job_id).progress
        if still_left.total - still_left.finished == len(left):
            pause.wait(LOOK_AGAIN_SECONDS)


def _run_all(executor: JobExecutor, requests: Sequence[AnswerRequest]) -> None:
    with ThreadPoolExecutor(REQUESTS_AT_ONCE, thread_name_prefix="request") as threads:
        for _ in threads.map(lambda request: executor.run(request, lane=Lane.BATCH), requests):
            pass


def _requests(job_id: str, item_ids: Sequence[int], chunk_rows: int) -> list[AnswerRequest]:
    return [
        AnswerRequest(job_id=job_id, item_ids=tuple(item_ids[start : start + chunk_rows]))
        for start in range(0, len(item_ids), chunk_rows)
    ]
