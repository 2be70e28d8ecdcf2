"""One thread drives the model: concurrent requests share forward passes, and people go ahead of files."""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from time import monotonic

from medx_core.categories import Route
from medx_core.errors import RecipeUnusable
from medx_core.job_execution.interfaces import Engine, Interrupted, Lane, Listener
from medx_core.job_execution.scheduling import BatchLimits, RunningText, Schedule, Step, WaitingQuestion
from medx_core.questions import Answered, ArmRow, Mode, Question, answered

log = logging.getLogger(__name__)

REFRESH_RECIPE_SECONDS = 2.0


class MicroBatcher:
    """An `Answerer` on one engine, which is loaded and used on a thread of its own.

    `ready` resolves to the engine once it is loaded, or to the fault that kept it from loading.
    """

    def __init__(self, load_engine: Callable[[], Engine], limits: BatchLimits) -> None:
        self.ready: Future[Engine] = Future()
        self.answered_questions = 0
        self._load_engine = load_engine
        self._changed = threading.Condition()
        self._schedule = Schedule(limits)
        self._closing = self._finished = self._is_quiet = False
        self._step_began: float | None = None
        self._progressed = monotonic()
        self._refreshed = monotonic()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Start the engine's thread, which loads the engine; returns at once."""
        self._thread.start()

    @property
    def recipe(self) -> str:
        """The id of the recipe in use; empty before the engine is loaded, and where that recipe cannot answer."""
        if not self.ready.done() or self.ready.exception() is not None:
            return ""
        described = self.ready.result().description
        return "" if described.refused else described.recipe

    def submit(self, question: Question, *, lane: Lane, listener: Listener | None = None) -> Future[Answered]:
        """Queue one question; the future ends in Interrupted if the batcher is closed first."""
        waiting = WaitingQuestion(question, lane, listener or Listener())
        waiting.future.add_done_callback(self._count)
        with self._changed:
            if self._closing:
                waiting.future.set_exception(_stopping())
            else:
                self._schedule.add(waiting)
                self._changed.notify_all()
        return waiting.future

    def begin_closing(self) -> None:
        """Accept nothing more, and drop all but the texts that people watch; returns at once."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def close(self, *, timeout_seconds: float | None = 15.0) -> None:
        """Stop, and wait for the end of the engine's thread; with None, however long its last step takes."""
        self.begin_closing()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)

    @property
    def stalled_seconds(self) -> float:
        """Duration of the present step; 0 between steps."""
        began = self._step_began
        return 0.0 if began is None else monotonic() - began

    @property
    def seconds_since_progress(self) -> float:
        """Time since the last step ended."""
        return monotonic() - self._progressed

    def _run(self) -> None:
        try:
            engine = self._load_engine()
        except Exception as error:  # noqa: BLE001 - a thread's door: whoever asks `ready` is told
            with self._changed:
                self._closing = True
                self._schedule.abandon_batches(error)
            self.ready.set_exception(error)
            return
        self.ready.set_result(engine)
        while not self._finished:
            step = self._next_step()
            if step is None:
                if self._is_quiet:  # so that the heartbeat reports the recipe in use while nothing is asked
                    self._refresh_recipe(engine)
                continue
            self._step_began = monotonic()
            if monotonic() - self._refreshed >= REFRESH_RECIPE_SECONDS:
                self._refresh_recipe(engine)
                self._refreshed = monotonic()
            self._take(engine, step)
            self._step_began, self._progressed = None, monotonic()

    def _next_step(self) -> Step | None:
        """Wait for the next step; None when closed and done, and now and then in a quiet time."""
        with self._changed:
            if self._closing:
                self._schedule.abandon_batches(_stopping())
            self._schedule.drop_stopped()
            step, due_in = self._schedule.next()
            if step is None and not self._closing:
                woken = self._changed.wait(REFRESH_RECIPE_SECONDS if due_in is None else due_in)
                self._is_quiet = due_in is None and not woken
            self._finished = step is None and self._closing
            return step

    def _take(self, engine: Engine, step: Step) -> None:
        if isinstance(step, RunningText):
            self._continue_text(step)
        elif step[0].question.mode is Mode.VERDICT:
            self._score(engine, step)
        else:
            self._start_text(engine, step)

    def _score(self, engine: Engine, questions: Sequence[WaitingQuestion]) -> None:
        routes: Sequence[Route] = ()
        try:
            routes = engine.route([waiting.question for waiting in questions])
            rows = [
                ArmRow(waiting.question, route, arm)
                for waiting, route in zip(questions, routes, strict=True)
                for arm in waiting.question.arms
            ]
            answers = iter(engine.verdicts(rows))
            arms = [tuple(next(answers) for _ in waiting.question.arms) for waiting in questions]
        except Exception as error:  # noqa: BLE001 - the engine's door: a fault belongs to the rows of this pass alone
            if len(questions) == 1 and routes:  # whatever became of it, an emergency must be seen
                questions[0].listener.on_route(routes[0])
            self._fail(questions, error)
            return
        for waiting, route, of_question in zip(questions, routes, arms, strict=True):
            waiting.future.set_result(answered(waiting.question, route, of_question))

    def _start_text(self, engine: Engine, questions: Sequence[WaitingQuestion]) -> None:
        try:
            running = RunningText(engine, questions)
        except Exception as error:  # noqa: BLE001 - the engine's door, as above
            self._fail(questions, error)
        else:
            self._go_on(running)

    def _continue_text(self, running: RunningText) -> None:
        try:
            running.step()
        except Exception as error:  # noqa: BLE001 - the engine's door, as above
            self._fail(running.unfinished, error)
        else:
            self._go_on(running)

    def _go_on(self, running: RunningText) -> None:
        with self._changed:
            self._schedule.go_on(running)

    def _count(self, future: Future[Answered]) -> None:
        """Count an answer; what was refused, failed or was cut short is none."""
        if future.cancelled() or future.exception() is not None:
            return
        made = future.result()
        self.answered_questions += not (made.refusal or made.is_cut_short)

    def _fail(self, questions: Sequence[WaitingQuestion], error: Exception) -> None:
        """Fail a question that was alone in its batch; try the halves of a larger batch again.

        A batch may fail for lack of memory or because of one bad row; halving finds out which. Where the recipe in use
        cannot answer, none of its questions can be.
        """
        if isinstance(error, RecipeUnusable):
            log.warning("%d questions wait: %s", len(questions), error)
            for waiting in questions:
                waiting.future.set_exception(error)
            return
        if len(questions) == 1:
            log.error("a question failed (%s)", type(error).__name__, exc_info=error)
            questions[0].future.set_exception(error)
            return
        log.warning("a micro-batch of %d failed (%s); trying halves", len(questions), type(error).__name__)
        middle = len(questions) // 2
        with self._changed:
            self._schedule.try_again(questions[:middle], questions[middle:])

    def _refresh_recipe(self, engine: Engine) -> None:
        try:
            engine.refresh_recipe()
        except (
            Exception
        ):  # a database that is away for a moment must not stop answers; a damaged recipe does not come here
            log.exception("the recipe could not be read again; the one read before stays in use")


def _stopping() -> Interrupted:
    return Interrupted("This process stops; the question is left to the next worker.")
