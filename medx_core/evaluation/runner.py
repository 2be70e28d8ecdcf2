"""One evaluation: choose and fit on the training part, run the test part once in every arm, measure.

Nothing is chosen on the test part: its statements meet the model only after prompt, layer and strength are fixed. Each
runs through the model once, and every arm goes on from there. `unsteered`, `prompt_only` and `prior` (what mere bias
correction gives) are controls. `probe` and `lexical` are reference lines: the first shows what the state holds, the
second what the wording gives away without any language model.
"""

import platform
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from math import inf

import numpy as np
import torch
import transformers
from sklearn.model_selection import StratifiedGroupKFold, cross_val_score
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no stubs

from medx_core import __version__
from medx_core.accuracy import Values
from medx_core.calibration import Calibration
from medx_core.data.labelled_files import LabelledData
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.data.leakage import WORDING_READERS
from medx_core.errors import BadInput, RecipeUnusable, VectorRefused
from medx_core.evaluation.arms import ArmScores, ControlDraws, TestItems
from medx_core.evaluation.calibrated_arms import calibrated_arms, unseen_scores
from medx_core.evaluation.data_split import TRAIN, EvaluationParts, parts_of
from medx_core.evaluation.exclusion import Excluded, without_unaskable
from medx_core.evaluation.fit import FittedArms, fit_arms
from medx_core.evaluation.items import TestScores
from medx_core.evaluation.prompt_selection import OnStage, RunnerFor, candidate_scores, prompts_to_try
from medx_core.evaluation.recipe_arm import (
    ArmRecipe,
    RecipeOf,
    arm_as_recipe,
    built_in,
    recipe_scores,
    winner,
)
from medx_core.evaluation.request import DECLARED, RECIPE, EvaluationRequest
from medx_core.evaluation.result import (
    DoseFigures,
    Environment,
    EvaluationResult,
    Figures,
    ModelResult,
    RunSettings,
    SettingMap,
)
from medx_core.evaluation.result_builder import figures_of, model_comparisons
from medx_core.evaluation.wording_free import read_wording
from medx_core.fitting.fitted import FittedLayer
from medx_core.fitting.sweep import map_of_settings
from medx_core.models.loading import LoadedModel
from medx_core.models.scoring import why_unaskable
from medx_core.prompts import VerdictPrompt
from medx_core.steering.hooks import SteeringPlan
from medx_core.steering.loaded_recipe import LoadedRecipe
from medx_core.steering.names import ANSWER_WORD
from medx_core.traces.running import BATCH_ROWS
from medx_core.traces.statement_runner import StatementRunner

ExtraArm = Callable[[FittedArms, Sequence[LabelledStatement], EvaluationRequest, OnStage], ArmScores]
"""Runs an arm that is off unless asked for on the statements to answer; see `medx_core.lab.arms`."""
FOLDS = 5
OF_REQUEST = ("declared", "extra", "fit_on", "prompt", "seed", "draws", "category", "max_error")


@dataclass(frozen=True)
class Evaluated:
    """The result of an evaluation, and the scores of every test item that its figures were made from.

    `saved` is the arm of the first model that shall become a recipe, None where none was asked for.
    """

    result: EvaluationResult
    scores: tuple[TestScores, ...]
    saved: ArmRecipe | None = None


@dataclass(frozen=True)
class Evaluator:
    """Evaluates models on statements; `extra_arms` run only where the request names them.

    `recipe_of` names the recipe by which each model answers now; without a deployment, the built-in one. Where that recipe
    cannot answer, or refuses some of the statements for their dose (`max_dose` is the setting), there is no arm `recipe`, and
    the result says why.
    """

    data: LabelledData
    request: EvaluationRequest
    on_stage: OnStage
    batch_rows: int = BATCH_ROWS
    extra_arms: Mapping[str, ExtraArm] = field(default_factory=dict)
    recipe_of: RecipeOf = built_in
    max_dose: float = inf

    def evaluate(self, models: Iterable[LoadedModel]) -> Evaluated:
        """Evaluate every model on the same division of the data; the first is the one that is judged.

        The others are under `models`; `comparisons` holds the paper's own question for each of them: the first model,
        steered, minus that one, unsteered, paired on the same test statements.

        Raises:
            BadInput: the data cannot be divided or fitted on, or the request names an arm that is not among
                `extra_arms`.
            ModelUnavailable: a model cannot be loaded or does not fit.
        """
        request, sizes = self.request, self.request.sizes
        missing = set(request.extra) - set(self.extra_arms)
        if missing:
            raise BadInput(
                f"The arm {min(missing)} cannot be run from here; name it with `medx evaluate --arms`."
            )
        parts = parts_of(self.data.statements, sizes, seed=request.seed)
        results: dict[str, ModelResult] = {}
        scores: list[TestScores] = []
        saved: ArmRecipe | None = None
        recipes: dict[str, str] = {}
        for model in models:
            name, loaded = _told_apart(model.name, results), self._recipe_of(model)
            (results[name], model_scores, fitted), parts_asked = self._of_askable(model, loaded, name, parts)
            if not scores:
                parts = parts_asked
                if isinstance(loaded, LoadedRecipe) and not results[name].recipe_refused:
                    recipes = {loaded.recipe.id: RECIPE}
                saved = self._saved(fitted, results[name])
            scores.append(model_scores)
        first, *others = results.values()
        result = EvaluationResult(
            **dict(first),
            medx_version=__version__,
            data=request.title,
            data_sha256=self.data.sha256,
            seed=request.seed,
            n_train=len(parts.train),
            n_test=len(parts.test),
            n_association=len(parts.association),
            n_outside=len(parts.outside),
            notes={**self.data.notes, "test_items_near_training_items": int(parts.fitted_on.sum())},
            settings=RunSettings.model_validate(
                {name: getattr(request, name) for name in OF_REQUEST}
                | {"sample": sizes.sample, "split": sizes.split}
                | {"batch_rows": self.batch_rows, "preset": request.preset or None}
            ),
            environment=environment(),
            models={model.model: model for model in others},
            comparisons=model_comparisons(scores),
            recipes=recipes,
        )
        return Evaluated(result, tuple(scores), saved)

    def _recipe_of(self, model: LoadedModel) -> LoadedRecipe | RecipeUnusable:
        try:
            loaded = self.recipe_of(model)
        except RecipeUnusable as unusable:
            return unusable
        reasons = (why_unaskable(model, prompt) for prompt in loaded.recipe.prompts)
        reason = next(filter(None, reasons), "") if model.can.verdict else ""
        return RecipeUnusable(loaded.recipe.id, loaded.name, reason) if reason else loaded

    def _saved(self, fitted: FittedArms, result: ModelResult) -> ArmRecipe | None:
        if not self.request.save_recipe:
            return None
        arm = self.request.save_arm or winner(result.judged, result.choices)
        return arm_as_recipe(fitted, arm, result.choices)

    def _of_askable(
        self, model: LoadedModel, loaded: LoadedRecipe | RecipeUnusable, name: str, parts: EvaluationParts
    ) -> tuple[tuple[ModelResult, TestScores, FittedArms], EvaluationParts]:
        """Return the same as `_of_model`, and the parts without what the model cannot be asked.

        Which that is, is looked for once something was refused: it costs the tokens of every statement in every prompt.
        """
        try:
            return self._of_model(model, loaded, name, parts), parts
        except BadInput:
            in_use = loaded.recipe.prompts if isinstance(loaded, LoadedRecipe) else ()
            prompts = (*prompts_to_try(parts.train, self.request.prompt), *in_use)
            remaining, excluded = without_unaskable(model, prompts, parts)
            if not excluded:
                raise
        return self._of_model(model, loaded, name, remaining, excluded), remaining

    def _of_model(
        self,
        model: LoadedModel,
        loaded: LoadedRecipe | RecipeUnusable,
        name: str,
        parts: EvaluationParts,
        excluded: tuple[Excluded, ...] = (),
    ) -> tuple[ModelResult, TestScores, FittedArms]:
        """Return one model's result, the scores of the test items that its figures rest on, and what was fitted."""
        began = time.perf_counter()

        @cache
        def runner_for(prompt: VerdictPrompt) -> StatementRunner:
            return StatementRunner(model, prompt, self.batch_rows)

        request, items = self.request, TestItems((*parts.test, *parts.association))
        fitted = fit_arms(runner_for, parts.train, request, self.on_stage)
        lexical_reader, wording_scores = scored_by_wording(parts.train, items.statements)
        model_arms = _model_arms(fitted, runner_for, items.statements, self.on_stage)
        in_use, refused = self._in_use(loaded, runner_for, items.statements)
        arms = (
            *model_arms,
            ArmScores("lexical", wording_scores),
            *in_use,
            *(
                self.extra_arms[arm](fitted, items.statements, request, self.on_stage)
                for arm in request.extra
            ),
        )
        unseen, no_map = unseen_scores(fitted, self.on_stage)
        trust = calibrated_arms(arms, unseen, max_error=request.max_error, seed=request.seed)
        controls = _controls(fitted, items.among(items.counted).statements, request, self.on_stage)
        self.on_stage("computing intervals", 0, 1)
        with threadpool_limits(1, user_api="blas"):
            wording = read_wording(TestItems(parts.test), parts.not_tested, seed=request.seed)
        scores = TestScores(
            model=name,
            model_sha256=model.weight_sha256,
            device=str(model.placement),
            data_sha256=self.data.sha256,
            seed=request.seed,
            declared=request.declared,
            items=items,
            arms=trust.arms,
            controls=controls,
            wording=wording,
            fitted_on=parts.fitted_on,
            excluded=tuple(each for each in excluded if each.part != TRAIN),
        )
        fine_tuned = next((arm.fine_tuning for arm in arms if arm.fine_tuning), None)
        figures = figures_of(scores)
        choices = fitted.choices(lexical_reader=lexical_reader, fine_tuned=fine_tuned).model_copy(
            update={
                "calibrations": _tested(trust.calibrations, figures),
                "abstention_rules": dict(trust.rules),
                "uncalibrated": {**no_map, **trust.refused},
            }
        )
        result = ModelResult(
            **dict(figures),
            choices=choices,
            sweep=self._sweep(fitted),
            seconds=time.perf_counter() - began,
            recipe_refused=refused,
            excluded=tuple(each.figures for each in excluded),
            doses={
                arm.name: _dose_figures(arm.doses)
                for arm in arms
                if arm.doses is not None and np.isfinite(arm.doses).any()
            },
        )
        return result, scores, fitted

    def _in_use(
        self,
        loaded: LoadedRecipe | RecipeUnusable,
        runner_for: RunnerFor,
        statements: Sequence[LabelledStatement],
    ) -> tuple[tuple[ArmScores, ...], str]:
        """Return the recipe in use as an arm, or none and why."""
        if isinstance(loaded, RecipeUnusable):
            return (), str(loaded)
        on_progress = partial(self.on_stage, "the recipe in use")
        try:
            return (recipe_scores(runner_for, loaded, statements, on_progress, max_dose=self.max_dose),), ""
        except VectorRefused as refused:
            return (), str(refused)

    def _sweep(self, fitted: FittedArms) -> SettingMap | None:
        if self.request.declared != DECLARED:
            return None  # the map is of the gated arm: the ring in it is its setting
        on_progress = partial(self.on_stage, "mapping layers and strengths")
        mapped = map_of_settings(fitted.runner, fitted.gated, on_progress)
        return SettingMap.model_validate(mapped.as_json())


def _dose_figures(doses: Values) -> DoseFigures:
    """Return the figures of the doses (items,) of those that were steered."""
    steered = doses[np.isfinite(doses)]
    values = tuple(float(dose) for dose in np.sort(steered)[::-1])
    return DoseFigures(largest=float(steered.max()), median=float(np.median(steered)), values=values)


def _tested(calibrations: Mapping[str, Calibration], figures: Figures) -> dict[str, Calibration]:
    """Return the maps with the calibration error that each has on the test items."""
    arms = {name: figures.arm(name) for name in calibrations}
    errors = {name: arm.calibrated.ece for name, arm in arms.items() if arm is not None and arm.calibrated}
    return {name: calibration.tested(errors.get(name)) for name, calibration in calibrations.items()}


def _model_arms(
    fitted: FittedArms, runner_for: RunnerFor, statements: Sequence[LabelledStatement], on_stage: OnStage
) -> list[ArmScores]:
    """Run `statements` in every arm that comes from the model's states or answers, unsteered first."""
    texts, chosen = [statement.text for statement in statements], fitted.gated.chosen
    unsteered = fitted.runner.recorded(texts, [chosen.layer], partial(on_stage, "unsteered answers"))
    arms = [ArmScores("unsteered", unsteered.scores, unsteered.answer_words)]
    conditions = {"gated": chosen.condition}
    for reading, vectors in fitted.paper.items():
        name = "paper" if reading == ANSWER_WORD else f"paper_{reading}"
        conditions[name] = vectors.condition(statements)
    on_progress = partial(on_stage, "steered answers")
    steered = fitted.runner.steered(texts, list(conditions.values()), on_progress, with_doses=True)
    if fitted.prompts.prompt_only is not None:
        on_progress = partial(on_stage, "the best prompt alone")
        run = candidate_scores(runner_for, fitted.prompts.prompt_only.candidate, statements, on_progress)
        arms.append(ArmScores("prompt_only", run.scores, run.answer_words))
    arms.append(ArmScores("prior", unsteered.scores - fitted.threshold, unsteered.answer_words))
    arms += (
        ArmScores(name, run.scores, run.answer_words, doses=run.doses)
        for name, run in zip(conditions, steered, strict=True)
    )
    arms.append(ArmScores("probe", fitted.gated.values(unsteered.states[chosen.layer])))
    return arms


def scored_by_wording(
    train: Sequence[LabelledStatement], asked: Sequence[LabelledStatement]
) -> tuple[str, Values]:
    """Return the reader of wording that does best on `train`, cross-validated by groups, and its scores of `asked`."""
    texts = np.array([statement.text for statement in train], dtype=object)
    gold = np.array([statement.answer for statement in train], dtype=bool)
    groups = np.array([statement.group for statement in train])
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    quality = {
        name: float(np.mean(cross_val_score(build(), texts, gold, groups=groups, cv=folds)))
        for name, build in WORDING_READERS.items()
    }
    best = max(quality, key=lambda name: quality[name])
    reader = WORDING_READERS[best]().fit(texts, gold)
    return best, reader.decision_function(np.array([statement.text for statement in asked], dtype=object))


def _controls(
    fitted: FittedArms, statements: Sequence[LabelledStatement], request: EvaluationRequest, on_stage: OnStage
) -> tuple[ControlDraws, ...]:
    """Run the forty and more draws of the controls on the tested statements.

    Swaps of FALSE statements are not among them: they count in nothing that draws are compared by.
    """
    gated, paper = fitted.gated.chosen, fitted.paper[ANSWER_WORD]
    seeds = [10_000 * request.seed + draw for draw in range(request.draws)]
    drawn: dict[tuple[str, str], list[SteeringPlan]] = {
        ("random", "paper"): [
            paper.redrawn(FittedLayer.random, seed).condition(statements) for seed in seeds
        ],
        ("shuffled", "paper"): [
            paper.redrawn(FittedLayer.shuffled, seed).condition(statements) for seed in seeds
        ],
        ("gated_random", "gated"): [gated.random(seed).condition for seed in seeds],
        ("gated_shuffled", "gated"): [gated.shuffled(seed).condition for seed in seeds],
    }
    runs = iter(
        fitted.runner.steered(
            [statement.text for statement in statements],
            [condition for conditions in drawn.values() for condition in conditions],
            partial(on_stage, "random and shuffled controls"),
            with_answer_words=False,
        )
    )
    return tuple(
        ControlDraws(name, of, np.stack([next(runs).scores for _ in conditions]))
        for (name, of), conditions in drawn.items()
    )


def environment() -> Environment:
    """Return what the last digit of a figure depends on besides the settings: versions, and threads on a CPU."""
    return Environment(
        python=platform.python_version(),
        machine=platform.machine(),
        torch=torch.__version__,
        transformers=transformers.__version__,
        numpy=np.__version__,
        threads=torch.get_num_threads(),
    )


def _told_apart(name: str, taken: Collection[str]) -> str:
    """Return the model's name; a number behind it where another model of the run has the same name."""
    numbered = (f"{name} ({number})" for number in range(2, len(taken) + 2))
    return name if name not in taken else next(option for option in numbered if option not in taken)
