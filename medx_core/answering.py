"""Answering: routes, steers and answers questions on one model, several at a time.

It knows nothing of jobs: the same engine serves `medx ask` and the micro-batches of a worker. One thread calls it.
"""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Protocol

from medx_core.categories import Route, RouteSource
from medx_core.jobs.engine import EngineDescription
from medx_core.models.generation import GreedyWriting
from medx_core.models.loading import LoadedModel
from medx_core.models.prefix_cache import SharedPrefix
from medx_core.models.prompting import TEXT_PROMPT_VERSION, text_prompt_ids
from medx_core.models.scoring import AnswerHead, score
from medx_core.prompts import VerdictPrompt
from medx_core.questions import Answer, Answered, Arm, ArmRow, Mode, Question, Verdict
from medx_core.recipes import ModelIdentity, Recipe
from medx_core.routing.router import Router
from medx_core.settings import Settings
from medx_core.steering.hooks import plan_for_rows, steered
from medx_core.steering.layers import hidden_size
from medx_core.steering.loaded_recipe import UNSTEERED_ROW, LoadedRecipe, RowVector
from medx_core.traces.resuming import SteeredRuns


class RecipeSource(Protocol):
    """Where the engine finds the recipe in use."""

    def answering(self, model: ModelIdentity) -> LoadedRecipe:
        """Return the recipe by which this model answers now, with its vectors."""
        ...


@dataclass(frozen=True)
class VerdictReader:
    """What one verdict prompt needs on the model: its shared beginning, its answer words, and the runs of its arms."""

    prefix: SharedPrefix
    head: AnswerHead
    runs: SteeredRuns


class AnsweringEngine:
    """One model on one device with its router and the recipe in use. One thread calls it."""

    def __init__(self, model: LoadedModel, router: Router, recipes: RecipeSource, settings: Settings) -> None:
        self._model = model
        self._router = router
        self._recipes = recipes
        self._settings = settings
        self._readers: dict[VerdictPrompt, VerdictReader] = {}
        number_type = str(model.placement.dtype).removeprefix("torch.")
        self._identity = ModelIdentity(model.name, model.weight_sha256, number_type, model.identity_sha256)
        self._loaded = recipes.answering(self._identity)

    @property
    def description(self) -> EngineDescription:
        """The model, its number type and the recipe in use now."""
        return EngineDescription(
            model_name=self._model.name,
            weight_sha256=self._model.weight_sha256,
            device=str(self._model.placement),
            number_type=self._identity.number_type,
            recipe=self._loaded.recipe.id,
            recipe_name=self._loaded.name,
            identity_sha256=self._model.identity_sha256,
            check=self._model.check,
        )

    def refresh_recipe(self) -> None:
        """Read again which recipe is in use."""
        self._loaded = self._recipes.answering(self._identity)

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
        recipe = self._loaded.recipe
        prompts = [recipe.prompt_for(row.question.text, row.route.category) for row in rows]
        for prompt in dict.fromkeys(prompts):
            indices = [i for i, other in enumerate(prompts) if other == prompt]
            scored = self._score(prompt, [rows[i] for i in indices])
            answers.update(zip(indices, scored, strict=True))
        return tuple(answers[i] for i in range(len(rows)))

    def write(self, rows: Sequence[ArmRow]) -> "Writing":
        """Start a written answer for every row; nothing runs before the first step."""
        row_vectors = [
            UNSTEERED_ROW if row.arm is Arm.UNSTEERED else self._loaded.for_text(row.route.category)
            for row in rows
        ]
        return Writing(self._model, self._loaded.recipe.id, rows, row_vectors, self._settings.max_new_tokens)

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
        reader, loaded = self._reader(prompt), self._loaded
        row_vectors = [
            UNSTEERED_ROW
            if row.arm is Arm.UNSTEERED
            else loaded.for_verdict(row.route.category, prompt.version)
            for row in rows
        ]
        plans = [row_vector.plan(Mode.VERDICT) for row_vector in row_vectors]
        prompts = [reader.prefix.encoded(row.question.text) for row in rows]
        differences = reader.head.logit_differences(reader.runs.of_rows(prompts, plans)).tolist()
        seconds = (time.perf_counter() - started) / len(rows)
        made = [
            _Made(self._model, loaded.recipe.id, row, row_vector, prompt.version)
            for row, row_vector in zip(rows, row_vectors, strict=True)
        ]
        return [
            _verdict(each.without_content(seconds), loaded.recipe, difference)
            for each, difference in zip(made, differences, strict=True)
        ]

    def _reader(self, prompt: VerdictPrompt) -> VerdictReader:
        if prompt not in self._readers:
            prefix = SharedPrefix(self._model, prompt)
            self._readers[prompt] = VerdictReader(prefix, AnswerHead(prefix), SteeredRuns(prefix))
        return self._readers[prompt]


def _verdict(answer: Answer, recipe: Recipe, difference: float) -> Answer:
    """Return the answer with the verdict that the recipe gives on this logit difference."""
    margin = difference - recipe.threshold
    raw = Verdict.TRUE if margin >= 0 else Verdict.FALSE
    verdict = raw if recipe.trusts(margin) else Verdict.UNCERTAIN
    return replace(answer, score=score(margin), raw_verdict=raw, verdict=verdict)


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
        recipe_id: str,
        rows: Sequence[ArmRow],
        row_vectors: Sequence[RowVector],
        max_new_tokens: int,
    ) -> None:
        self._made = tuple(
            _Made(model, recipe_id, row, row_vector, TEXT_PROMPT_VERSION)
            for row, row_vector in zip(rows, row_vectors, strict=True)
        )
        self._network = model.network
        self._started = time.perf_counter()
        self._seconds = [0.0] * len(rows)
        plans = [row_vector.plan(Mode.TEXT) for row_vector in row_vectors]
        self._plan = plan_for_rows(plans, width=hidden_size(model.network))
        self._passes = 0
        prompts = [text_prompt_ids(model.tokenizer, row.question.text) for row in rows]
        self._greedy = GreedyWriting(model, prompts, max_new_tokens=max_new_tokens, around=self._steered)

    def _steered(self) -> AbstractContextManager[None]:
        # The first pass reads the prompt, the one after it the answer's token 0.
        begins_at = self._passes - 1 if self._passes else None
        return steered(self._network, self._plan, begins_at=begins_at)

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
        return tuple(self._answer(index) for index in range(len(self._made)))

    def _note_ends(self) -> None:
        for index, written in enumerate(self._greedy.rows):
            if written.finished and not self._seconds[index]:
                self._seconds[index] = time.perf_counter() - self._started

    def _answer(self, index: int) -> Answer:
        answer, written = self._made[index].without_content(self._seconds[index]), self._greedy.rows[index]
        return replace(
            answer, text=written.text, tokens=len(written.tokens), finish=written.finish or "running"
        )


@dataclass(frozen=True)
class _Made:
    """How one answer is made."""

    model: LoadedModel
    recipe_id: str
    row: ArmRow
    row_vector: RowVector
    prompt_version: str

    def without_content(self, seconds: float) -> Answer:
        """Return an answer without content, made in so many seconds."""
        vector = self.row_vector.vector
        return Answer(
            arm=self.row.arm,
            model=self.model.name,
            model_sha256=self.model.weight_sha256,
            recipe=self.recipe_id,
            prompt_version=self.prompt_version,
            seconds=seconds,
            vector=vector.version if vector else None,
            layer=vector.layer if vector else None,
            alpha=vector.alpha if vector else None,
            note=self.row_vector.note,
        )
