"""Follows a job from the database until it is finished, answering it here where no worker does."""

import secrets
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from medx_core.job_execution.in_process import answer_job, in_process_executor
from medx_core.job_execution.lanes import Engine
from medx_core.models.pulling import refuse_missing
from medx_core.settings import settings
from medx_core.storage.engine import Database
from medx_core.storage.health_store import HealthStore
from medx_core.storage.job_store import JobStore

LOOK_SECONDS = 0.2
LOOK_FOR_WORKER_SECONDS = 2.0
# After Ctrl-C: long enough to end a token or a pass, short enough for a person.
LET_GO_SECONDS = 15.0

THROUGH_QUEUE = "through the queue"
IN_PROCESS = "in this process"


@dataclass(frozen=True)
class Followed:
    """How a job came to its end."""

    through: str
    interrupted: bool = False


def follow(database: Database, job_id: str, *, show_progress: bool) -> Followed:
    """Wait until the job is finished; Ctrl-C cancels it, and what was answered stays.

    Raises:
        MedxError: no worker runs and the job cannot be answered here either; it is cancelled.
    """
    jobs = JobStore(database)
    here = AnsweringHere(database, job_id)
    with _shown(jobs, job_id, show=show_progress) as is_finished:
        try:
            while not is_finished():
                here.begin_unless_a_worker_runs()
                here.wait(LOOK_SECONDS)
        except KeyboardInterrupt:
            jobs.cancel(job_id)
            here.wait(LET_GO_SECONDS, for_its_end=True)
            return Followed(here.through, interrupted=True)
        except Exception:
            jobs.cancel(job_id)
            raise
    here.wait(LET_GO_SECONDS, for_its_end=True)
    return Followed(here.through)


class AnsweringHere:
    """Answers one job in this process, on a thread of its own, once no worker is there to do it."""

    def __init__(self, database: Database, job_id: str) -> None:
        self._database = database
        self._job_id = job_id
        self._health = HealthStore(database)
        self._looked = -LOOK_FOR_WORKER_SECONDS
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._fault: BaseException | None = None

    @property
    def through(self) -> str:
        """Which way the job went, for people."""
        return THROUGH_QUEUE if self._thread is None else IN_PROCESS

    def begin_unless_a_worker_runs(self) -> None:
        """Start to answer here if no worker was seen lately; looks into the database now and then only."""
        if self._thread is not None or monotonic() - self._looked < LOOK_FOR_WORKER_SECONDS:
            return
        self._looked = monotonic()
        limit = settings().worker_seen_seconds
        if any(worker.seconds_since_seen <= limit for worker in self._health.processes(kind="worker")):
            return
        self._thread = threading.Thread(target=self._run, name="answering", daemon=True)
        self._thread.start()

    def wait(self, seconds: float, *, for_its_end: bool = False) -> None:
        """Wait a moment, or until answering here has ended.

        Raises:
            MedxError: answering here failed.
        """
        if for_its_end and self._thread is None:
            return
        self._ended.wait(seconds)
        if self._fault is not None and not for_its_end:
            raise self._fault

    def _run(self) -> None:
        chosen = settings()
        jobs = JobStore(self._database)
        try:
            with in_process_executor(
                chosen,
                self._database,
                owner=f"batch-{secrets.token_hex(4)}",
                load_engine=self._load_engine,
            ) as executor:
                answer_job(executor, jobs, self._job_id, chunk_rows=chosen.chunk_rows)
        except Exception as fault:  # noqa: BLE001 - a thread's door: `wait` raises it where the command can report it
            self._fault = fault
        finally:
            self._ended.set()

    def _load_engine(self) -> Engine:
        # torch takes seconds to import: only where no worker has it, and a model is there.
        refuse_missing(settings().model, settings().models_folder)
        from medx_core.assembly import build_engine

        return build_engine(settings(), self._database)


@contextmanager
def _shown(jobs: JobStore, job_id: str, *, show: bool) -> Iterator[Callable[[], bool]]:
    """Show a bar on standard error inside the block; the yielded call updates it and says whether all is finished."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not (show and sys.stderr.isatty())) as bar:
        task = bar.add_task("Answering", total=None)

        def is_finished() -> bool:
            progress = jobs.get(job_id).progress
            bar.update(task, completed=progress.finished, total=progress.total)
            return progress.finished == progress.total

        yield is_finished
