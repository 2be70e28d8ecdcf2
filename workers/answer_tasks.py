"""The task that answers items: parse, call the core, hand back."""

from typing import Any

from celery.exceptions import Reject

from medx_core.job_execution.interfaces import Interrupted, Lane
from medx_core.jobs.messages import ANSWER_TASK, INTERACTIVE_QUEUE, AnswerRequest
from workers.celery_app import app
from workers.runtime import current


@app.task(name=ANSWER_TASK, bind=True)  # type: ignore[untyped-decorator] # Celery has no types
def answer_items(task: Any, request: dict[str, Any]) -> None:
    """Answer the items of one message; while this worker stops, the message goes back to the broker."""
    lane = Lane.INTERACTIVE if task.request.delivery_info["routing_key"] == INTERACTIVE_QUEUE else Lane.BATCH
    try:
        current().run(AnswerRequest.model_validate(request), lane=lane)
    except Interrupted as stopping:
        raise Reject(str(stopping), requeue=True) from stopping
