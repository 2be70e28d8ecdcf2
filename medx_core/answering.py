"""Answering: questions are routed, steered and answered, several at a time, on one model.

An engine belongs to one thread. It knows nothing of jobs: the same engine serves `medx ask`, a worker's micro-batches
and evaluation.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Protocol

from medx_core.categories import Category, Route, RouteSource
from medx_core.models.generation import GreedyWriting
from medx_core.models.loading import LoadedModel
from medx_core.models.prompting import (
    TEXT_PROMPT_VERSION,
    VerdictPrompt,
    text_prompt_ids,
    verdict_prompt_for,
)
from medx_core.models.scoring import AnswerHead, score
from medx_core.models.shared_prefix import SharedPrefix
from medx_core.questions import Answer, Answered, Arm, ArmRow, Mode, Question, Verdict
from medx_core.routing.router import Router
from medx_core.steering.hooks import RowSteering, plan_for_rows, steered
from medx_core.steering.layers import hidden_size
from medx_core.steering.vector_files import SteeringVector

NO_VECTOR = "No steering vector is active for this model and category; answered unsteered. Build them with `medx vectors build`."
NOT_ROUTED = "No category was decided, so no steering vector was used; choose a category to steer."


class ActiveVectors(Protocol):
    """Says which vector steers each category on one model."""

    def active(self, model_sha256: str) -> Mapping[Category, SteeringVector]:
        """Return the active vectors of that model; categories without one are left out."""
        ...


@dataclass(frozen=True)
class AnsweringLimits:
    """What an answer may take: new tokens of a written one, and the margin around one half called uncertain."""

    max_new_tokens: int = 160
    uncertain_margin: float = 0.05


@dataclass(frozen=True)
class _Steering:
    vector: SteeringVector | None
    note: str = ""

    @property
    def row(self) -> RowSteering | None:
        """The hook's view of it."""
        if self.vector is None:
            return None
        return RowSteering(layer=self.vector.layer, vector=self.vector.direction, strength=self.vector.alpha)


class AnsweringEngine:
    """One model on one device with its router and active vectors. One thread calls it."""

    def __init__(
        self, model: LoadedModel, router: Router, vectors: ActiveVectors, limits: AnsweringLimits
    ) -> None:
        self._model = model
        self._router = router
        self._vectors = vectors
        self._limits = limits
        self._width = hidden_size(model.network)
        self._heads: dict[str, tuple[SharedPrefix, AnswerHead]] = {}
        self._active: Mapping[Category, SteeringVector] = {}
        self.refresh_vectors()

    @property
    def model_name(self) -> str:
        """The model's name as stored with every answer."""
        return self._model.name

    @property
    def weight_sha256(self) -> str:
        """The hash of the model's weights."""
        return self._model.weight_sha256

    @property
    def device(self) -> str:
        """Device and number type, for people."""
        return str(self._model.placement)

    def refresh_vectors(self) -> None:
        """Ask anew which vectors are active."""
        self._active = self._vectors.active(self._model.weight_sha256)

    def route(self, questions: Sequence[Question]) -> tuple[Route, ...]:
        """Route every question; a category chosen by a person or a file stands, with the router's probabilities beside it."""
        routed = self._router.route([question.text for question in questions])
        return tuple(_with_choice(question, route) for question, route in zip(questions, routed, strict=True))

    def verdicts(self, rows: Sequence[ArmRow]) -> tuple[Answer, ...]:
        """Judge every row, TRUE or FALSE; rows that share a prompt share one forward pass.

        Raises:
            ModelUnavailable: a pass does not fit into the device's memory.
        """
        answers: dict[int, Answer] = {}
        for prompt in dict.fromkeys(verdict_prompt_for(row.question.text) for row in rows):
            indices = [i for i, row in enumerate(rows) if verdict_prompt_for(row.question.text) == prompt]
            judged = self._judge(prompt, [rows[i] for i in indices])
            answers.update(zip(indices, judged, strict=True))
        return tuple(answers[i] for i in range(len(rows)))

    def write(self, rows: Sequence[ArmRow]) -> "Writing":
        """Start a written answer for every row; nothing runs before the first step."""
        return Writing(self._model, rows, [self._steering(row) for row in rows], self._limits.max_new_tokens)

    def answer(self, question: Question) -> Answered:
        """Answer one question in all its arms, without a queue."""
        route = self.route([question])[0]
        rows = [ArmRow(question, route, arm) for arm in question.arms]
        if question.mode is Mode.VERDICT:
            return Answered(question, route, self.verdicts(rows))
        writing = self.write(rows)
        while not writing.finished:
            writing.step()
        return Answered(question, route, writing.answers())

    def _judge(self, prompt: VerdictPrompt, rows: Sequence[ArmRow]) -> list[Answer]:
        started = time.perf_counter()
        prefix, head = self._head(prompt)
        steerings = [self._steering(row) for row in rows]
        plan = plan_for_rows([steering.row for steering in steerings], width=self._width)
        with steered(self._model.network, plan):
            states = prefix.last_states([prefix.encoded(row.question.text) for row in rows])
        differences = head.logit_differences(states).tolist()
        seconds = (time.perf_counter() - started) / len(rows)
        return [
            self._verdict(_answer_shell(self._model, row, steering, prompt.version, seconds), difference)
            for row, steering, difference in zip(rows, steerings, differences, strict=True)
        ]

    def _verdict(self, answer: Answer, difference: float) -> Answer:
        value = score(difference)
        raw = Verdict.TRUE if difference >= 0 else Verdict.FALSE
        near = abs(value - 0.5) < self._limits.uncertain_margin
        return replace(answer, score=value, raw_verdict=raw, verdict=Verdict.UNCERTAIN if near else raw)

    def _head(self, prompt: VerdictPrompt) -> tuple[SharedPrefix, AnswerHead]:
        if prompt.version not in self._heads:
            prefix = SharedPrefix(self._model, prompt)
            self._heads[prompt.version] = (prefix, AnswerHead(prefix))
        return self._heads[prompt.version]

    def _steering(self, row: ArmRow) -> _Steering:
        if row.arm is Arm.UNSTEERED:
            return _Steering(None)
        if row.route.category is None:
            return _Steering(None, NOT_ROUTED)
        vector = self._active.get(row.route.category)
        return _Steering(vector, "" if vector else NO_VECTOR)


class Writing:
    """A batch of written answers that grows one token a step."""

    def __init__(
        self, model: LoadedModel, rows: Sequence[ArmRow], steerings: Sequence[_Steering], max_new_tokens: int
    ) -> None:
        self._model, self._rows, self._steerings = model, tuple(rows), tuple(steerings)
        self._started = time.perf_counter()
        self._seconds = [0.0] * len(rows)
        self._plan = plan_for_rows([steering.row for steering in steerings], width=hidden_size(model.network))
        prompts = [text_prompt_ids(model.tokenizer, row.question.text) for row in rows]
        self._greedy = GreedyWriting(model, prompts, max_new_tokens=max_new_tokens, around=self._steered)

    def _steered(self) -> AbstractContextManager[None]:
        return steered(self._model.network, self._plan)

    @property
    def finished(self) -> bool:
        """Whether every answer has ended."""
        return self._greedy.finished

    def step(self) -> tuple[str, ...]:
        """Write one more token on every unfinished answer; return each row's new piece of text."""
        pieces = self._greedy.step()
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
        shell = _answer_shell(
            self._model, self._rows[index], self._steerings[index], TEXT_PROMPT_VERSION, self._seconds[index]
        )
        return replace(
            shell, text=written.text, tokens=len(written.tokens), finish=written.finish or "running"
        )


def _answer_shell(
    model: LoadedModel, row: ArmRow, steering: _Steering, prompt_version: str, seconds: float
) -> Answer:
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


def _with_choice(question: Question, route: Route) -> Route:
    if question.category is None:
        return route
    source = RouteSource.FILE if question.category_from_file else RouteSource.USER
    return replace(route, category=question.category, source=source)
