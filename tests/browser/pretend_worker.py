"""A worker without a model: it leases what is in the outbox and stores answers that depend on the text alone.

The stores, the leases and the token streams are the real ones. `allow(n)` lets it take n questions more, so that a
test can look at a job half-way.
"""

import threading
from dataclasses import dataclass, field

from redis import Redis

from medx_core.categories import Category, Route, RouteSource
from medx_core.jobs.messages import AnswerRequest, redis_client_url, token_stream_name
from medx_core.jobs.snapshots import LeasedItem
from medx_core.questions import Answer, Answered, Arm, Mode, Verdict
from medx_core.storage.engine import Database
from medx_core.storage.health import HealthStore
from medx_core.storage.leases import LeaseStore
from medx_core.storage.outbox import OutboxStore

NAME = "pretend"
RECIPE = "0123456789ab"
WRITTEN = "Call for help at once. Sit down and rest until somebody comes. Do not drive yourself."
TOO_LONG = "The question is too long for this device; shorten it."
UNLIMITED = 10**9


@dataclass
class PretendWorker:
    """Runs in a thread between `start` and `stop`."""

    database: Database
    redis_url: str = ""
    words: threading.Semaphore | None = (
        None  # when set, one word of a written answer is streamed for each release
    )
    _allowed: int = UNLIMITED
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self.words is not None:
            self.words.release(1000)
        assert self._thread is not None
        self._thread.join(timeout=20)
        assert not self._thread.is_alive()

    def allow(self, items: int) -> None:
        with self._lock:
            self._allowed = items

    def _run(self) -> None:
        outbox, leases, health = (
            OutboxStore(self.database),
            LeaseStore(self.database),
            HealthStore(self.database),
        )
        held: list[int] = []
        while not self._stop.wait(0.02):
            health.beat(NAME, "worker", {"device": "none"})
            messages = outbox.unsent()
            if messages:
                outbox.mark_sent(message.id for message in messages)
                requests = [
                    message.request for message in messages if isinstance(message.request, AnswerRequest)
                ]
                held += [item_id for request in requests for item_id in request.item_ids]
            with self._lock:
                taken, self._allowed = held[: self._allowed], self._allowed - min(len(held), self._allowed)
            held = held[len(taken) :]
            for leased in leases.lease(taken, owner=NAME, seconds=60, max_attempts=3):
                self._answer(leases, leased)

    def _answer(self, leases: LeaseStore, leased: LeasedItem) -> None:
        if "unanswerable" in leased.question.text:
            leases.fail(leased, TOO_LONG, max_attempts=1)
            return
        if leased.question.mode is Mode.TEXT:
            leases.store_route(leased, answered(leased).route)
            for arm in leased.question.arms:
                self._stream(leased.id, arm)
        leases.finish([(leased, answered(leased))])

    def _stream(self, item_id: int, arm: Arm) -> None:
        if not self.redis_url:
            return
        with Redis.from_url(redis_client_url(self.redis_url)) as redis:
            name = token_stream_name(item_id, arm.value)
            for word in WRITTEN.split(" "):
                if self.words is not None:
                    self.words.acquire(timeout=20)
                redis.xadd(name, {"text": word + " "})
            redis.xadd(name, {"done": "1"})
            redis.expire(name, 600)


def answered(leased: LeasedItem) -> Answered:
    """What the worker stores: a chosen category wins, and every arm has an answer."""
    route = routed(leased.question.text)
    if leased.question.category is not None:
        source = RouteSource.FILE if leased.question.category_from_file else RouteSource.USER
        route = Route(leased.question.category, route.probabilities, source)
    answers = tuple(_answer(leased, arm, route) for arm in leased.question.arms)
    return Answered(leased.question, route, answers)


def routed(text: str) -> Route:
    words = text.lower()
    if "unclear" in words:
        return Route(None, dict.fromkeys(Category, 1 / 3))
    if any(word in words for word in ("pain", "bleeding", "emergency")):
        return Route(Category.TRIAGE, _probabilities(Category.TRIAGE), red_flag="pain" in words)
    if any(word in words for word in ("trial", "mortality", "lowers")):
        return Route(Category.LITERATURE, _probabilities(Category.LITERATURE))
    return Route(Category.PATIENT_FACING, _probabilities(Category.PATIENT_FACING))


def _probabilities(category: Category) -> dict[Category, float]:
    rest = [other for other in Category if other is not category]
    return {category: 0.91, rest[0]: 0.07, rest[1]: 0.02}


def _answer(leased: LeasedItem, arm: Arm, route: Route) -> Answer:
    steered = arm is Arm.STEERED and not route.abstained
    score = _score(leased.question.text, steered)
    raw = Verdict.TRUE if score > 0.5 else Verdict.FALSE
    verdict = Verdict.UNCERTAIN if abs(score - 0.5) < 0.05 else raw
    written = leased.question.mode is Mode.TEXT
    return Answer(
        arm=arm,
        model="smollm2-135m",
        model_sha256="ab" * 32,
        recipe=RECIPE,
        prompt_version="verdict-1",
        seconds=0.21 if steered else 0.12,
        verdict=None if written else verdict,
        raw_verdict=None if written else raw,
        score=None if written else score,
        text=_text(leased.question.text) if written else None,
        vector=f"{route.category} v3" if steered else None,
        layer=28 if steered else None,
        alpha=1.0 if steered else None,
        note="No category was decided, so nothing was added."
        if arm is Arm.STEERED and route.abstained
        else "",
    )


def _score(text: str, steered: bool) -> float:
    if "hunch" in text:
        return 0.52
    return 0.8257 if steered else 0.4412


def _text(question: str) -> str:
    return question if "<" in question else WRITTEN
