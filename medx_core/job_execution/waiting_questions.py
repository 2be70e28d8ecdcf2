"""Questions that wait for the engine, and which of them share the next micro-batch."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import product
from time import monotonic

from medx_core.job_execution.lanes import Lane, Listener
from medx_core.questions import Answered, Arm, Mode, Question


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
