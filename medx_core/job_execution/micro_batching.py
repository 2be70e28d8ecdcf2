"""One thread drives the model: concurrent requests share forward passes, and people go ahead of files."""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from time import monotonic
from typing import Generic, TypeVar, assert_never

from medx_core.job_execution.interfaces import Engine, Interrupted, Lane, Listener
from medx_core.job_execution.scheduling import (
    BatchLimits,
    Beginning,
    Judging,
    RunningText,
    Turn,
    Turns,
    WaitingQuestion,
    WritingOn,
)
from medx_core.questions import Answered, ArmRow, Mode, Question

log = logging.getLogger(__name__)

REFRESH_VECTORS_SECONDS = 2.0

AnyEngine = TypeVar("AnyEngine", bound=Engine)


class MicroBatcher(Generic[AnyEngine]):
    """An `Answerer` on one engine, which is made and used on one thread of its own.

    `ready` ends with the engine once it is loaded, or with the fault that kept it from loading.
    """

    def __init__(self, load_engine: Callable[[], AnyEngine], limits: BatchLimits) -> None:
        self.ready: Future[AnyEngine] = Future()
        self.answered_questions = 0
        self.turns_taken = 0
        self._load_engine = load_engine
        self._changed = threading.Condition()
        self._turns = Turns(limits)
        self._closing = False
        self._turn_began: float | None = None
        self._progressed = monotonic()
        self._refreshed = monotonic()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Load the engine and begin, on the engine's own thread; returns at once."""
        self._thread.start()

    def submit(self, question: Question, *, lane: Lane, listener: Listener | None = None) -> Future[Answered]:
        """Hand in one question; the future ends in Interrupted when the batcher is closed first."""
        waiting = WaitingQuestion(question, lane, listener or Listener())
        with self._changed:
            if self._closing:
                waiting.failed(_stopping())
            else:
                self._turns.waiting.add(waiting)
                self._changed.notify_all()
        return waiting.future

    def begin_closing(self) -> None:
        """Take nothing new, let go of all but the answers that people watch being written; returns at once."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def close(self, *, timeout_seconds: float = 15.0) -> None:
        """Stop, and wait until the engine's thread has ended."""
        self.begin_closing()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)

    @property
    def stalled_seconds(self) -> float:
        """For how long the present turn has run; 0 between turns."""
        began = self._turn_began
        return 0.0 if began is None else monotonic() - began

    @property
    def seconds_since_progress(self) -> float:
        """How long ago the last turn ended."""
        return monotonic() - self._progressed

    def _run(self) -> None:
        try:
            engine = self._load_engine()
        except Exception as error:  # noqa: BLE001 - a thread's door: whoever asks `ready` is told
            with self._changed:
                self._closing = True
                self._turns.abandon_batches(error)
            self.ready.set_exception(error)
            return
        self.ready.set_result(engine)
        while (turn := self._next_turn()) is not None:
            self._turn_began = monotonic()
            self._refresh_vectors(engine)
            self._take(engine, turn)
            self._turn_began, self._progressed = None, monotonic()
            self.turns_taken += 1

    def _next_turn(self) -> Turn | None:
        """Wait for something to do; None once closed and done."""
        with self._changed:
            while True:
                if self._closing:
                    self._turns.abandon_batches(_stopping())
                self._turns.drop_stopped()
                turn, due_in = self._turns.next()
                if turn is not None or self._closing:
                    return turn
                self._changed.wait(due_in)

    def _take(self, engine: Engine, turn: Turn) -> None:
        match turn:
            case Judging():
                self._judge(engine, turn.questions)
            case Beginning():
                self._begin(engine, turn)
            case WritingOn():
                self._write_on(turn)
            case _:
                assert_never(turn)

    def _judge(self, engine: Engine, questions: Sequence[WaitingQuestion]) -> None:
        try:
            routes = engine.route([waiting.question for waiting in questions])
            rows = [
                ArmRow(waiting.question, route, arm)
                for waiting, route in zip(questions, routes, strict=True)
                for arm in waiting.question.arms
            ]
            answers = dict(
                zip(((id(row.question), row.arm) for row in rows), engine.verdicts(rows), strict=True)
            )
        except Exception as error:  # noqa: BLE001 - the engine's door: a fault belongs to the rows of this pass alone
            self._fail(Mode.VERDICT, questions, error)
            return
        for waiting, route in zip(questions, routes, strict=True):
            question = waiting.question
            own = tuple(answers[id(question), arm] for arm in question.arms)
            waiting.answered(Answered(question, route, own))
        self.answered_questions += len(questions)

    def _begin(self, engine: Engine, turn: Beginning) -> None:
        try:
            running = RunningText(engine, turn.questions)
        except Exception as error:  # noqa: BLE001 - the engine's door, as above
            self._fail(Mode.TEXT, turn.questions, error)
        else:
            self._go_on(turn.lane, running)

    def _write_on(self, turn: WritingOn) -> None:
        before = len(turn.running.unfinished)
        try:
            turn.running.step()
        except Exception as error:  # noqa: BLE001 - the engine's door, as above
            self._fail(Mode.TEXT, turn.running.unfinished, error)
        else:
            self.answered_questions += before - len(turn.running.unfinished)
            self._go_on(turn.lane, turn.running)

    def _go_on(self, lane: Lane, running: RunningText) -> None:
        with self._changed:
            self._turns.go_on(lane, running)

    def _fail(self, mode: Mode, questions: Sequence[WaitingQuestion], error: Exception) -> None:
        """Fail a question that failed alone; try several again in smaller company.

        A pass of many may fail for want of memory, or for one bad row: halves find out which.
        """
        if len(questions) == 1:
            log.error("a question failed (%s)", type(error).__name__, exc_info=error)
            questions[0].failed(error)
            return
        log.warning("a micro-batch of %d failed (%s); trying halves", len(questions), type(error).__name__)
        middle = len(questions) // 2
        with self._changed:
            self._turns.try_again(
                questions[0].lane, mode, [list(questions[:middle]), list(questions[middle:])]
            )

    def _refresh_vectors(self, engine: Engine) -> None:
        if monotonic() - self._refreshed < REFRESH_VECTORS_SECONDS:
            return
        self._refreshed = monotonic()
        try:
            engine.refresh_vectors()
        except Exception:  # a database that is away for a moment must not stop answers
            log.exception("the active vectors could not be read again; going on with those known")


def _stopping() -> Interrupted:
    return Interrupted("This worker stops; the question is answered by the next one.")
