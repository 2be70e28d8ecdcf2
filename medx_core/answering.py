"""Answering: routes, steers and answers questions on one model, several at a time.

It knows nothing of jobs: the same engine serves `medx ask` and the micro-batches of a worker. One thread calls it.
"""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import chain
from typing import Protocol

import torch
from torch import Tensor

from medx_core.categories import Category, Route, RouteSource
from medx_core.jobs.recipe import EngineDescription
from medx_core.models.generation import GreedyWriting
from medx_core.models.loading import LoadedModel
from medx_core.models.prefix_cache import SharedPrefix
from medx_core.models.prompting import TEXT_PROMPT_VERSION, text_prompt_ids
from medx_core.models.scoring import AnswerHead, score
from medx_core.prompts import VerdictPrompt, verdict_prompt_for
from medx_core.questions import Answer, Answered, Arm, ArmRow, Mode, Question, Verdict
from medx_core.routing.router import Router
from medx_core.settings import Settings
from medx_core.steering.hooks import SteeringPlan, plan_for_rows, steered
from medx_core.steering.layers import hidden_size
from medx_core.steering.names import GATED
from medx_core.steering.steering_vector import SteeringVector

NO_VECTOR = "No steering vector is active for this model and category; answered unsteered. Build them with `medx vectors build`."
NOT_FOR_TEXT = (
    "The active vector is input-dependent and made for verdicts, so the text was written unsteered."
)
OTHER_PROMPT = "The active vector was fitted on another prompt than this question needs; answered unsteered."
NOT_ROUTED = "No category was decided, so no steering vector was used; choose a category to steer."


class ActiveVectors(Protocol):
    """Where the engine finds the vector in use per category."""

    def active(self, model_sha256: str) -> Mapping[Category, SteeringVector]:
        """Return the active vectors of that model; categories without one are left out."""
        ...


@dataclass(frozen=True)
class RowVector:
    """The vector that steers one row; None where the row stays unsteered, with a `note` that says why."""

    vector: SteeringVector | None
    note: str = ""

    def plan(self, mode: Mode) -> SteeringPlan:
        """What steers the row's answer in that mode; empty where it stays unsteered."""
        if self.vector is None:
            return SteeringPlan()
        return self.vector.verdict_plan if mode is Mode.VERDICT else self.vector.plan


class AnsweringEngine:
    """One model on one device with its router and active vectors. One thread calls it."""

    def __init__(
        self, model: LoadedModel, router: Router, vectors: ActiveVectors, settings: Settings
    ) -> None:
        self._model = model
        self._router = router
        self._vectors = vectors
        self._settings = settings
        self._width = hidden_size(model.network)
        self._heads: dict[str, tuple[SharedPrefix, AnswerHead]] = {}
        self._active: Mapping[Category, SteeringVector] = {}
        self.refresh_vectors()

    @property
    def description(self) -> EngineDescription:
        """The model, its number type and the vectors in use now."""
        placement = self._model.placement
        return EngineDescription(
            model_name=self._model.name,
            weight_sha256=self._model.weight_sha256,
            device=str(placement),
            number_type=str(placement.dtype).removeprefix("torch."),
            vectors={category: vector.version for category, vector in self._active.items()},
            identity_sha256=self._model.identity_sha256,
            check=self._model.check,
        )

    def refresh_vectors(self) -> None:
        """Read again which vectors are active."""
        self._active = self._vectors.active(self._model.weight_sha256)

    def route(self, questions: Sequence[Question]) -> tuple[Route, ...]:
        """Route every question; a category given by a person or a file takes precedence over the router's."""
        routed = self._router.route([question.text for question in questions])
        return tuple(_with_choice(question, route) for question, route in zip(questions, routed, strict=True))

    def verdicts(self, rows: Sequence[ArmRow]) -> tuple[Answer, ...]:
        """Score every row, TRUE or FALSE; rows with the same prompt share one forward pass.

        Raises:
            ModelUnavailable: a pass does not fit into the device's memory.
        """
        answers: dict[int, Answer] = {}
        for prompt in dict.fromkeys(verdict_prompt_for(row.question.text) for row in rows):
            indices = [i for i, row in enumerate(rows) if verdict_prompt_for(row.question.text) == prompt]
            scored = self._score(prompt, [rows[i] for i in indices])
            answers.update(zip(indices, scored, strict=True))
        return tuple(answers[i] for i in range(len(rows)))

    def write(self, rows: Sequence[ArmRow]) -> "Writing":
        """Start a written answer for every row; nothing runs before the first step."""
        row_vectors = [self._vector_of(row, TEXT_PROMPT_VERSION) for row in rows]
        return Writing(self._model, rows, row_vectors, self._settings.max_new_tokens)

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

    def _score(self, prompt: VerdictPrompt, rows: Sequence[ArmRow]) -> list[Answer]:
        started = time.perf_counter()
        prefix, head = self._head(prompt)
        row_vectors = [self._vector_of(row, prompt.version) for row in rows]
        plans = [row_vector.plan(Mode.VERDICT) for row_vector in row_vectors]
        prompts = [prefix.encoded(row.question.text) for row in rows]
        differences = head.logit_differences(self._final_states(prefix, prompts, plans)).tolist()
        seconds = (time.perf_counter() - started) / len(rows)
        return [
            self._verdict(_without_content(self._model, row, row_vector, prompt.version, seconds), difference)
            for row, row_vector, difference in zip(rows, row_vectors, differences, strict=True)
        ]

    def _final_states(
        self, prefix: SharedPrefix, prompts: Sequence[list[int]], plans: Sequence[SteeringPlan]
    ) -> Tensor:
        """Return the final state of each prompt's last token under its own plan: (rows, hidden_size).

        Rows whose plan acts on earlier tokens too cannot begin with the shared, unsteered beginning; where the model gets
        padded rows wrong, only prompts of one length share a pass.
        """
        together: dict[tuple[bool, int], list[int]] = defaultdict(list)
        for i, (prompt, plan) in enumerate(zip(prompts, plans, strict=True)):
            together[not plan.last_token_only, 0 if self._model.can.batch else len(prompt)].append(i)
        parts = []
        for (whole, _), rows in together.items():
            plan = plan_for_rows([plans[i] for i in rows], width=self._width)
            with steered(self._model.network, plan):
                parts.append(prefix.last_states([prompts[i] for i in rows], whole=whole))
        order = torch.argsort(torch.tensor(list(chain.from_iterable(together.values())))).to(
            self._model.device
        )
        return torch.cat(parts)[order]

    def _verdict(self, answer: Answer, difference: float) -> Answer:
        value = score(difference)
        raw = Verdict.TRUE if difference >= 0 else Verdict.FALSE
        near = abs(value - 0.5) < self._settings.uncertain_margin
        return replace(answer, score=value, raw_verdict=raw, verdict=Verdict.UNCERTAIN if near else raw)

    def _head(self, prompt: VerdictPrompt) -> tuple[SharedPrefix, AnswerHead]:
        if prompt.version not in self._heads:
            prefix = SharedPrefix(self._model, prompt)
            self._heads[prompt.version] = (prefix, AnswerHead(prefix))
        return self._heads[prompt.version]

    def _vector_of(self, row: ArmRow, prompt_version: str) -> RowVector:
        """Choose the vector for one row that is asked with the prompt of that version."""
        if row.arm is Arm.UNSTEERED:
            return RowVector(None)
        if row.route.category is None:
            return RowVector(None, NOT_ROUTED)
        vector = self._active.get(row.route.category)
        if vector is None:
            return RowVector(None, NO_VECTOR)
        why_not = self._why_not(vector, row.question.mode, prompt_version)
        return RowVector(None if why_not else vector, why_not)

    def _why_not(self, vector: SteeringVector, mode: Mode, prompt_version: str) -> str:
        """Return why this vector must not steer this answer; empty where it may."""
        if mode is Mode.TEXT:
            return "" if vector.strategy != GATED or self._settings.gated_text else NOT_FOR_TEXT
        # A gate reads states, and was fitted on the states of one prompt.
        return "" if vector.is_constant or vector.prompt_version == prompt_version else OTHER_PROMPT


def _with_choice(question: Question, route: Route) -> Route:
    if question.category is None:
        return route
    source = RouteSource.FILE if question.category_from_file else RouteSource.USER
    return replace(route, category=question.category, source=source)


class Writing:
    """Written answers of several rows, each steered by its own vector, that grow by one token per step."""

    def __init__(
        self,
        model: LoadedModel,
        rows: Sequence[ArmRow],
        row_vectors: Sequence[RowVector],
        max_new_tokens: int,
    ) -> None:
        self._model, self._rows, self._row_vectors = model, tuple(rows), tuple(row_vectors)
        self._started = time.perf_counter()
        self._seconds = [0.0] * len(rows)
        self._plans = [row_vector.plan(Mode.TEXT) for row_vector in row_vectors]
        self._plan_of: dict[tuple[int, ...], SteeringPlan] = {}
        self._passes = 0
        prompts = [text_prompt_ids(model.tokenizer, row.question.text) for row in rows]
        self._greedy = GreedyWriting(model, prompts, max_new_tokens=max_new_tokens, around=self._steered)

    def _steered(self, rows: tuple[int, ...]) -> AbstractContextManager[None]:
        network = self._model.network
        if rows not in self._plan_of:
            plans = [self._plans[i] for i in rows]
            self._plan_of[rows] = plan_for_rows(plans, width=hidden_size(network))
        # The first pass reads the prompt, the one after it the answer's token 0.
        begins_at = self._passes - 1 if self._passes else None
        return steered(network, self._plan_of[rows], begins_at=begins_at)

    @property
    def finished(self) -> bool:
        """Whether every answer has ended."""
        return self._greedy.finished

    def step(self) -> tuple[str, ...]:
        """Write one more token on every unfinished answer; return the new text per row."""
        pieces = self._greedy.step()
        self._passes += 1
        self._note_ends()
        return pieces

    def cancel(self, index: int) -> None:
        """End one answer at its present length."""
        self._greedy.cancel(index)
        self._note_ends()

    def row_finished(self, index: int) -> bool:
        """Whether one answer has ended."""
        return self._greedy.rows[index].finished

    def answers(self) -> tuple[Answer, ...]:
        """Return the answers so far; complete once `finished`."""
        return tuple(self._answer(index) for index in range(len(self._rows)))

    def _note_ends(self) -> None:
        for index, written in enumerate(self._greedy.rows):
            if written.finished and not self._seconds[index]:
                self._seconds[index] = time.perf_counter() - self._started

    def _answer(self, index: int) -> Answer:
        row, row_vector, seconds = self._rows[index], self._row_vectors[index], self._seconds[index]
        answer = _without_content(self._model, row, row_vector, TEXT_PROMPT_VERSION, seconds)
        written = self._greedy.rows[index]
        return replace(
            answer, text=written.text, tokens=len(written.tokens), finish=written.finish or "running"
        )


def _without_content(
    model: LoadedModel, row: ArmRow, row_vector: RowVector, prompt_version: str, seconds: float
) -> Answer:
    """Return an answer without content: how it is made, and in how many `seconds`."""
    vector = row_vector.vector
    return Answer(
        arm=row.arm,
        model=model.name,
        model_sha256=model.weight_sha256,
        prompt_version=prompt_version,
        seconds=seconds,
        vector=vector.version if vector else None,
        layer=vector.layer if vector else None,
        alpha=vector.alpha if vector else None,
        note=row_vector.note,
    )
