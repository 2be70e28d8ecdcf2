"""Runs one evaluation under the lease of its run; the Celery task and `medx evaluate` both call it.

What evaluates is handed in, so that nothing here loads a language model. Progress, result and failure go to the
database; a run that was cancelled or taken over is left as soon as the evaluation reports its next step.
"""

import json
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from medx_core.data.problems import FileLimits
from medx_core.errors import BadInput, Cancelled, LeaseLost, MedxError
from medx_core.evaluation.request import BUNDLED, EvaluationRequest, request_from
from medx_core.settings import Settings
from medx_core.storage.engine import Database
from medx_core.storage.health import HealthStore
from medx_core.storage.runs import LeasedRun, RunProgress, RunStore

if TYPE_CHECKING:
    from medx_core.data.labelled_files import LabelledData

log = logging.getLogger(__name__)

EVALUATION = "evaluation"
"""The kind of run that an evaluation is stored as."""
EVALUATOR = "evaluator"
"""The kind of process under which an evaluation worker reports."""
LOOK_SECONDS = 1.0
# Fine-tuning, and a prompt tried on a large model on a CPU, are one step each, and may take hours.
STUCK_SECONDS = 6 * 3600.0
STUCK = f"It reported no progress for {STUCK_SECONDS / 3600:.0f} hours and was ended; see the worker's log."
BROKEN = "An unexpected fault stopped this evaluation; the details are in the logs folder of MEDX_HOME."

OnStage = Callable[[str, int, int], None]
"""Told the present stage, how many of its steps are done, and how many there are."""


@dataclass(frozen=True)
class Measured:
    """What came out of an evaluation: its result as JSON, and its items as the content of a Parquet file."""

    result: Mapping[str, Any]
    items: bytes | None = None


Evaluate = Callable[[EvaluationRequest, OnStage], Measured]


def run_evaluation(
    runs: RunStore,
    leased: LeasedRun,
    evaluate: Evaluate,
    *,
    lease_seconds: float,
    clock: Callable[[], float] = monotonic,
) -> Measured:
    """Evaluate what a leased run asks for, and store its result or why there is none.

    Raises:
        Cancelled: the run was cancelled, or another process has it by now; nothing is stored.
        MedxError: the evaluation failed, as `evaluate` says; the reason is stored.
        KeyboardInterrupt: somebody interrupted this process; the run is cancelled.
    """
    lease = _KeptLease(runs, leased, lease_seconds, clock)
    try:
        with lease:
            measured = evaluate(request_from(leased.settings), lease.on_stage)
            # One database refuses what is not JSON, the other would keep it for readers to trip over.
            json.dumps(measured.result, allow_nan=False)
        runs.finish(leased, measured.result, items=measured.items)
    except (Cancelled, LeaseLost) as error:
        raise Cancelled("This evaluation was cancelled, or another process has it by now.") from error
    except KeyboardInterrupt:
        _write_down(lambda: runs.cancel(leased.public_id))
        raise
    except Exception as error:
        reason = str(error) if isinstance(error, MedxError) else BROKEN
        _write_down(lambda: runs.fail(leased, reason))
        raise
    return measured


class _KeptLease:
    """`with lease:` prolongs a run's lease and notes its progress, on a thread of its own, while it moves."""

    def __init__(self, runs: RunStore, leased: LeasedRun, seconds: float, clock: Callable[[], float]) -> None:
        self._runs = runs
        self._leased = leased
        self._seconds = seconds
        self._clock = clock
        self._progress: RunProgress | None = None
        self._moved = clock()
        self._lost = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="run-lease", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_error: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._look()

    def on_stage(self, stage: str, done: int, total: int) -> None:
        """Note how far the evaluation is.

        Raises:
            Cancelled: it is not wanted any more.
        """
        self._progress, self._moved = RunProgress(stage, done, total), self._clock()
        if self._lost.is_set():
            raise Cancelled("This evaluation is not wanted any more.")

    def _keep(self) -> None:
        while not self._lost.is_set() and not self._stopped.wait(min(LOOK_SECONDS, self._seconds / 3)):
            self._look()

    def _look(self) -> None:
        try:
            if self._clock() - self._moved > STUCK_SECONDS:
                self._runs.fail(self._leased, STUCK)
                self._lost.set()
            elif not self._runs.renew(self._leased, seconds=self._seconds, progress=self._progress):
                self._lost.set()
        except LeaseLost:
            self._lost.set()
        except MedxError as fault:
            log.warning("the progress of an evaluation did not reach the database: %s", fault)


def _write_down(how_it_ended: Callable[[], None]) -> None:
    try:
        how_it_ended()
    except MedxError as fault:
        log.warning("how the evaluation ended did not reach the database: %s", fault)


def read_statements(settings: Settings, request: EvaluationRequest) -> "LabelledData":
    """Read the statements that a request names, without loading a model.

    Raises:
        BadInput: they cannot be read, or a kept file is not on this machine.
    """
    # These take a second to import, which a worker's parent process never needs.
    from medx_core.data.labelled_files import load_bundled, load_labelled

    limits = FileLimits.of(settings)
    if request.kept:
        path = settings.evaluations_folder / request.data
        if not path.exists():
            raise BadInput(
                f"The file {request.title} is not on this machine; pages and workers must share MEDX_HOME."
            )
        return load_labelled(path, limits=limits)
    if request.data == BUNDLED and not Path(BUNDLED).exists():
        return load_bundled()
    return load_labelled(request.data, limits=limits)


def has_evaluation_worker(settings: Settings, database: Database) -> bool:
    """Whether an evaluation worker was seen lately that would compute what a process with these settings computes."""
    workers = HealthStore(database).live_workers(
        seen_within_seconds=settings.worker_seen_seconds, kind=EVALUATOR
    )
    return any(worker.detail == worker_detail(settings) for worker in workers)


def worker_detail(settings: Settings) -> dict[str, Any]:
    """Return what an evaluation worker reports of itself with its heartbeat: the settings that change figures."""
    return {
        name: str(getattr(settings, name)) for name in ("device", "dtype", "max_batch_rows", "router_encoder")
    }
