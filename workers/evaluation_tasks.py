"""The task that runs an evaluation, in a process that takes one task and then ends.

That process imports this module afresh for each evaluation, so it knows nothing of how the worker is supervised.
"""

import logging
import os
from contextlib import closing
from typing import Any

from celery import shared_task
from kombu.utils.imports import symbol_by_name

from medx_core.errors import Cancelled, MedxError
from medx_core.evaluation.request import EvaluationRequest
from medx_core.job_execution.evaluation_run import Evaluate, Measured, OnStage
from medx_core.job_execution.evaluation_run import run_evaluation as run_leased
from medx_core.jobs.messages import EVALUATION_TASK, RunRequest
from medx_core.settings import settings
from medx_core.storage.engine import open_database
from medx_core.storage.runs import RunStore
from workers.celery_app import log_to_standard_error

log = logging.getLogger(__name__)

EVALUATE_SETTING = "medx_evaluate"
"""The name under which Celery's settings carry the function that evaluates to the process that calls it."""
NICER_BY = 10


# Shared, because a process that is not forked gets a Celery application of its own.
@shared_task(name=EVALUATION_TASK, bind=True)  # type: ignore[untyped-decorator] # Celery has no types
def run_evaluation(task: Any, request: dict[str, Any]) -> None:
    """Run the evaluation of one message at low priority; what became of it is in the database.

    A message about a run that needs nobody is dropped.
    """
    log_to_standard_error()
    if hasattr(os, "nice"):
        os.nice(NICER_BY)
    run_id = RunRequest.model_validate(request).run_id
    try:
        _run(run_id, owner=task.request.hostname, evaluate=_imported_at_use(task.app.conf[EVALUATE_SETTING]))
    except Cancelled as end:
        log.info("evaluation %s: %s", run_id, end)
    except MedxError as fault:
        # What was wrong, which may name a row of the file, is told on Results.
        log.warning("evaluation %s could not be run (%s)", run_id, type(fault).__name__)


def _run(run_id: str, *, owner: str, evaluate: Evaluate) -> None:
    chosen = settings()
    seconds, max_attempts = chosen.lease_seconds, chosen.max_attempts
    with closing(open_database(chosen)) as database:
        runs = RunStore(database)
        leased = runs.lease(run_id, owner=owner, seconds=seconds, max_attempts=max_attempts)
        if leased is None:
            log.info("evaluation %s needs nobody: it is finished, or another process has it", run_id)
            return
        log.info("evaluation %s begins", run_id)
        run_leased(runs, leased, evaluate, lease_seconds=seconds)
        log.info("evaluation %s is finished", run_id)


def _imported_at_use(name: str) -> Evaluate:
    """Return the function `module:name`; its module, and with it torch, is imported when it is called."""

    def evaluate(request: EvaluationRequest, on_stage: OnStage) -> Measured:
        function: Evaluate = symbol_by_name(name)  # type: ignore[no-untyped-call] # kombu has no types
        return function(request, on_stage)

    return evaluate
