"""The evaluation worker: Celery takes one evaluation at a time from its queue and runs it in a process of its own.

That process is a prefork child that ends after one task and so gives all its memory back; torch is loaded in it alone.
This parent process publishes like every worker, and ends the child when its run is cancelled, hangs or is taken over.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Container
from typing import Any

from celery.worker import state

from medx_core.errors import MedxError
from medx_core.job_execution.evaluation_run import EVALUATION, EVALUATOR, worker_detail
from medx_core.jobs.messages import EVALUATION_QUEUE
from medx_core.settings import Settings
from medx_core.storage.engine import Database
from medx_core.storage.health import HealthStore
from medx_core.storage.kept_files import remove_unneeded
from medx_core.storage.runs import RunStore
from workers.celery_app import app
from workers.consuming import consume
from workers.evaluation_tasks import EVALUATE_SETTING
from workers.heartbeat import Heartbeat, Rhythm
from workers.process import opened_database, worker_name
from workers.publishing import Publisher

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
TIDY_SECONDS = 3600.0
TASKS = "workers.evaluation_tasks"


def work(chosen: Settings, *, name: str = "", evaluate: str) -> int:
    """Run evaluations until told to stop; return the exit status. `evaluate` names the function, as `module:name`.

    Raises:
        SettingsFault: there is no broker.
        StorageFault: the database cannot be used.
    """
    name = name or worker_name()
    with opened_database(chosen) as database:
        threads = str(max(1, (chosen.threads or os.cpu_count() or 1) - 1))  # one is left for answering
        os.environ.update(MEDX_THREADS=threads, OMP_NUM_THREADS=threads)
        heartbeat = Heartbeat(
            HealthStore(database),
            name,
            kind=EVALUATOR,
            rhythm=Rhythm.of(chosen),
            detail=lambda: worker_detail(chosen),
        )
        publisher = Publisher(app, database, chosen, owner=name)
        publisher.start()
        heartbeat.start()
        try:
            hostname = f"evaluations@{name}"
            supervisor = Supervisor(chosen, database, owner=hostname)
            app.conf.update({"imports": (TASKS,), EVALUATE_SETTING: evaluate})
            app.loader.import_default_modules()
            return consume(
                app,
                on_poll=heartbeat.polled,
                on_start=supervisor.start,
                on_stop=supervisor.stop,
                hostname=hostname,
                pool="prefork",
                concurrency=1,
                max_tasks_per_child=1,
                queues=[EVALUATION_QUEUE],
            )
        finally:
            publisher.stop()
            heartbeat.stop()


class Supervisor:
    """Ends the child, through Celery, once the run that it works on is not held by this worker any more.

    The child keeps the lease, so whatever ends an evaluation shows there: it was cancelled, it reported no progress
    for too long, or the child hangs so badly that its lease ran out.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        *,
        owner: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._runs = RunStore(database)
        self._owner = owner
        self._clock = clock
        self._tidy_at = clock()
        # Children by their process id: those that were seen to hold their run, and those that held none lately.
        self._begun: set[int] = set()
        self._unneeded: set[int] = set()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="supervisor", daemon=True)
        self._pool: Any = None

    def start(self, pool: Any) -> None:
        """Begin to watch the child of Celery's `pool`."""
        self._pool = pool
        self._thread.start()

    def stop(self) -> None:
        """Give the run in hand back to others, and end the child."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        try:
            for leased in self._runs.held_by(self._owner):
                self._runs.give_back(leased)
                log.info("evaluation %s waits again, because this worker stops", leased.public_id)
        except MedxError as fault:
            log.warning("an evaluation waits until its lease has run out: %s", fault)
        self._terminate({request.worker_pid for request in state.active_requests})

    def _work(self) -> None:
        while not self._stopped.wait(LOOK_SECONDS):
            try:
                self.look()
                self.tidy()
            except (MedxError, OSError) as fault:
                log.warning("evaluations could not be looked after just now: %s", fault)

    def look(self) -> None:
        """End a child whose run it does not hold at this look nor did at the one before.

        Between the two, one that has just stored its result ends by itself. One that has not leased its run yet is
        left alone, unless there is nothing to lease any more.
        """
        held = {leased.public_id for leased in self._runs.held_by(self._owner)}
        unneeded = set()
        for request in tuple(state.active_requests):
            run_id, child = request.kwargs["request"]["run_id"], request.worker_pid
            if run_id in held:
                self._begun.add(child)
            elif child in self._begun or self._runs.get(run_id).finished:
                unneeded.add(child)
        self._terminate(unneeded & self._unneeded)
        self._unneeded = unneeded

    def tidy(self) -> None:
        """Remove files that no evaluation needs any more: first when the worker starts, then once an hour."""
        if self._clock() < self._tidy_at:
            return
        # Set before the attempt, so that a file that cannot be removed is not tried again every second.
        self._tidy_at = self._clock() + TIDY_SECONDS
        remove_unneeded(
            self._settings.evaluations_folder, self._runs.list(EVALUATION, limit=None), now=self._clock()
        )

    def _terminate(self, children: Container[int]) -> None:
        for request in tuple(state.active_requests):
            if request.worker_pid in children:
                request.terminate(self._pool, signal="KILL")
