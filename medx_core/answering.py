"""Answering: routes, steers and answers questions on one model, several at a time.

It knows nothing of jobs: the same engine serves `medx ask` and the micro-batches of a worker. One thread calls it.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from medx_core.categories import Category, Route, RouteSource
from medx_core.errors import RecipeUnusable, VectorRefused
from medx_core.jobs.engine import EngineDescription
from medx_core.models.generation import GreedyWriting
from medx_core.models.loading import LoadedModel
from medx_core.models.prefix_cache import SharedPrefix
from medx_core.models.prompting import TEXT_PROMPT_VERSION, text_prompt_ids
from medx_core.models.scoring import AnswerHead, score, why_unaskable
from medx_core.prompts import VerdictPrompt
from medx_core.questions import (
    Answer,
    Answered,
    Arm,
    ArmRow,
    Exploration,
    Mode,
    Question,
    Verdict,
    answered,
)
from medx_core.recipes import ModelIdentity, Recipe
from medx_core.routing.router import Router
from medx_core.settings import Settings
from medx_core.steering.dose import DoseMeter, limited_meter
from medx_core.steering.hooks import SteeringPlan, plan_for_rows, steered
from medx_core.steering.layers import hidden_size
from medx_core.steering.loaded_recipe import NOT_STEERABLE, UNSTEERED_ROW, LoadedRecipe, RowVector
from medx_core.traces.damage import repetition
from medx_core.traces.likelihoods import perplexity_after
from medx_core.traces.resuming import SteeredRuns

log = logging.getLogger(__name__)


class RecipeSource(Protocol):
    """Where the engine finds the recipe in use."""

    def answering(self, model: ModelIdentity) -> LoadedRecipe:
        """Return the recipe by which this model answers now, with its vectors; RecipeUnusable where the promoted one cannot."""
        ...

    def bound(self, model: ModelIdentity, recipe_id: str) -> LoadedRecipe:
        """Return the recipe that a job began with; RecipeUnusable where it was withdrawn or cannot answer any more."""
        ...

    def known(self, model: ModelIdentity) -> tuple[Recipe, ...]:
        """Return all recipes that could be put to use on this model."""
        ...

    def explored(self, model: ModelIdentity, exploration: Exploration) -> RowVector:
        """Return the vectors of an exploration, read and as strong as it says; VectorRefused where one cannot be used."""
        ...


@dataclass(frozen=True)
class VerdictReader:
    """What one verdict prompt needs on the model: its shared beginning, its answer words, and the runs of its arms."""

    prefix: SharedPrefix
    head: AnswerHead
    runs: SteeredRuns


class AnsweringEngine:
    """One model on one device with its router and the recipe in use. One thread calls it.

    Where the recipe in use cannot answer, nothing does: the engine raises RecipeUnusable until another one is in use.
    """

    def __init__(self, model: LoadedModel, router: Router, recipes: RecipeSource, settings: Settings) -> None:
        self._model = model
        self._router = router
        self._recipes = recipes
        self._settings = settings
        self._readers: dict[VerdictPrompt, VerdictReader] = {}
        self._unaskable: dict[VerdictPrompt, str] = {}
        self._refused: dict[str, str] = {}
        self._bound: dict[str, LoadedRecipe | None] = {}
        self.refresh_recipe()

    @property
    def description(self) -> EngineDescription:
        """The model, its number type and the recipe in use now, or why that one cannot answer."""
        in_use = self._in_use
        described = EngineDescription(
            model_name=self._model.name,
            weight_sha256=self._model.weight_sha256,
            device=str(self._model.placement),
            number_type=self._model.identity.number_type,
            recipe="",
            recipe_name=in_use.name,
            identity_sha256=self._model.identity_sha256,
            check=self._model.check,
            parameters=self._model.parameters,
            unaskable=self._refused,
        )
        if isinstance(in_use, RecipeUnusable):
            return replace(described, recipe=in_use.recipe, refused=str(in_use))
        recipe = in_use.recipe
        return replace(described, recipe=recipe.id, unsteered_recipe=recipe.unsteered.id)

    def refresh_recipe(self) -> None:
        """Read again which recipe is in use, and which others the model could not be asked by."""
        self._in_use: LoadedRecipe | RecipeUnusable = self._read_recipe()
        self._bound = {}
        known = self._recipes.known(self._model.identity)
        self._refused = {recipe.id: reason for recipe in known if (reason := self._why_unaskable(recipe))}

    def _read_recipe(self) -> LoadedRecipe | RecipeUnusable:
        try:
            loaded = self._recipes.answering(self._model.identity)
        except RecipeUnusable as unusable:
            return unusable
        if loaded.is_promoted and (reason := self._why_unaskable(loaded.recipe)):
            return RecipeUnusable(loaded.recipe.id, loaded.name, reason)
        return loaded

    def _why_unaskable(self, recipe: Recipe) -> str:
        """Return why the model refuses one of a recipe's prompts; empty where it refuses none, or gives no verdicts at all."""
        if not self._model.can.verdict:
            return ""
        for prompt in recipe.prompts:
            if prompt not in self._unaskable:
                self._unaskable[prompt] = why_unaskable(self._model, prompt)
        return next(filter(None, (self._unaskable[prompt] for prompt in recipe.prompts)), "")

    @property
    def _loaded(self) -> LoadedRecipe:
        """The recipe in use; raises RecipeUnusable where it cannot answer."""
        in_use = self._in_use
        if isinstance(in_use, RecipeUnusable):
            raise RecipeUnusable(in_use.recipe, in_use.name, in_use.reason)
        return in_use

    def _by(self, question: Question) -> LoadedRecipe:
        """Return the recipe that answers a question: that of its job while it can, else the one in use."""
        in_use, wanted = self._loaded, question.recipe
        if wanted in (None, in_use.recipe.id) or question.exploration is not None:
            return in_use
        if wanted not in self._bound:
            try:
                bound = self._recipes.bound(self._model.identity, wanted)
            except RecipeUnusable as unusable:
                log.warning("a job goes on by another recipe than the one it began with: %s", unusable.reason)
                self._bound[wanted] = None
            else:
                self._bound[wanted] = None if self._why_unaskable(bound.recipe) else bound
        return self._bound[wanted] or in_use

    def route(self, questions: Sequence[Question]) -> tuple[Route, ...]:
        """Route every question; a category given by a person or a file takes precedence over the router's."""
        routed = self._router.route([question.text for question in questions])
        return tuple(_with_choice(question, route) for question, route in zip(questions, routed, strict=True))

    def verdicts(self, rows: Sequence[ArmRow]) -> tuple[Answer | VectorRefused, ...]:
        """Score every row, TRUE or FALSE; rows with the same prompt share one forward pass.

        A row whose vector moves it further than is allowed is refused, and those beside it have their answers.

        Raises:
            BadInput: a question is longer than the model reads, or cannot be asked as it is.
            ModelUnavailable: a pass does not fit into the device's memory, or the model gives no verdicts.
            RecipeUnusable: the recipe in use cannot answer here.
        """
        self._model.require("verdict")
        answers: dict[int, Answer | VectorRefused] = {}
        prompts = [
            self._by(row.question).recipe.prompt_for(row.question.text, row.route.category) for row in rows
        ]
        for prompt in dict.fromkeys(prompts):
            indices = [i for i, other in enumerate(prompts) if other == prompt]
            scored = self._score(prompt, [rows[i] for i in indices])
            answers.update(zip(indices, scored, strict=True))
        return tuple(answers[i] for i in range(len(rows)))

    def write(self, rows: Sequence[ArmRow]) -> "Writing":
        """Start a written answer for every row; nothing runs before the first step.

        Raises:
            BadInput: a question leaves no room for an answer in what the model reads, or cannot be asked as it is.
            ModelUnavailable: the model writes no answers.
            RecipeUnusable: the recipe in use cannot answer here.
        """
        self._model.require("text")
        recipes = [self._by(row.question) for row in rows]
        row_vectors = [
            self._row_vector(row, loaded.for_text) for row, loaded in zip(rows, recipes, strict=True)
        ]
        return Writing(self._model, [loaded.recipe for loaded in recipes], rows, row_vectors, self._settings)

    def answer(self, question: Question) -> Answered:
        """Answer one question in all its arms, without a queue; an arm that is steered further than is allowed is refused."""
        route = self.route([question])[0]
        rows = [ArmRow(question, route, arm) for arm in question.arms]
        if question.mode is Mode.VERDICT:
            return answered(question, route, self.verdicts(rows))
        writing = self.write(rows)
        while not writing.finished:
            writing.step()
        refusals = (writing.refusal(index) for index in range(len(rows)))
        given = zip(refusals, writing.answers(), strict=True)
        return answered(question, route, [refusal or answer for refusal, answer in given])

    def _score(self, prompt: VerdictPrompt, rows: Sequence[ArmRow]) -> list[Answer | VectorRefused]:
        started = time.perf_counter()
        reader, recipes = self._reader(prompt), [self._by(row.question) for row in rows]
        row_vectors = [
            self._row_vector(row, partial(loaded.for_verdict, prompt_version=prompt.version))
            for row, loaded in zip(rows, recipes, strict=True)
        ]
        prompts = [reader.prefix.encoded(row.question.text) for row in rows]
        meters = _meters(rows, row_vectors, prompts, [loaded.recipe for loaded in recipes], self._settings)
        plans = _metered(row_vectors, meters, Mode.VERDICT)
        differences = reader.head.logit_differences(reader.runs.of_rows(prompts, plans)).tolist()
        seconds = (time.perf_counter() - started) / len(rows)
        made = [
            _Made(self._model, loaded.recipe.id, row, row_vector, prompt.version)
            for row, row_vector, loaded in zip(rows, row_vectors, recipes, strict=True)
        ]
        return [
            (meter and meter.refusal) or _verdict(each.without_content(seconds, meter), loaded, difference)
            for each, loaded, meter, difference in zip(made, recipes, meters, differences, strict=True)
        ]

    def _row_vector(self, row: ArmRow, by_recipe: Callable[[Category | None], RowVector]) -> RowVector:
        if row.arm is Arm.UNSTEERED:
            return UNSTEERED_ROW
        if not self._model.can.steer:
            return RowVector(None, NOT_STEERABLE)
        if row.question.exploration is not None:
            return self._recipes.explored(self._model.identity, row.question.exploration)
        return by_recipe(row.route.category)

    def _reader(self, prompt: VerdictPrompt) -> VerdictReader:
        if prompt not in self._readers:
            prefix = SharedPrefix(self._model, prompt)
            self._readers[prompt] = VerdictReader(prefix, AnswerHead(prefix), SteeredRuns(prefix))
        return self._readers[prompt]


def _verdict(answer: Answer, loaded: LoadedRecipe, difference: float) -> Answer:
    """Return the answer with the verdict that the recipe gives on this logit difference."""
    recipe = loaded.recipe
    margin = difference - recipe.threshold
    raw = Verdict.TRUE if margin >= 0 else Verdict.FALSE
    # An exploration, the unsteered arm of a recipe that steers, and what had to stay unsteered is not what was measured.
    as_measured = answer.recipe is not None and bool(answer.vector) is bool(recipe.steering)
    doubt = loaded.doubt(margin, as_measured=as_measured)
    return replace(
        answer,
        score=score(margin),
        probability=loaded.probability(margin, as_measured=as_measured),
        raw_verdict=raw,
        verdict=Verdict.UNCERTAIN if doubt else raw,
        note=" ".join(part for part in (answer.note, doubt) if part),
    )


def _with_choice(question: Question, route: Route) -> Route:
    if question.category is None:
        return route
    source = RouteSource.FILE if question.category_from_file else RouteSource.USER
    return replace(route, category=question.category, source=source)


class Writing:
    """Written answers of several rows, each by its own recipe and vector, that grow by one token per step."""

    def __init__(
        self,
        model: LoadedModel,
        recipes: Sequence[Recipe],
        rows: Sequence[ArmRow],
        row_vectors: Sequence[RowVector],
        limits: Settings,
    ) -> None:
        self._made = tuple(
            _Made(model, recipe.id, row, row_vector, TEXT_PROMPT_VERSION)
            for recipe, row, row_vector in zip(recipes, rows, row_vectors, strict=True)
        )
        self._model = model
        self._started = time.perf_counter()
        self._seconds = [0.0] * len(rows)
        self._perplexity: dict[int, float] = {}
        self._passes = 0
        self._prompts = [text_prompt_ids(model.tokenizer, row.question.text) for row in rows]
        self._meters = _meters(rows, row_vectors, self._prompts, recipes, limits)
        self._plans = plans = _metered(row_vectors, self._meters, Mode.TEXT)
        self._plan_of: dict[tuple[int, ...], SteeringPlan] = {}
        self._greedy = GreedyWriting(
            model,
            self._prompts,
            max_new_tokens=limits.max_new_tokens,
            around=self._steered,
            share_prompts=model.can.shared_arms and all(plan.last_token_only for plan in plans),
        )

    def _steered(self, rows: tuple[int, ...]) -> AbstractContextManager[None]:
        if rows not in self._plan_of:
            plans = [self._plans[i] for i in rows]
            self._plan_of[rows] = plan_for_rows(plans, width=hidden_size(self._model.network))
        # The first pass reads the prompt, the one after it the answer's token 0.
        begins_at = self._passes - 1 if self._passes else None
        return steered(self._model.network, self._plan_of[rows], begins_at=begins_at)

    @property
    def finished(self) -> bool:
        """Whether every answer has ended."""
        return self._greedy.finished

    def step(self) -> tuple[str, ...]:
        """Write one more token on every unfinished answer; return the new text per row.

        An answer that is steered further than is allowed ends there, refused; those beside it go on.
        """
        pieces = self._greedy.step()
        self._passes += 1
        refused = [self.refusal(index) is not None for index in range(len(pieces))]
        for index in (place for place, is_refused in enumerate(refused) if is_refused):
            self._greedy.cancel(index)
        self._note_ends()
        return tuple("" if is_refused else piece for piece, is_refused in zip(pieces, refused, strict=True))

    def refusal(self, index: int) -> VectorRefused | None:
        """Return why one answer is refused; None while its dose stays within the limit."""
        meter = self._meters[index]
        return meter.refusal if meter else None

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
                meter = self._meters[index]
                if meter is not None:
                    meter.closed = True  # the row is computed on beside the others, and not read
                if self._made[index].row.question.exploration and written.tokens:
                    self._perplexity[index] = perplexity_after(
                        self._model, self._prompts[index], written.tokens
                    )

    def _answer(self, index: int) -> Answer:
        answer = self._made[index].without_content(self._seconds[index], self._meters[index])
        written = self._greedy.rows[index]
        explored = self._made[index].row.question.exploration is not None
        return replace(
            answer,
            text=written.text,
            tokens=len(written.tokens),
            finish=written.finish or "running",
            perplexity=self._perplexity.get(index),
            repetition=repetition(written.text) if explored else None,
        )


def _meters(
    rows: Sequence[ArmRow],
    row_vectors: Sequence[RowVector],
    prompts: Sequence[Sequence[int]],
    recipes: Sequence[Recipe],
    limits: Settings,
) -> list[DoseMeter | None]:
    """Return a meter of its dose for each row that is steered; what a recipe allows is no limit of an exploration."""
    meters: list[DoseMeter | None] = []
    for row, row_vector, prompt, recipe in zip(rows, row_vectors, prompts, recipes, strict=True):
        by_recipe = None if row.question.exploration else recipe.max_dose
        meter = limited_meter(len(prompt), by_recipe, by_setting=limits.max_dose)
        meters.append(meter if row_vector.vector else None)
    return meters


def _metered(
    row_vectors: Sequence[RowVector], meters: Sequence[DoseMeter | None], mode: Mode
) -> list[SteeringPlan]:
    """Return each row's plan with its meter."""
    return [
        replace(row_vector.plan(mode), meter=meter)
        for row_vector, meter in zip(row_vectors, meters, strict=True)
    ]


@dataclass(frozen=True)
class _Made:
    """How one answer is made."""

    model: LoadedModel
    recipe_id: str
    row: ArmRow
    row_vector: RowVector
    prompt_version: str

    def without_content(self, seconds: float, meter: DoseMeter | None) -> Answer:
        """Return an answer without content, made in so many seconds, with the dose that the meter read."""
        used = self.row_vector.vectors
        vector = used[0] if used else None
        explored = self.row.question.exploration is not None
        return Answer(
            arm=self.row.arm,
            model=self.model.name,
            model_sha256=self.model.weight_sha256,
            recipe=None if explored else self.recipe_id,
            prompt_version=self.prompt_version,
            seconds=seconds,
            vector=" + ".join(each.version for each in used) or None,
            layer=vector.layer if vector else None,
            alpha=vector.alpha * self.row_vector.factor if vector else None,
            dose=meter.largest if meter else None,
            note=self.row_vector.note,
        )
