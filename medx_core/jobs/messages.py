"""What travels through the broker: task names, queue names and messages that carry ids only."""

from typing import ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import BaseModel, ConfigDict

from medx_core.jobs.status import JobKind

ANSWER_TASK = "medx.answer_items"
EVALUATION_TASK = "medx.run_evaluation"

INTERACTIVE_QUEUE = "interactive"
BATCH_QUEUE = "batch"
EVALUATION_QUEUE = "evaluations"

QUEUE_OF: dict[JobKind, str] = {
    JobKind.QUESTION: INTERACTIVE_QUEUE,
    JobKind.EXPLORATION: INTERACTIVE_QUEUE,
    JobKind.BATCH: BATCH_QUEUE,
}
PRIORITY_OF = {INTERACTIVE_QUEUE: 0, BATCH_QUEUE: 1, EVALUATION_QUEUE: 2}
"""Which messages the publisher sends first: those of the lowest number."""


class AnswerRequest(BaseModel):
    """Answer these items of one job. The texts stay in the database; a second delivery is harmless."""

    model_config = ConfigDict(frozen=True)
    task: ClassVar[str] = ANSWER_TASK

    job_id: str
    item_ids: tuple[int, ...]


class RunRequest(BaseModel):
    """Run this evaluation. What was asked for is in the database; a second delivery is harmless."""

    model_config = ConfigDict(frozen=True)
    task: ClassVar[str] = EVALUATION_TASK

    run_id: str


def token_stream_name(item_id: int, arm: str) -> str:
    """Name the Redis stream that carries one answer's text while it is written."""
    return f"medx:tokens:{item_id}:{arm}"


def redis_client_url(url: str) -> str:
    """Return the URL that redis-py reads for one written as Celery reads it (`redis+socket://` becomes `unix://`)."""
    if not url.startswith("redis+socket://"):
        return url
    parts = urlsplit(url)
    database = parse_qs(parts.query).get("virtual_host", ["0"])[0]
    credentials = f":{parts.password}@" if parts.password else ""
    return f"unix://{credentials}{unquote(parts.path)}?db={database}"
