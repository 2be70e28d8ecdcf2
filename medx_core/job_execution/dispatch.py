"""Where a command's questions are answered: by a running worker that answers as this process would, or right here.

Knows no torch: whether a worker is there is settled before anything heavy is imported.
"""

import secrets
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import count
from pathlib import Path
from typing import Any

from medx_core.errors import ModelUnavailable, RecipeUnusable
from medx_core.job_execution.batching import MicroBatcher
from medx_core.job_execution.executor import JobExecutor
from medx_core.job_execution.interfaces import Engine, Lane
from medx_core.job_execution.leases import LeaseKeeper, LeaseTerms
from medx_core.job_execution.scheduling import BatchLimits
from medx_core.jobs.engine import answer_settings
from medx_core.jobs.messages import AnswerRequest
from medx_core.jobs.snapshots import Progress
from medx_core.jobs.status import UNFINISHED
from medx_core.models.model_files import model_identity_sha256, model_weight_sha256
from medx_core.recipes import ModelIdentity
from medx_core.settings import Settings
from medx_core.storage.engine import Database
from medx_core.storage.health import HealthStore, ProcessHealth
from medx_core.storage.jobs import JobStore
from medx_core.storage.leases import LeaseStore
from medx_core.storage.recipes import RecipeRecord, RecipeStore

# Enough requests in hand that the engine always finds a full micro-batch waiting.
REQUESTS_AT_ONCE = 3
LOOK_SECONDS = 0.1
LOOKS_PER_LOOK_FOR_WORKER = 20
LOOK_AGAIN_SECONDS = 0.5
# After Ctrl-C: long enough for a worker to end a forward pass, short enough for a person.
LET_GO_SECONDS = 15.0

NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")

OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Choice:
    """Where a command's questions are answered, and the sentence that tells the person so.

    `report` is what the worker that was chosen says of its engine, empty where none was.
    """

    through_worker: bool
    sentence: str
    report: Mapping[str, Any] = field(default_factory=dict)


def choose(settings: Settings, database: Database, *, local: bool = False) -> Choice:
    """Choose a running worker if all live ones have the same model, recipe and number type as these settings.

    Several workers that differ share one queue, so none of them can be chosen; `local` chooses none at all.

    Raises:
        RecipeUnusable: the recipe in use cannot answer, neither here nor by a worker.
    """
    loading = "loading the model in this process."
    if local or not _live_workers(settings, database):
        refuse_unusable_recipe(settings, database)
    if local:
        return Choice(through_worker=False, sentence=f"As --local says, {loading}")
    workers = [worker for worker in _live_workers(settings, database) if worker.detail.get("ready")]
    if not workers:
        return Choice(through_worker=False, sentence=f"No worker is running: {loading}")
    for worker in workers:
        if difference := _difference(worker, settings, database):
            return Choice(
                through_worker=False, sentence=f"The running worker answers with {difference}: {loading}"
            )
    return Choice(
        through_worker=True,
        sentence=f"Answered by the running worker {workers[0].name}, which has the same model, recipe and number type.",
        report=workers[0].detail,
    )


def refuse_unusable_recipe(settings: Settings, database: Database) -> None:
    """Refuse to load a model for a recipe that cannot answer, where that is known before torch is.

    Raises:
        RecipeUnusable: the recipe in use was made for another model, or one of its vectors cannot be used here.
    """
    types = number_types(settings)
    if len(types) > 1:
        return  # only torch knows which; the engine says the same
    with suppress(ModelUnavailable):  # whoever loads it says so
        model = ModelIdentity(
            settings.model,
            model_weight_sha256(settings.model, settings.models_folder),
            types[0],
            model_identity_sha256(settings.model, settings.models_folder),
        )
        store = RecipeStore(database)
        record = store.answering(model, settings)
        if record.is_promoted and (reason := store.why_unusable(record, model, settings.vectors_folder)):
            raise RecipeUnusable(record.id, record.name, reason)


def _live_workers(settings: Settings, database: Database) -> tuple[ProcessHealth, ...]:
    return HealthStore(database).live_workers(seen_within_seconds=settings.worker_seen_seconds)


def _difference(worker: ProcessHealth, settings: Settings, database: Database) -> str:
    """Return in what this worker differs from what these settings would load; empty where it does not."""
    try:
        weight_sha256 = model_weight_sha256(settings.model, settings.models_folder)
        identity_sha256 = model_identity_sha256(settings.model, settings.models_folder)
    except ModelUnavailable:
        return f"another model than {settings.model}"
    if worker.detail.get("identity_sha256") != identity_sha256:
        return f"another model than {settings.model}"
    number_type = str(worker.detail.get("number_type"))
    if number_type not in number_types(settings):
        return f"the number type {number_type}, which differs from this command's"
    model = ModelIdentity(settings.model, weight_sha256, number_type, identity_sha256)
    return _other_recipe(worker, RecipeStore(database).answering(model, settings)) or _other_settings(
        worker, settings
    )


def _other_recipe(worker: ProcessHealth, here: RecipeRecord) -> str:
    if worker.detail.get("recipe") == here.id:
        return ""
    told = worker.detail.get("recipe_name") or "unknown"
    return f"another recipe ({told}; here it is {here.shown})"


def _other_settings(worker: ProcessHealth, settings: Settings) -> str:
    reported = worker.detail.get("settings") or {}
    differing = [
        name.replace("_", " ")
        for name, value in answer_settings(settings).items()
        if reported.get(name) != value
    ]
    return f"other settings ({', '.join(differing)})" if differing else ""


def number_types(settings: Settings) -> tuple[str, ...]:
    """Return the number types that these settings may mean here, as far as can be told without torch.

    `auto` is float32 on the CPU and one of two 16-bit types on a GPU, whichever the GPU computes with.
    """
    if settings.dtype != "auto":
        return (settings.dtype,)
    on_gpu = settings.device.startswith("cuda") or (settings.device == "auto" and NVIDIA_DRIVER.exists())
    return ("bfloat16", "float16") if on_gpu else ("float32",)


class End(Enum):
    """How the work on a job ended."""

    FINISHED = auto()
    INTERRUPTED = auto()
    WORKER_GONE = auto()


def follow(
    settings: Settings,
    database: Database,
    job_id: str,
    *,
    on_progress: OnProgress,
    look_seconds: float = LOOK_SECONDS,
) -> End:
    """Wait until workers have finished the job, or until none is seen any more.

    Ctrl-C and faults cancel the job; what was answered stays.
    """
    jobs, pause = JobStore(database), threading.Event()
    end = End.FINISHED
    try:
        for looks in count(1):
            if _is_finished(jobs, job_id, on_progress):
                return end
            if looks % LOOKS_PER_LOOK_FOR_WORKER == 0 and not _live_workers(settings, database):
                end = End.WORKER_GONE
                return end
            pause.wait(look_seconds)
    except KeyboardInterrupt:
        end = End.INTERRUPTED
    finally:
        if end is not End.WORKER_GONE:
            jobs.cancel(job_id)  # without effect on a finished job
    for _ in range(round(LET_GO_SECONDS / LOOK_SECONDS)):
        if _is_finished(jobs, job_id, on_progress):
            break
        pause.wait(LOOK_SECONDS)
    return end


def answer_here(
    settings: Settings, database: Database, job_id: str, *, engine: Engine, on_progress: OnProgress
) -> End:
    """Answer a job in this process; all its threads have ended when this returns.

    Ctrl-C and faults cancel the job: the forward pass under way ends, and what was answered stays.
    """
    leases = LeaseStore(database)
    terms = LeaseTerms(f"command-{secrets.token_hex(4)}", settings.lease_seconds, settings.max_attempts)
    answerer = MicroBatcher(lambda: engine, BatchLimits(settings.max_batch_rows, settings.max_wait_seconds))
    keeper = LeaseKeeper(leases, terms)
    executor = JobExecutor(leases, answerer, keeper, terms)
    answerer.start()
    keeper.start()
    try:
        answer_job(
            executor, JobStore(database), job_id, chunk_rows=settings.chunk_rows, on_progress=on_progress
        )
    except KeyboardInterrupt:
        return End.INTERRUPTED
    finally:
        # A thread of the engine that outlives the interpreter brings the whole process down with status 134.
        with _without_ctrl_c():
            answerer.close(timeout_seconds=None)
            keeper.stop()
    return End.FINISHED


def answer_job(
    executor: JobExecutor, jobs: JobStore, job_id: str, *, chunk_rows: int, on_progress: OnProgress
) -> None:
    """Answer a job's items until none is left; those that a worker holds are waited for."""
    pause = threading.Event()
    threads = ThreadPoolExecutor(REQUESTS_AT_ONCE, thread_name_prefix="request")
    try:
        before = 0
        while left := [item.id for item in jobs.every_item(job_id) if item.status in UNFINISHED]:
            if len(left) == before:
                pause.wait(LOOK_AGAIN_SECONDS)
            before = len(left)
            requests = [
                AnswerRequest(job_id=job_id, item_ids=tuple(left[start : start + chunk_rows]))
                for start in range(0, len(left), chunk_rows)
            ]
            waiting = {threads.submit(executor.run, request, lane=Lane.BATCH) for request in requests}
            while waiting:
                done, waiting = wait(waiting, timeout=LOOK_SECONDS)
                for future in done:
                    future.result()
                _is_finished(jobs, job_id, on_progress)
    finally:
        with _without_ctrl_c():
            executor.stop()
            try:
                jobs.cancel(job_id)  # without effect on a finished job
            finally:
                threads.shutdown(cancel_futures=True)


def _is_finished(jobs: JobStore, job_id: str, on_progress: OnProgress) -> bool:
    progress = jobs.get(job_id).progress
    on_progress(progress)
    return progress.finished == progress.total


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Ignore Ctrl-C inside the block, where threads are ended: pressed twice, it must not leave one behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
