"""Answering: routes, steers and answers questions on one model, several at a time.

It knows nothing of jobs: the same engine serves `medx ask` and the micro-batches of a worker. One thread calls it.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Protocol

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
from medx_core.steering.dose import DoseMeter
from medx_core.steering.hooks import SteeringPlan, plan_for_rows, steered
from medx_core.steering.layers import hidden_size
from medx_core.steering.names import FITTED_TO_STATES, GATED
from medx_core.steering.steering_vector import SteeringVector
from medx_core.traces.resuming import SteeredRuns

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


@dataclass(frozen=True)
class VerdictReader:
    """What one verdict prompt needs on the model: its shared beginning, its answer words, and the runs of its arms."""

    prefix: SharedPrefix
    head: AnswerHead
    runs: SteeredRuns


class AnsweringEngine:
    """One model on one device with its router and active vectors. One thread calls it."""

    def __init__(
        self, model: LoadedModel, router: Router, vectors: ActiveVectors, settings: Settings
    ) -> None:
        self._model = model
        self._router = router
        self._vectors = vectors
        self._settings = settings
        self._readers: dict[str, VerdictReader] = {}
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
        return Writing(self._model, rows, row_vectors, self._settings)

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
        reader = self._reader(prompt)
        row_vectors = [self._vector_of(row, prompt.version) for row in rows]
        prompts = [reader.prefix.encoded(row.question.text) for row in rows]
        plans = _metered(row_vectors, prompts, Mode.VERDICT, self._settings.max_dose)
        differences = reader.head.logit_differences(reader.runs.of_rows(prompts, plans)).tolist()
        seconds = (time.perf_counter() - started) / len(rows)
        return [
            self._verdict(
                _without_content(self._model, row, row_vector, prompt.version, seconds, plan.meter),
                difference,
            )
            for row, row_vector, plan, difference in zip(rows, row_vectors, plans, differences, strict=True)
        ]

    def _verdict(self, answer: Answer, difference: float) -> Answer:
        value = score(difference)
        raw = Verdict.TRUE if difference >= 0 else Verdict.FALSE
        near = abs(value - 0.5) < self._settings.uncertain_margin
        return replace(answer, score=value, raw_verdict=raw, verdict=Verdict.UNCERTAIN if near else raw)

    def _reader(self, prompt: VerdictPrompt) -> "VerdictReader":
        if prompt.version not in self._readers:
            prefix = SharedPrefix(self._model, prompt)
            self._readers[prompt.version] = VerdictReader(prefix, AnswerHead(prefix), SteeredRuns(prefix))
        return self._readers[prompt.version]

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
        # Such a vector reads states, and was fitted on the states of one prompt.
        fitted = vector.strategy in FITTED_TO_STATES
        return OTHER_PROMPT if fitted and vector.prompt_version != prompt_version else ""


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
        limits: Settings,
    ) -> None:
        self._model, self._rows, self._row_vectors = model, tuple(rows), tuple(row_vectors)
        self._started = time.perf_counter()
        self._seconds = [0.0] * len(rows)
        self._passes = 0
        prompts = [text_prompt_ids(model.tokenizer, row.question.text) for row in rows]
        plans = _metered(row_vectors, prompts, Mode.TEXT, limits.max_dose)
        self._meters = [plan.meter for plan in plans]
        self._plan = plan_for_rows(plans, width=hidden_size(model.network))
        self._greedy = GreedyWriting(
            model, prompts, max_new_tokens=limits.max_new_tokens, around=self._steered
        )

    def _steered(self) -> AbstractContextManager[None]:
        # The first pass reads the prompt, the one after it the answer's token 0.
        begins_at = self._passes - 1 if self._passes else None
        return steered(self._model.network, self._plan, begins_at=begins_at)

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
                meter = self._meters[index]
                if meter is not None:
                    meter.closed = True  # the row is computed on beside the others, and not read

    def _answer(self, index: int) -> Answer:
        row, row_vector, seconds = self._rows[index], self._row_vectors[index], self._seconds[index]
        answer = _without_content(
            self._model, row, row_vector, TEXT_PROMPT_VERSION, seconds, self._meters[index]
        )
        written = self._greedy.rows[index]
        return replace(
            answer, text=written.text, tokens=len(written.tokens), finish=written.finish or "running"
        )


def _metered(
    row_vectors: Sequence[RowVector], prompts: Sequence[Sequence[int]], mode: Mode, max_dose: float
) -> list[SteeringPlan]:
    """Return each row's plan, with a meter of its dose where it is steered."""
    return [
        replace(row_vector.plan(mode), meter=DoseMeter(len(prompt), max_dose) if row_vector.vector else None)
        for row_vector, prompt in zip(row_vectors, prompts, strict=True)
    ]


def _without_content(
    model: LoadedModel,
    row: ArmRow,
    row_vector: RowVector,
    prompt_version: str,
    seconds: float,
    meter: DoseMeter | None,
) -> Answer:
    """Return an answer without content: how it is made, in how many `seconds`, and with which dose."""
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
        dose=meter.largest if meter else None,
        note=row_vector.note,
    )
