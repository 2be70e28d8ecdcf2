"""The task that runs an evaluation, in a process that takes one task and then ends."""

from typing import Any

from celery import shared_task

from medx_core.evaluation.request import EvaluationRequest
from medx_core.job_execution.evaluation_run import OnStage, Result
from medx_core.jobs.messages import EVALUATION_TASK, RunRequest
from medx_core.settings import settings
from workers.evaluator import take_run


# Shared, because a process that is not forked gets a Celery application of its own.
@shared_task(name=EVALUATION_TASK, bind=True)  # type: ignore[untyped-decorator] # Celery has no types
def run_evaluation(task: Any, request: dict[str, Any]) -> None:
    """Run the evaluation of one message; a message about a run that needs nobody is dropped."""
    take_run(RunRequest.model_validate(request), owner=task.request.hostname, evaluate=_evaluate)


def _evaluate(request: EvaluationRequest, on_stage: OnStage) -> Result:
    # torch is loaded in this process only, and only now
    from medx_core.assembly import evaluate_request

    return evaluate_request(settings(), request, on_stage)
