"""Written answers of several rows, each steered by its own vector, one token a step."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from medx_core.answering.row_vectors import RowVector
from medx_core.models.generation import GreedyWriting
from medx_core.models.loading import LoadedModel
from medx_core.models.prompting import TEXT_PROMPT_VERSION, text_prompt_ids
from medx_core.questions import Answer, ArmRow
from medx_core.steering.hooks import plan_for_rows, steered
from medx_core.steering.layers import hidden_size


class Writing:
    """A batch of written answers that grows one token a step."""

    def __init__(
        self, model: LoadedModel, rows: Sequence[ArmRow], steerings: Sequence[RowVector], max_new_tokens: int
    ) -> None:
        self._model, self._rows, self._steerings = model, tuple(rows), tuple(steerings)
        self._started = time.perf_counter()
        self._seconds = [0.0] * len(rows)
        parts = [steering.parts for steering in steerings]
        self._plan = plan_for_rows(parts, width=hidden_size(model.network))
        self._prompt_read = False
        prompts = [text_prompt_ids(model.tokenizer, row.question.text) for row in rows]
        self._greedy = GreedyWriting(model, prompts, max_new_tokens=max_new_tokens, around=self._steered)

    def _steered(self) -> AbstractContextManager[None]:
        return steered(self._model.network, self._plan.after_the_prompt if self._prompt_read else self._plan)

    @property
    def finished(self) -> bool:
        """Whether every answer has ended."""
        return self._greedy.finished

    def step(self) -> tuple[str, ...]:
        """Write one more token on every unfinished answer; return each row's new piece of text."""
        pieces = self._greedy.step()
        self._prompt_read = True
        self._note_ends()
        return pieces

    def cancel(self, index: int) -> None:
        """End one answer where it stands."""
        self._greedy.cancel(index)
        self._note_ends()

    def row_finished(self, index: int) -> bool:
        """Whether one answer has ended."""
        return self._greedy.rows[index].finished

    def answers(self) -> tuple[Answer, ...]:
        """Return the answers as they stand; complete once `finished`."""
        return tuple(self._answer(index) for index in range(len(self._rows)))

    def _note_ends(self) -> None:
        for index, written in enumerate(self._greedy.rows):
            if written.finished and not self._seconds[index]:
                self._seconds[index] = time.perf_counter() - self._started

    def _answer(self, index: int) -> Answer:
        written = self._greedy.rows[index]
        shell = answer_shell(
            self._model, self._rows[index], self._steerings[index], TEXT_PROMPT_VERSION, self._seconds[index]
        )
        return replace(
            shell, text=written.text, tokens=len(written.tokens), finish=written.finish or "running"
        )


def answer_shell(
    model: LoadedModel, row: ArmRow, steering: RowVector, prompt_version: str, seconds: float
) -> Answer:
    """Return an answer that holds only how it was made."""
    vector = steering.vector
    return Answer(
        arm=row.arm,
        model=model.name,
        model_sha256=model.weight_sha256,
        prompt_version=prompt_version,
        seconds=seconds,
        vector=vector.version if vector else None,
        layer=vector.layer if vector else None,
        alpha=vector.alpha if vector else None,
        note=steering.note,
    )
