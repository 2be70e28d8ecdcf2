"""The interfaces between jobs and the model: questions go in on a lane, answered questions come out as futures."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from medx_core.categories import Route
from medx_core.errors import MedxError, VectorRefused
from medx_core.jobs.engine import EngineDescription
from medx_core.questions import Answer, Answered, Arm, ArmRow, Question


class Lane(IntEnum):
    """Priority of a question. A lower number is served strictly before a higher one."""

    INTERACTIVE = 0
    BATCH = 1


class Interrupted(MedxError):
    """The process stops before this question was answered; another process answers it."""


@dataclass(frozen=True)
class Listener:
    """Callbacks of the code that waits for an answer.

    `on_route` receives the route of a written answer before its first text, and again if the answer is started again, and the
    route of a question that then fails;
    `on_text` receives each new piece; `should_stop` is asked between micro-batches and between tokens. All are called
    on the engine's thread: none may raise, `on_route` may take a moment, the others must return at once.
    """

    on_route: Callable[[Route], None] = lambda _route: None
    on_text: Callable[[Arm, str], None] = lambda _arm, _piece: None
    should_stop: Callable[[], bool] = lambda: False


class Answerer(Protocol):
    """Answers questions asynchronously. A future may end in Cancelled, Interrupted or the fault of its question."""

    @property
    def recipe(self) -> str:
        """The id of the recipe in use, which a job that begins now is bound to; empty where none can answer."""
        ...

    def submit(self, question: Question, *, lane: Lane, listener: Listener) -> Future[Answered]:
        """Queue one question; returns at once."""
        ...


class TextWriting(Protocol):
    """Written answers that grow together, one token per step; a row is one arm of one question."""

    def step(self) -> tuple[str, ...]:
        """Write one token on every row; return the new text per row."""
        ...

    def cancel(self, index: int) -> None:
        """End one row at its present length."""
        ...

    def row_finished(self, index: int) -> bool:
        """Whether one row has ended."""
        ...

    def refusal(self, index: int) -> VectorRefused | None:
        """Return why one row is refused and gets no answer; None where it is not."""
        ...

    def answers(self) -> tuple[Answer, ...]:
        """Return the answers so far."""
        ...


class Engine(Protocol):
    """The part of `medx_core.answering.AnsweringEngine` that the micro-batcher uses. One thread calls it."""

    @property
    def description(self) -> EngineDescription:
        """The model, its number type and the recipe in use now."""
        ...

    def route(self, questions: Sequence[Question]) -> tuple[Route, ...]:
        """Decide the category of every question."""
        ...

    def verdicts(self, rows: Sequence[ArmRow]) -> tuple[Answer | VectorRefused, ...]:
        """Score all rows in one forward pass; a row may be refused by itself."""
        ...

    def write(self, rows: Sequence[ArmRow]) -> TextWriting:
        """Start a written answer for every row."""
        ...

    def refresh_recipe(self) -> None:
        """Read again which recipe is in use."""
        ...
