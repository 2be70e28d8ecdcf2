"""Written answers in the making: each token reaches its listener, and each question ends on its own."""

from collections.abc import Sequence

from medx_core.errors import Cancelled
from medx_core.job_execution.lanes import Engine
from medx_core.job_execution.waiting_questions import WaitingQuestion
from medx_core.questions import Answered, Arm, ArmRow


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
