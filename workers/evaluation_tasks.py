"""The task that runs an evaluation, in a process that takes one task and then ends."""

from typing import Any

from celery import shared_task
from kombu.utils.imports import symbol_by_name

from medx_core.evaluation.request import EvaluationRequest
from medx_core.job_execution.evaluation_run import Evaluate, Measured, OnStage
from medx_core.jobs.messages import EVALUATION_TASK, RunRequest
from workers.evaluator import EVALUATE_SETTING, take_run


# Shared, because a process that is not forked gets a Celery application of its own.
@shared_task(name=EVALUATION_TASK, bind=True)  # type: ignore[untyped-decorator] # Celery has no types
def run_evaluation(task: Any, request: dict[str, Any]) -> None:
    """Run the evaluation of one message; a message about a run that needs nobody is dropped."""
    take_run(
        RunRequest.model_validate(request),
        owner=task.request.hostname,
        evaluate=_imported_at_use(task.app.conf[EVALUATE_SETTING]),
    )


def _imported_at_use(name: str) -> Evaluate:
    """Return the function `module:name`; its module, and with it torch, is imported when it is called."""

    def evaluate(request: EvaluationRequest, on_stage: OnStage) -> Measured:
        function: Evaluate = symbol_by_name(name)  # type: ignore[no-untyped-call] # kombu has no types
        return function(request, on_stage)

    return evaluate
