"""What the engine does next: people go ahead of files, and a verdict gets in between two tokens.

A turn is one small unit of work: one pass of verdicts, the start of some written answers, or one more token on them.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import product
from time import monotonic
from typing import Protocol

from medx_core.categories import Route
from medx_core.errors import Cancelled, MedxError
from medx_core.job_execution.interfaces import Engine, Lane, Listener
from medx_core.jobs.snapshots import LeasedItem
from medx_core.questions import Answered, Arm, ArmRow, Mode, Question
from medx_core.storage.leases import LeaseStore


@dataclass(eq=False)
class WaitingQuestion:
    """One question on its way through the engine. `heard` counts the characters its listener was given, by arm."""

    question: Question
    lane: Lane
    listener: Listener
    future: Future[Answered] = field(default_factory=Future)
    arrived: float = field(default_factory=monotonic)
    heard: dict[Arm, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many rows of a forward pass it takes: one an arm."""
        return len(self.question.arms)

    def answered(self, answered: Answered) -> None:
        """Hand the answers to whoever waits."""
        self.future.set_result(answered)

    def failed(self, error: BaseException) -> None:
        """Tell whoever waits that there will be no answer."""
        self.future.set_exception(error)


class WaitingQuestions:
    """Waiting questions by lane and mode. Not thread-safe: the micro-batcher guards it."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[Lane, Mode], list[WaitingQuestion]] = {
            place: [] for place in product(Lane, Mode)
        }

    def __len__(self) -> int:
        return sum(len(questions) for questions in self._waiting.values())

    def add(self, waiting: WaitingQuestion) -> None:
        """Let a question wait."""
        self._waiting[waiting.lane, waiting.question.mode].append(waiting)

    def due_in(self, lane: Lane, mode: Mode, *, max_rows: int, max_wait_seconds: float) -> float | None:
        """Return after how many seconds a micro-batch should start; None when nothing waits there."""
        questions = self._waiting[lane, mode]
        if not questions:
            return None
        if sum(waiting.rows for waiting in questions) >= max_rows:
            return 0.0
        return max(0.0, questions[0].arrived + max_wait_seconds - monotonic())

    def take(self, lane: Lane, mode: Mode, *, max_rows: int) -> list[WaitingQuestion]:
        """Take the longest-waiting question with those nearest to it in length, `max_rows` rows at most.

        A single question with more arms than that is taken alone.
        """
        questions = self._waiting[lane, mode]
        taken = nearest_in_length(questions, max_rows=max_rows)
        chosen = set(map(id, taken))
        self._waiting[lane, mode] = [waiting for waiting in questions if id(waiting) not in chosen]
        return taken

    def take_all(self, wanted: Callable[[WaitingQuestion], bool] = lambda _: True) -> list[WaitingQuestion]:
        """Take every waiting question that is `wanted`, whatever its lane."""
        taken: list[WaitingQuestion] = []
        for place, questions in self._waiting.items():
            chosen = [waiting for waiting in questions if wanted(waiting)]
            if chosen:
                taken += chosen
                self._waiting[place] = [waiting for waiting in questions if waiting not in chosen]
        return taken


def nearest_in_length(questions: Sequence[WaitingQuestion], *, max_rows: int) -> list[WaitingQuestion]:
    """Choose the first question and its neighbours in length, so that little of a pass is padding."""
    if not questions:
        return []
    by_length = sorted(questions, key=lambda waiting: len(waiting.question.text))
    low = by_length.index(questions[0])
    high, rows = low + 1, questions[0].rows
    while low > 0 or high < len(by_length):
        below, above = _gap(by_length, low, low - 1), _gap(by_length, high - 1, high)
        index = low - 1 if below <= above else high
        rows += by_length[index].rows
        if rows > max_rows:
            break
        low, high = min(low, index), max(high, index + 1)
    return by_length[low:high]


def _gap(by_length: Sequence[WaitingQuestion], inner: int, outer: int) -> float:
    """How much longer or shorter the next question outside is; infinite beyond the ends."""
    if not 0 <= outer < len(by_length):
        return float("inf")
    return abs(len(by_length[outer].question.text) - len(by_length[inner].question.text))


log = logging.getLogger(__name__)


class TextStreams(Protocol):
    """Where the text of an interactive answer goes while it is written. Must return at once and never fail."""

    def begin(self, item_id: int, arm: str) -> None:
        """The text is written from its beginning; what was sent before counts no more."""
        ...

    def piece(self, item_id: int, arm: str, text: str) -> None:
        """A new piece of the text."""
        ...

    def done(self, item_id: int, arm: str) -> None:
        """Nothing more comes; the database knows the rest."""
        ...


class WatchedText:
    """Hears what the engine does with one item and tells those who watch.

    The page shows the emergency line by the stored route, so no word is streamed before the route is stored. Where it
    cannot be stored (the lease was lost, the database is away) nothing is streamed, and the answer comes whole.
    """

    def __init__(self, item: LeasedItem, leases: LeaseStore, owner: str, streams: TextStreams) -> None:
        self._item, self._leases, self._owner, self._streams = item, leases, owner, streams
        self._route_is_stored = False
        for arm in item.arms:
            streams.begin(item.id, arm)

    def on_route(self, route: Route) -> None:
        """Store the route under the lease this item is held by."""
        if self._route_is_stored:
            return  # begun anew in smaller company: the same route, already stored
        try:
            self._route_is_stored = self._leases.store_route(self._item, owner=self._owner, route=route)
        except MedxError as error:
            log.warning("item %d: its route is stored with its answer only: %s", self._item.id, error)

    def on_text(self, arm: Arm, piece: str) -> None:
        """Stream one piece of the text."""
        if self._route_is_stored:
            self._streams.piece(self._item.id, arm, piece)


class RunningText:
    """A micro-batch of written answers.

    `unfinished` are the questions without an answer yet: what is left to try again when a step fails.
    """

    def __init__(self, engine: Engine, questions: Sequence[WaitingQuestion]) -> None:
        self.unfinished = list(questions)
        self._routes = dict(
            zip(questions, engine.route([waiting.question for waiting in questions]), strict=True)
        )
        for waiting, route in self._routes.items():
            waiting.listener.on_route(route)
        self._rows = [(waiting, arm) for waiting in questions for arm in waiting.question.arms]
        self._written = ["" for _ in self._rows]
        self._writing = engine.write(
            [ArmRow(waiting.question, self._routes[waiting], arm) for waiting, arm in self._rows]
        )

    def drop_stopped(self) -> None:
        """End the questions nobody waits for any more; what was written of them by now is handed out."""
        for waiting in list(self.unfinished):
            if waiting.listener.should_stop():
                self._cancel(waiting)

    def abandon(self, error: BaseException) -> None:
        """End every unfinished question with `error`."""
        for waiting in self.unfinished:
            waiting.failed(error)
        self.unfinished = []

    def step(self) -> None:
        """Write one token on every unfinished row and hand out what is new."""
        pieces = self._writing.step()
        for index, ((waiting, arm), piece) in enumerate(zip(self._rows, pieces, strict=True)):
            if piece and waiting in self.unfinished:
                self._written[index] += piece
                _tell(waiting, arm, self._written[index])
        for waiting in list(self.unfinished):
            self._finish_if_done(waiting)

    def _finish_if_done(self, waiting: WaitingQuestion) -> None:
        indices = self._indices(waiting)
        if not all(self._writing.row_finished(index) for index in indices):
            return
        answers = self._writing.answers()
        self.unfinished.remove(waiting)
        waiting.answered(
            Answered(waiting.question, self._routes[waiting], tuple(answers[index] for index in indices))
        )

    def _cancel(self, waiting: WaitingQuestion) -> None:
        self.unfinished.remove(waiting)
        indices = self._indices(waiting)
        for index in indices:
            self._writing.cancel(index)
        answers = self._writing.answers()
        begun = tuple(answers[index] for index in indices if answers[index].text)
        if begun:
            waiting.answered(Answered(waiting.question, self._routes[waiting], begun))
        else:
            waiting.failed(Cancelled("The answer was cancelled before a word of it was written."))

    def _indices(self, waiting: WaitingQuestion) -> list[int]:
        return [index for index, (owner, _) in enumerate(self._rows) if owner is waiting]


def _tell(waiting: WaitingQuestion, arm: Arm, written: str) -> None:
    """Hand on what the listener has not heard; after a second try the beginning is old news."""
    heard = waiting.heard.get(arm, 0)
    if len(written) > heard:
        waiting.heard[arm] = len(written)
        waiting.listener.on_text(arm, written[heard:])


# How many micro-batches of written answers grow at a time: several people, but one part of a file.
RUNNING_TEXTS = {Lane.INTERACTIVE: 4, Lane.BATCH: 1}


@dataclass(frozen=True)
class BatchLimits:
    """How large a micro-batch may get, and how long a row waits for company."""

    max_rows: int = 32
    max_wait_seconds: float = 0.02


@dataclass(frozen=True)
class Judging:
    """Judge these questions in one pass."""

    questions: list[WaitingQuestion]


@dataclass(frozen=True)
class Beginning:
    """Begin to write the answers to these questions."""

    lane: Lane
    questions: list[WaitingQuestion]


@dataclass(frozen=True)
class WritingOn:
    """Write one more token on these answers."""

    lane: Lane
    running: RunningText


Turn = Judging | Beginning | WritingOn


class Turns:
    """All questions the engine has in hand. Not thread-safe: the micro-batcher guards it."""

    def __init__(self, limits: BatchLimits) -> None:
        self.waiting = WaitingQuestions()
        self._limits = limits
        self._again: dict[tuple[Lane, Mode], deque[list[WaitingQuestion]]] = {
            place: deque() for place in product(Lane, Mode)
        }
        self._running: dict[Lane, deque[RunningText]] = {lane: deque() for lane in Lane}
        self._tokens_first = False

    def go_on(self, lane: Lane, running: RunningText) -> None:
        """Let written answers grow on, after the others of their lane."""
        if running.unfinished:
            self._running[lane].append(running)

    def try_again(self, lane: Lane, mode: Mode, groups: Iterable[list[WaitingQuestion]]) -> None:
        """Let questions be tried again in just this company."""
        self._again[lane, mode].extend(groups)

    def next(self) -> tuple[Turn | None, float | None]:
        """Return the next turn, or after how many seconds there will be one; None: not before something new comes."""
        due: list[float] = []
        for lane, mode in self._order():
            look = self._next_verdicts(lane) if mode is Mode.VERDICT else self._next_text(lane)
            if isinstance(look, Turn):
                return look, 0.0
            if look is not None:
                due.append(look)
        return None, min(due, default=None)

    def drop_stopped(self) -> None:
        """End the questions nobody waits for any more."""
        for waiting in self.waiting.take_all(lambda waiting: waiting.listener.should_stop()):
            waiting.failed(Cancelled("The question was cancelled before it was answered."))
        for lane in Lane:
            for running in self._running[lane]:
                running.drop_stopped()
            self._running[lane] = deque(running for running in self._running[lane] if running.unfinished)

    def abandon_batches(self, error: BaseException) -> None:
        """End with `error` all that waits, and the files' written answers; people's are written on."""
        for waiting in self.waiting.take_all():
            waiting.failed(error)
        for groups in self._again.values():
            for waiting in (waiting for group in groups for waiting in group):
                waiting.failed(error)
            groups.clear()
        for running in self._running[Lane.BATCH]:
            running.abandon(error)
        self._running[Lane.BATCH].clear()

    def _order(self) -> tuple[tuple[Lane, Mode], ...]:
        """People first, verdicts before tokens; in the batch lane verdicts and tokens go first by turns."""
        self._tokens_first = not self._tokens_first
        batch = (Mode.TEXT, Mode.VERDICT) if self._tokens_first else (Mode.VERDICT, Mode.TEXT)
        people = ((Lane.INTERACTIVE, Mode.VERDICT), (Lane.INTERACTIVE, Mode.TEXT))
        return (*people, *((Lane.BATCH, mode) for mode in batch))

    def _next_verdicts(self, lane: Lane) -> Turn | float | None:
        if self._again[lane, Mode.VERDICT]:
            return Judging(self._again[lane, Mode.VERDICT].popleft())
        due_in = self._due_in(lane, Mode.VERDICT)
        if due_in == 0.0:
            return Judging(self.waiting.take(lane, Mode.VERDICT, max_rows=self._limits.max_rows))
        return due_in

    def _next_text(self, lane: Lane) -> Turn | float | None:
        due_in = None
        if len(self._running[lane]) < RUNNING_TEXTS[lane]:
            if self._again[lane, Mode.TEXT]:
                return Beginning(lane, self._again[lane, Mode.TEXT].popleft())
            due_in = self._due_in(lane, Mode.TEXT)
        if due_in == 0.0:
            return Beginning(lane, self.waiting.take(lane, Mode.TEXT, max_rows=self._limits.max_rows))
        return WritingOn(lane, self._running[lane].popleft()) if self._running[lane] else due_in

    def _due_in(self, lane: Lane, mode: Mode) -> float | None:
        return self.waiting.due_in(
            lane, mode, max_rows=self._limits.max_rows, max_wait_seconds=self._limits.max_wait_seconds
        )
