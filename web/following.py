"""Follows one question until it is answered: the database says where it stands, Redis brings the text so far."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

from medx_core.errors import NotFound
from medx_core.jobs.snapshots import ItemSnapshot, JobSnapshot
from medx_core.jobs.status import UNFINISHED, ItemStatus
from medx_core.questions import Answer, Arm, Mode
from medx_core.storage.people import Person
from web import wording
from web.services import Services
from web.token_streams import StreamedText

LOOK_SECONDS = 0.1
SLOW_LOOK_SECONDS = 0.5
SLOW_AFTER_SECONDS = 5.0
FOLLOW_SECONDS = 3600.0


@dataclass(frozen=True)
class QuestionView:
    """Where one question stands.

    `partial` holds the text so far per arm; `ahead` counts the questions before it while it waits; `worker` is "ready",
    "loading" (its model) or "" (none was seen lately), `refused` then says why its model or recipe cannot be used.
    """

    job: JobSnapshot
    item: ItemSnapshot
    partial: Mapping[str, str] = field(default_factory=dict)
    ahead: int | None = None
    worker: str = "ready"
    refused: str = ""

    @property
    def finished(self) -> bool:
        """Whether nothing more will come."""
        return self.item.status not in UNFINISHED

    @property
    def recipe_answer(self) -> Answer | None:
        """The answer by the recipe as it is, its steered arm; None while there is none."""
        return self.item.answer_in(Arm.STEERED)

    @property
    def state(self) -> str:
        """What an arm without an answer waits for, or why it gets none."""
        if self.item.status is ItemStatus.CANCELLED:
            written = any(self.partial.values()) or self.item.answers
            return wording.CANCELLED_WRITING if written else wording.CANCELLED_WAITING
        if self.item.status is ItemStatus.RUNNING:
            return wording.ANSWERING
        return wording.waiting(self.ahead, self.worker, self.refused)


def visible_job(services: Services, public_id: str, person: Person) -> JobSnapshot:
    """Return the job under that address; reading another person's is noted in the audit log, once an hour.

    Raises:
        NotFound: there is none, or it is not for this person.
    """
    if not public_id or not services.jobs.may_see(public_id, person):
        raise NotFound(wording.NO_SUCH_JOB)
    job = services.jobs.get(public_id)
    if job.person not in {"", person.name} and services.once_an_hour.take(f"{person.id} reads {public_id}"):
        services.audit.append(person.name, "read job of another", f"job {public_id}", {"of": job.person})
    return job


def worker_stage(services: Services) -> str:
    """Return "ready" when a live worker can answer, "loading" when all are loading their model, "" without one."""
    stages = {
        "loading" if worker.detail.get("stage") == "loading" else "ready"
        for worker in services.live_workers()
    }
    return max(stages, default="")  # "ready" sorts after "loading"


def look(services: Services, public_id: str, person: Person) -> QuestionView:
    """Read from the database where the question stands.

    Raises:
        NotFound: there is no such question, or it is not for this person.
    """
    job = visible_job(services, public_id, person)
    items, _ = services.jobs.items(public_id, limit=1)
    if not items:
        raise NotFound(wording.NO_SUCH_JOB)
    if items[0].status is not ItemStatus.QUEUED:
        return QuestionView(job, items[0])
    ahead = services.health.ahead_of(public_id)
    worker = worker_stage(services)
    refused = "" if worker else services.refusal()
    return QuestionView(job, items[0], ahead=ahead, worker=worker, refused=refused)


async def follow(services: Services, public_id: str, person: Person) -> AsyncIterator[QuestionView]:
    """Yield where the question stands, whenever that changed, until it is finished; text never before its route.

    Raises:
        NotFound: there is no such question, or it is not for this person.
    """
    started = time.monotonic()
    shown = view = await asyncio.to_thread(look, services, public_id, person)
    yield view
    async with AsyncExitStack() as stack:
        streamed = StreamedText(view.item.id, tuple(arm.value for arm in view.job.arms))
        client = None
        if view.job.mode is Mode.TEXT and services.streams.reachable:
            client = services.streams.client()
            stack.push_async_callback(client.aclose)
        while not view.finished and time.monotonic() - started < FOLLOW_SECONDS:
            slow = time.monotonic() - started > SLOW_AFTER_SECONDS
            pause = SLOW_LOOK_SECONDS if slow else LOOK_SECONDS
            if client is not None and streamed.last and services.streams.reachable:
                async for text in _arriving(services, client, streamed, pause):
                    if view.item.route is None:
                        # Stored before the first word was sent; by it the page says what to do in an emergency.
                        view = await asyncio.to_thread(look, services, public_id, person)
                    if view.item.route is not None:
                        shown = QuestionView(view.job, view.item, text)
                        yield shown
            else:
                await asyncio.sleep(pause)
            fresh = await asyncio.to_thread(look, services, public_id, person)
            text = {} if fresh.item.route is None else dict(streamed.text)
            view = replace(fresh, partial=text)
            if view != shown:
                shown = view
                yield view


async def _arriving(
    services: Services, client: object, streamed: StreamedText, wait_seconds: float
) -> AsyncIterator[dict[str, str]]:
    """Yield the text as it arrives; stop once nothing came for `wait_seconds`, or after half a second of it."""
    until = time.monotonic() + 0.5
    while streamed.last and time.monotonic() < until:
        if not await services.streams.read_on(client, streamed, wait_seconds=wait_seconds):  # type: ignore[arg-type]  # redis stubs
            return
        yield dict(streamed.text)
