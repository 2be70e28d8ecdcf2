"""Runs one request: lease its items, have them answered, store the results while the leases hold."""

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from functools import partial
from typing import Protocol

from medx_core.categories import Route
from medx_core.errors import (
    BadInput,
    Cancelled,
    LeaseLost,
    MedxError,
    RecipeUnusable,
    StorageFault,
    VectorRefused,
)
from medx_core.job_execution.interfaces import Answerer, Interrupted, Lane, Listener
from medx_core.job_execution.leases import LeaseKeeper, LeaseTerms
from medx_core.jobs.messages import AnswerRequest
from medx_core.jobs.snapshots import LeasedItem
from medx_core.questions import Answered, Arm, Mode
from medx_core.storage.leases import LeaseStore

log = logging.getLogger(__name__)

# Pauses before storing again while the database is away.
STORE_AGAIN_SECONDS = (0.2, 1.0, 3.0)

# What is not the question's fault: it waits again, and this counts as no attempt.
WAITS_AGAIN = (Interrupted, RecipeUnusable)

Outcome = tuple[LeasedItem, Future[Answered]]


class TextStreams(Protocol):
    """Receives the text of an interactive answer while it is written. Calls must return at once and never raise."""

    def begin(self, item_id: int, arm: str) -> None:
        """Start the text from its beginning; text sent earlier is void."""
        ...

    def piece(self, item_id: int, arm: str, text: str) -> None:
        """Send a new piece of the text."""
        ...

    def done(self, item_id: int, arm: str) -> None:
        """End the text; the database holds the whole answer."""
        ...


class WatchedText:
    """Streams the text of one item while the engine writes it.

    The page shows the emergency line from the stored route, so the route is stored before any text is streamed. If it
    cannot be stored (lease lost, database away) nothing is streamed, and the answer appears when it is complete.
    """

    def __init__(self, item: LeasedItem, leases: LeaseStore, streams: TextStreams) -> None:
        self._item, self._leases, self._streams = item, leases, streams
        self._route_is_stored = False
        for arm in item.question.arms:
            streams.begin(item.id, arm)

    def on_route(self, route: Route) -> None:
        """Store the route under the item's lease."""
        if self._route_is_stored:
            return  # the answer was started again in a smaller batch: the same route, already stored
        try:
            self._route_is_stored = self._leases.store_route(self._item, route)
        except MedxError as error:
            log.warning("item %d: the route will be stored with the answer: %s", self._item.id, error)

    def on_text(self, arm: Arm, piece: str) -> None:
        """Stream one piece of the text."""
        if self._route_is_stored:
            self._streams.piece(self._item.id, arm, piece)


class SuspectIsolation:
    """Keeps an item that failed before away from the others, because it may end the process again.

    New rows of files share the process; a suspect row of a file waits until no other row is in hand. Interactive
    questions never wait for files: a new one always passes, a suspect one waits for other suspects only.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._file_chunks = 0
        self._suspects_waiting = 0
        self._suspect_inside = False

    @contextmanager
    def together(self, lane: Lane) -> Iterator[None]:
        """Hold items that were never tried before."""
        if lane is Lane.INTERACTIVE:
            yield
            return
        with self._changed:
            self._changed.wait_for(lambda: not self._suspects_waiting and not self._suspect_inside)
            self._file_chunks += 1
        try:
            yield
        finally:
            with self._changed:
                self._file_chunks -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self, lane: Lane) -> Iterator[None]:
        """Hold one item that was tried before."""
        from_file = lane is Lane.BATCH
        with self._changed:
            self._suspects_waiting += from_file
            self._changed.wait_for(lambda: not self._suspect_inside and not (from_file and self._file_chunks))
            self._suspects_waiting -= from_file
            self._suspect_inside = True
        try:
            yield
        finally:
            with self._changed:
                self._suspect_inside = False
                self._changed.notify_all()


class JobExecutor:
    """Answers the items of requests; safe to call from many threads at once.

    Whatever happens to this process, an item is either stored once, under a live lease, or remains to be leased again.
    """

    def __init__(
        self,
        leases: LeaseStore,
        answerer: Answerer,
        keeper: LeaseKeeper,
        terms: LeaseTerms,
        streams: TextStreams | None = None,
    ) -> None:
        self._leases = leases
        self._answerer = answerer
        self._keeper = keeper
        self._terms = terms
        self._streams = streams
        self._isolation = SuspectIsolation()
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Lease no more items; those in hand go on until the answerer ends them."""
        self._stopping.set()

    def run(self, request: AnswerRequest, *, lane: Lane) -> None:
        """Answer the items of the request that are free; a second delivery of the request has no effect.

        Raises:
            Interrupted: this process stops, and some items were not started.
            RecipeUnusable: the recipe in use cannot answer; the items that it was to answer wait again.
            StorageFault: the database is away; the leases run out and the items are queued again.
        """
        suspects = self._leases.tried_before(request.item_ids)
        fresh = [item_id for item_id in request.item_ids if item_id not in suspects]
        if fresh:
            with self._isolation.together(lane):
                self._answer(fresh, lane)
        for item_id in sorted(suspects):
            with self._isolation.alone(lane):
                self._answer([item_id], lane)

    def _answer(self, item_ids: Sequence[int], lane: Lane) -> None:
        if self._stopping.is_set():
            raise Interrupted("This process stops; its questions are left to the next worker.")
        leased = self._leases.lease(
            item_ids,
            owner=self._terms.owner,
            seconds=self._terms.seconds,
            max_attempts=self._terms.max_attempts,
            recipe=self._answerer.recipe,
        )
        with self._keeper.holding(leased):
            waiting = {self._submit(item, lane): item for item in leased}
            unusable: RecipeUnusable | None = None
            while waiting:
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                outcomes = [(waiting.pop(future), future) for future in done]
                self._settle(outcomes, self._streams_for(lane))
                faults = (future.exception() for _, future in outcomes)
                unusable = next((fault for fault in faults if isinstance(fault, RecipeUnusable)), unusable)
        if unusable is not None:
            raise unusable

    def _submit(self, item: LeasedItem, lane: Lane) -> Future[Answered]:
        def should_stop() -> bool:
            return self._keeper.is_unwanted(item)

        streams = self._streams_for(lane)
        if streams is None or item.question.mode is not Mode.TEXT:
            listener = Listener(on_route=partial(self._store_route, item), should_stop=should_stop)
        else:
            text = WatchedText(item, self._leases, streams)
            listener = Listener(on_route=text.on_route, on_text=text.on_text, should_stop=should_stop)
        return self._answerer.submit(item.question, lane=lane, listener=listener)

    def _store_route(self, item: LeasedItem, route: Route) -> None:
        """Store a route by itself: a question that fails must not take its emergency line with it."""
        try:
            self._leases.store_route(item, route)
        except MedxError as error:
            log.warning("item %d: its route could not be stored: %s", item.id, error)

    def _streams_for(self, lane: Lane) -> TextStreams | None:
        return self._streams if lane is Lane.INTERACTIVE else None

    def _settle(self, outcomes: Sequence[Outcome], streams: TextStreams | None) -> None:
        answered = {item: future.result() for item, future in outcomes if future.exception() is None}
        self._store(answered)
        given_back = [item for item, future in outcomes if isinstance(future.exception(), WAITS_AGAIN)]
        if given_back:
            self._leases.give_back(given_back)
        for item, future in outcomes:
            error = future.exception()
            if error is not None and not isinstance(error, WAITS_AGAIN):
                self._close(item, error)
            self._keeper.let_go(item)
            if streams is not None and item.question.mode is Mode.TEXT:
                for arm in item.question.arms:
                    streams.done(item.id, arm)

    def _store(self, answered: Mapping[LeasedItem, Answered]) -> None:
        if not answered:
            return
        stored = self._finish_persistently(list(answered.items()))
        for item in answered:
            if item.id not in stored:
                log.warning("item %d: the lease was lost, the result is dropped", item.id)

    def _finish_persistently(self, results: Sequence[tuple[LeasedItem, Answered]]) -> frozenset[int]:
        for seconds in STORE_AGAIN_SECONDS:
            try:
                return self._leases.finish(results)
            except StorageFault as error:
                log.warning("results could not be stored, trying again: %s", error)
                self._stopping.wait(seconds)
        return self._leases.finish(results)

    def _close(self, item: LeasedItem, error: BaseException) -> None:
        try:
            if isinstance(error, Cancelled):
                self._leases.cancel_running(item)
                return
            # A fault of the question or of its vector does not go away with another attempt.
            attempts = 1 if isinstance(error, BadInput | VectorRefused) else self._terms.max_attempts
            status = self._leases.fail(item, reason_in_words(error), max_attempts=attempts)
            log.warning("item %d failed and is now %s", item.id, status)
        except LeaseLost:
            log.warning("item %d: the lease was lost, its failure is dropped", item.id)


def reason_in_words(error: BaseException) -> str:
    """Return the reason shown with a question that could not be answered."""
    if isinstance(error, MedxError):
        return str(error)
    return f"The model failed on this question ({type(error).__name__}); the worker's log says more."
