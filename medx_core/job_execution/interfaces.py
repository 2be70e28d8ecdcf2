"""The seam between jobs and the model: questions go in on a lane, answered questions come out as futures."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from medx_core.categories import Route
from medx_core.errors import MedxError
from medx_core.jobs.status import JobKind
from medx_core.questions import Answer, Answered, Arm, ArmRow, Question


class Lane(IntEnum):
    """Who goes first. A lower number is served strictly ahead of a higher one."""

    INTERACTIVE = 0
    BATCH = 1


LANE_OF: dict[JobKind, Lane] = {JobKind.QUESTION: Lane.INTERACTIVE, JobKind.BATCH: Lane.BATCH}


class Interrupted(MedxError):
    """The process stops before it came to this question; somebody else answers it."""


def _unheard(_arm: Arm, _piece: str) -> None:
    """Nobody listens."""


def _unnoticed(_route: Route) -> None:
    """Nobody asks before the answer is there."""


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Listener:
    """Who waits for an answer.

    `on_route` hears the route of a written answer before its first piece, and again if the answer is begun anew;
    `on_text` hears each new piece, `should_stop` is asked between micro-batches and tokens. All are called on the
    engine's thread: none may fail, `on_route` may take a moment, the others must return at once.
    """

    on_route: Callable[[Route], None] = _unnoticed
    on_text: Callable[[Arm, str], None] = _unheard
    should_stop: Callable[[], bool] = _never


class Answerer(Protocol):
    """Answers questions in its own time. The future ends in Cancelled, Interrupted or the fault of that question."""

    def submit(self, question: Question, *, lane: Lane, listener: Listener) -> Future[Answered]:
        """Hand in one question; never waits."""
        ...


class TextWriting(Protocol):
    """Written answers growing together, one token a step; a row is one arm of one question."""

    @property
    def finished(self) -> bool:
        """Whether every row has ended."""
        ...

    def step(self) -> tuple[str, ...]:
        """Write one token on every row; return each row's new piece of text."""
        ...

    def cancel(self, index: int) -> None:
        """End one row where it stands."""
        ...

    def row_finished(self, index: int) -> bool:
        """Whether one row has ended."""
        ...

    def answers(self) -> tuple[Answer, ...]:
        """Return the answers as they stand."""
        ...


class Engine(Protocol):
    """What the micro-batcher needs of `medx_core.answering.AnsweringEngine`. One thread calls it."""

    def route(self, questions: Sequence[Question]) -> tuple[Route, ...]:
        """Decide the category of every question."""
        ...

    def verdicts(self, rows: Sequence[ArmRow]) -> tuple[Answer, ...]:
        """Judge all rows in one forward pass."""
        ...

    def write(self, rows: Sequence[ArmRow]) -> TextWriting:
        """Start a written answer for every row."""
        ...

    def refresh_vectors(self) -> None:
        """Ask anew which steering vectors are active."""
        ...
