"""What a worker process keeps warm: database, engine, leases, token streams, publisher, heartbeat."""

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from time import monotonic, sleep
from typing import Any

from celery import Celery

from medx_core.errors import MedxError, RecipeUnusable, SettingsFault
from medx_core.job_execution.batching import MicroBatcher
from medx_core.job_execution.executor import JobExecutor
from medx_core.job_execution.interfaces import Engine, Interrupted, Lane
from medx_core.job_execution.leases import LeaseKeeper, LeaseTerms
from medx_core.job_execution.scheduling import BatchLimits
from medx_core.jobs.messages import AnswerRequest
from medx_core.settings import Settings
from medx_core.storage.engine import Database
from medx_core.storage.health import HealthStore
from medx_core.storage.leases import LeaseStore
from workers.heartbeat import Heartbeat, Rhythm
from workers.publishing import Publisher
from workers.token_streams import TokenStreams

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.2
# A worker whose recipe cannot answer keeps a message for so long, then lets another worker try.
REFUSED_SECONDS = 5.0

LoadEngine = Callable[[], Engine]


class Runtime:
    """The warm parts of one worker process. Made once, before Celery starts; `current()` finds it from a task."""

    def __init__(
        self, settings: Settings, database: Database, app: Celery, *, load_engine: LoadEngine, name: str
    ) -> None:
        self.name = name
        self._settings = settings
        self._stopping = False
        self.answerer = MicroBatcher(
            load_engine, BatchLimits(settings.max_batch_rows, settings.max_wait_seconds)
        )
        terms = LeaseTerms(self.name, settings.lease_seconds, settings.max_attempts)
        leases = LeaseStore(database)
        self._keeper = LeaseKeeper(
            leases, terms, alive=lambda: self.answerer.stalled_seconds < settings.stall_seconds
        )
        self._streams = TokenStreams(settings.redis_url)
        self._executor = JobExecutor(leases, self.answerer, self._keeper, terms, self._streams)
        self._publisher = Publisher(app, database, settings, owner=self.name)
        self.heartbeat = Heartbeat(
            HealthStore(database),
            self.name,
            kind="worker",
            rhythm=Rhythm.of(settings),
            detail=self.detail,
            engine=self.answerer,
        )

    def start(self, *, on_load_failure: Callable[[BaseException], None]) -> None:
        """Start all threads and begin to load the engine; `on_load_failure` is told when that fails."""

        def loaded(ready: Future[Engine]) -> None:
            error = ready.exception()
            if error is not None:
                on_load_failure(error)
            else:
                self.heartbeat.forget_refusal()
            self.heartbeat.beat_soon()

        self.answerer.ready.add_done_callback(loaded)
        for part in (
            self.answerer,
            self._keeper,
            self._streams,
            self._publisher,
            self.heartbeat,
        ):
            part.start()

    def run(self, request: AnswerRequest, *, lane: Lane) -> None:
        """Answer the items of a request, once the engine is there: before that, nothing is leased.

        Raises:
            Interrupted: this process stops, or its model or the recipe in use cannot be used; the items are left to others.
        """
        while not wait([self.answerer.ready], timeout=LOOK_SECONDS).done:
            if self._stopping:
                raise Interrupted("This worker stops before it has its model.")
        if self.answerer.ready.exception() is not None:
            raise Interrupted("This worker has no model.")
        self._wait_for_recipe()
        try:
            self._executor.run(request, lane=lane)
        except RecipeUnusable as unusable:  # its items wait again, each with a new message
            log.warning("questions wait: %s", unusable)
            self.heartbeat.beat_soon()

    def _wait_for_recipe(self) -> None:
        """Return at once while the recipe in use can answer, else once it can; Interrupted when that takes too long."""
        began = monotonic()
        while refused := self.answerer.ready.result().description.refused:
            if self._stopping or monotonic() - began > REFUSED_SECONDS:
                raise Interrupted(refused)
            sleep(LOOK_SECONDS)

    def let_go(self) -> None:
        """Begin to stop: lease nothing more, hand back what has not begun. Returns at once."""
        self._stopping = True
        self._executor.stop()
        self.answerer.begin_closing()
        self.heartbeat.beat_soon()

    def stop(self) -> None:
        """Stop all threads, once no task runs any more."""
        self.let_go()
        for stop in (
            self.answerer.close,
            self._publisher.stop,
            self._streams.stop,
            self._keeper.stop,
            self.heartbeat.stop,
        ):
            stop()

    def detail(self) -> Mapping[str, Any]:
        """Return what the health page shows of this worker; `ready` means that its model is loaded.

        `refused` is why its model cannot be used, so that it ends, or why the recipe in use cannot answer: then it lives on
        and takes up another one.
        """
        answerer = self.answerer
        fault = answerer.ready.exception() if answerer.ready.done() else None
        ready = answerer.ready.done() and fault is None
        stage = "refused" if fault else "stopping" if self._stopping else "ready" if ready else "loading"
        seen: dict[str, Any] = {
            "ready": ready and not self._stopping,
            "stage": stage,
            "answered": answerer.answered_questions,
        }
        if isinstance(fault, MedxError):
            seen["refused"] = str(fault)
        if ready:
            seen |= answerer.ready.result().description.report(self._settings)
            if seen.get("refused"):
                seen |= {"ready": False, "stage": "waiting"}
            if self._stopping:  # the next process finds out by itself
                seen.pop("refused", None)
        return seen


_runtimes: list[Runtime] = []


def install(runtime: Runtime) -> None:
    """Make this the runtime of the process."""
    _runtimes[:] = [runtime]


def current() -> Runtime:
    """Return the runtime of this process.

    Raises:
        SettingsFault: the process was not started as a MedX worker.
    """
    if not _runtimes:
        raise SettingsFault("This process is not a MedX worker; start one with `medx serve worker`.")
    return _runtimes[0]
