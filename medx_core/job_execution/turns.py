"""What the engine does next: people go ahead of files, and a verdict gets in between two tokens.

A turn is one small unit of work: one pass of verdicts, the start of some written answers, or one more token on them.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

from medx_core.errors import Cancelled
from medx_core.job_execution.lanes import Lane
from medx_core.job_execution.running_texts import RunningText
from medx_core.job_execution.waiting_questions import WaitingQuestion, WaitingQuestions
from medx_core.questions import Mode

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
