"""Which step the engine takes next: people go ahead of files, and a verdict gets in between two tokens.

A step is one small unit of work: one forward pass that scores statements, the start of some written answers, or one
more token on each of them.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import chain, product
from time import monotonic

from medx_core.errors import Cancelled, VectorRefused
from medx_core.job_execution.interfaces import Engine, Lane, Listener
from medx_core.questions import Answer, Answered, Arm, ArmRow, Mode, Question, answered

# How many micro-batches of written answers grow at a time: several people, but one part of a file.
RUNNING_TEXTS = {Lane.INTERACTIVE: 4, Lane.BATCH: 1}


@dataclass(frozen=True)
class BatchLimits:
    """The most rows of a micro-batch, and how long a row waits for others to share its forward pass."""

    max_rows: int = 32
    max_wait_seconds: float = 0.02


@dataclass(eq=False)
class WaitingQuestion:
    """One question on its way through the engine. `heard` counts the characters its listener received, per arm."""

    question: Question
    lane: Lane
    listener: Listener
    future: Future[Answered] = field(default_factory=Future)
    arrived: float = field(default_factory=monotonic)
    heard: dict[Arm, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many rows of a forward pass it takes: one per arm."""
        return len(self.question.arms)

    @property
    def place(self) -> tuple[Lane, Mode]:
        """Where it waits, and with which questions it may share a forward pass."""
        return self.lane, self.question.mode


def nearest_in_length(questions: Sequence[WaitingQuestion], *, max_rows: int) -> list[WaitingQuestion]:
    """Choose the first question and its neighbours in length, so that little of the forward pass is padding.

    A single question with more arms than `max_rows` is taken alone.
    """
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
    """Return the difference in length to the next question outside; infinite beyond the ends."""
    if not 0 <= outer < len(by_length):
        return float("inf")
    return abs(len(by_length[outer].question.text) - len(by_length[inner].question.text))


class RunningText:
    """A micro-batch of written answers that grow together.

    `unfinished` holds the questions without an answer so far: those to try again when a step fails.
    """

    def __init__(self, engine: Engine, questions: Sequence[WaitingQuestion]) -> None:
        self.lane = questions[0].lane
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
        """End the questions that were cancelled; their text so far is kept."""
        for waiting in list(self.unfinished):
            if waiting.listener.should_stop():
                self._cancel(waiting)

    def abandon(self, error: BaseException) -> None:
        """End every unfinished question with `error`."""
        for waiting in self.unfinished:
            waiting.future.set_exception(error)
        self.unfinished = []

    def step(self) -> None:
        """Write one token on every unfinished row and pass new text to the listeners."""
        pieces = self._writing.step()
        for index, ((waiting, arm), piece) in enumerate(zip(self._rows, pieces, strict=True)):
            if piece and waiting in self.unfinished:
                self._written[index] += piece
                _pass_on(waiting, arm, self._written[index])
        for waiting in list(self.unfinished):
            self._finish_if_done(waiting)

    def _finish_if_done(self, waiting: WaitingQuestion) -> None:
        indices = self._indices(waiting)
        refusals = [self._writing.refusal(index) for index in indices]
        if all(
            refusal or self._writing.row_finished(index)
            for index, refusal in zip(indices, refusals, strict=True)
        ):
            given = zip(refusals, self._answers(indices), strict=True)
            self._finish(waiting, [refusal or answer for refusal, answer in given])

    def _cancel(self, waiting: WaitingQuestion) -> None:
        indices = self._indices(waiting)
        for index in indices:
            self._writing.cancel(index)
        begun = [answer for answer in self._answers(indices) if answer.text]
        if begun:
            self._finish(waiting, begun)
        else:
            self.unfinished.remove(waiting)
            waiting.future.set_exception(
                Cancelled("The answer was cancelled before a word of it was written.")
            )

    def _finish(self, waiting: WaitingQuestion, arms: Sequence[Answer | VectorRefused]) -> None:
        self.unfinished.remove(waiting)
        waiting.future.set_result(answered(waiting.question, self._routes[waiting], arms))

    def _answers(self, indices: Iterable[int]) -> tuple[Answer, ...]:
        answers = self._writing.answers()
        return tuple(answers[index] for index in indices)

    def _indices(self, waiting: WaitingQuestion) -> list[int]:
        return [index for index, (owner, _) in enumerate(self._rows) if owner is waiting]


def _pass_on(waiting: WaitingQuestion, arm: Arm, written: str) -> None:
    """Give the listener the text it has not had; a second attempt repeats the beginning."""
    heard = waiting.heard.get(arm, 0)
    if len(written) > heard:
        waiting.heard[arm] = len(written)
        waiting.listener.on_text(arm, written[heard:])


Step = Sequence[WaitingQuestion] | RunningText
"""Questions of one lane and mode that begin together, or written answers that grow by one token."""


class Schedule:
    """All questions that the engine has in hand. Not thread-safe: the micro-batcher holds the lock."""

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        places = tuple(product(Lane, Mode))
        self._waiting: dict[tuple[Lane, Mode], list[WaitingQuestion]] = {place: [] for place in places}
        self._again: dict[tuple[Lane, Mode], deque[Sequence[WaitingQuestion]]] = {
            place: deque() for place in places
        }
        self._running: dict[Lane, deque[RunningText]] = {lane: deque() for lane in Lane}
        self._tokens_first = False

    def add(self, waiting: WaitingQuestion) -> None:
        """Add a question."""
        self._waiting[waiting.place].append(waiting)

    def go_on(self, running: RunningText) -> None:
        """Let written answers continue, after the others of their lane."""
        if running.unfinished:
            self._running[running.lane].append(running)

    def try_again(self, *groups: Sequence[WaitingQuestion]) -> None:
        """Try each group of questions again as a micro-batch of its own."""
        for group in groups:
            self._again[group[0].place].append(group)

    def next(self) -> tuple[Step | None, float | None]:
        """Return the next step, or the seconds until there is one; None for both while nothing waits."""
        due: list[float] = []
        for lane, mode in self._order():
            step, due_in = self._next_of(lane, mode)
            if step is not None:
                return step, 0.0
            if due_in is not None:
                due.append(due_in)
        return None, min(due, default=None)

    def drop_stopped(self) -> None:
        """End the questions that were cancelled."""
        for waiting in self._take_all(lambda waiting: waiting.listener.should_stop()):
            waiting.future.set_exception(Cancelled("The question was cancelled before it was answered."))
        for lane, texts in self._running.items():
            for running in texts:
                running.drop_stopped()
            self._running[lane] = deque(running for running in texts if running.unfinished)

    def abandon_batches(self, error: BaseException) -> None:
        """End all waiting questions and the files' texts with `error`; texts that people watch are written to the end."""
        again = chain.from_iterable(chain.from_iterable(self._again.values()))
        for waiting in (*self._take_all(lambda _: True), *again):
            waiting.future.set_exception(error)
        for groups in self._again.values():
            groups.clear()
        for running in self._running[Lane.BATCH]:
            running.abandon(error)
        self._running[Lane.BATCH].clear()

    def _order(self) -> tuple[tuple[Lane, Mode], ...]:
        """People first, verdicts before tokens; in the batch lane verdicts and tokens alternate."""
        self._tokens_first = not self._tokens_first
        batch = (Mode.TEXT, Mode.VERDICT) if self._tokens_first else (Mode.VERDICT, Mode.TEXT)
        people = ((Lane.INTERACTIVE, Mode.VERDICT), (Lane.INTERACTIVE, Mode.TEXT))
        return (*people, *((Lane.BATCH, mode) for mode in batch))

    def _next_of(self, lane: Lane, mode: Mode) -> tuple[Step | None, float | None]:
        due_in = None
        if mode is Mode.VERDICT or len(self._running[lane]) < RUNNING_TEXTS[lane]:
            if self._again[lane, mode]:
                return self._again[lane, mode].popleft(), 0.0
            due_in = self._due_in(lane, mode)
            if due_in == 0.0:
                return self._take(lane, mode), 0.0
        if mode is Mode.TEXT and self._running[lane]:
            return self._running[lane].popleft(), 0.0
        return None, due_in

    def _due_in(self, lane: Lane, mode: Mode) -> float | None:
        """Return the seconds until a micro-batch should start; None when no question waits in this lane and mode."""
        questions = self._waiting[lane, mode]
        if not questions:
            return None
        if sum(waiting.rows for waiting in questions) >= self._limits.max_rows:
            return 0.0
        return max(0.0, questions[0].arrived + self._limits.max_wait_seconds - monotonic())

    def _take(self, lane: Lane, mode: Mode) -> list[WaitingQuestion]:
        questions = self._waiting[lane, mode]
        taken = nearest_in_length(questions, max_rows=self._limits.max_rows)
        chosen = set(taken)
        self._waiting[lane, mode] = [waiting for waiting in questions if waiting not in chosen]
        return taken

    def _take_all(self, is_wanted: Callable[[WaitingQuestion], bool]) -> list[WaitingQuestion]:
        taken: list[WaitingQuestion] = []
        for place, questions in self._waiting.items():
            kept: list[WaitingQuestion] = []
            for waiting in questions:
                (taken if is_wanted(waiting) else kept).append(waiting)
            self._waiting[place] = kept
        return taken
