"""The recipe in use as an arm of its own, and an arm of an evaluation as the recipe that it would be.

Both ask `LoadedRecipe` what steers a statement, as the engine that answers does: what is measured is what answers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

import numpy as np

from medx_core.accuracy import Values
from medx_core.calibration import AbstentionRule, Calibration
from medx_core.categories import Category
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.errors import BadInput, VectorRefused
from medx_core.evaluation.arms import ArmScores
from medx_core.evaluation.calibrated_arms import with_trust
from medx_core.evaluation.fit import FittedArms
from medx_core.evaluation.prompt_selection import PromptCandidate, RunnerFor
from medx_core.evaluation.request import RECIPE
from medx_core.evaluation.result import UNSTEERED, Choices, Judgement
from medx_core.fitting.build import vector_of
from medx_core.fitting.fit import FittedVector
from medx_core.models.loading import LoadedModel
from medx_core.questions import Mode
from medx_core.recipes import ALL, ModelIdentity, Recipe, SteeringEntry, built_in_recipe
from medx_core.recipes import UNSTEERED as UNSTEERED_RECIPE
from medx_core.settings import settings
from medx_core.steering.dose import limited_meter
from medx_core.steering.loaded_recipe import LoadedRecipe
from medx_core.steering.names import ANSWER_WORD
from medx_core.steering.steering_vector import SteeringVector
from medx_core.traces.running import OnProgress

RecipeOf = Callable[[LoadedModel], LoadedRecipe]
"""Returns the recipe by which a model answers now."""


def built_in(model: LoadedModel) -> LoadedRecipe:
    """Return the built-in recipe without steering."""
    return LoadedRecipe(built_in_recipe(model.identity, settings()), UNSTEERED_RECIPE, {})


def recipe_scores(
    runner_for: RunnerFor,
    loaded: LoadedRecipe,
    statements: Sequence[LabelledStatement],
    on_progress: OnProgress,
    *,
    max_dose: float = inf,
) -> ArmScores:
    """Run statements as they would be answered now, those that are asked and steered alike together.

    Scores are less the recipe's threshold, mapped and trusted as the recipe says. `max_dose` is the setting; the smaller of it
    and the recipe's own counts.

    Raises:
        VectorRefused: some would be refused for their dose, so that there are no answers to all of them.
        ModelUnavailable: the tokenizer cannot tell a prompt's answer words apart, or a batch does not fit.
    """
    recipe = loaded.recipe
    alike: dict[tuple[object, ...], list[int]] = {}
    prompts = [recipe.prompt_for(statement.text, statement.category) for statement in statements]
    rows = [
        loaded.for_verdict(statement.category, prompt.version)
        for statement, prompt in zip(statements, prompts, strict=True)
    ]
    for place, (prompt, row) in enumerate(zip(prompts, rows, strict=True)):
        alike.setdefault((prompt, row.vector and row.vector.version), []).append(place)
    scores, words = np.zeros(len(statements)), np.zeros(len(statements), dtype=bool)
    doses = np.full(len(statements), np.nan)
    done = 0
    for places in alike.values():
        texts = [statements[place].text for place in places]
        runner, plan = runner_for(prompts[places[0]]), rows[places[0]].plan(Mode.VERDICT)
        run = runner.steered(texts, [plan], with_doses=True)[0] if plan.steps else runner.scores(texts)
        doses[places] = np.nan if run.doses is None else run.doses
        scores[places] = run.scores - recipe.threshold
        words[places] = False if run.answer_words is None else run.answer_words
        done += len(places)
        on_progress(done, len(statements))
    _refuse_doses(doses, loaded, max_dose)
    arm = ArmScores(RECIPE, scores, words, doses=doses)
    return arm if recipe.calibration is None else with_trust(arm, recipe.calibration, recipe.abstention)


def _refuse_doses(doses: Values, loaded: LoadedRecipe, max_dose: float) -> None:
    meter = limited_meter(0, loaded.recipe.max_dose, by_setting=max_dose)
    refused = int(np.sum(doses > meter.limit))
    if refused:
        raise VectorRefused(
            f"The recipe in use, {loaded.name} ({loaded.recipe.id}), refuses {refused} of these {len(doses)} statements: their "
            f"doses reach {np.nanmax(doses):.3g}, and {meter.limited_by} allows {meter.limit:g}."
        )


@dataclass(frozen=True)
class ArmRecipe:
    """What an arm of an evaluation is as a recipe, before its vectors have a place; they are keyed as its steering will be."""

    arm: str
    model: ModelIdentity
    prompts: PromptCandidate
    threshold: float = 0.0
    calibration: Calibration | None = None
    abstention: AbstentionRule | None = None
    vectors: Mapping[str, SteeringVector] = field(default_factory=dict)

    def on(self, base: Recipe, steering: Mapping[str, SteeringEntry]) -> Recipe:
        """Return a model's built-in recipe with this arm's prompts, threshold, steering, and whom it trusts.

        One prompt asks for all, since the arm asked its statements so.
        """
        category_prompts = {
            category: prompt for category, prompt in self.prompts.prompts.items() if category is not None
        }
        return Recipe.model_validate(
            {
                **base.model_dump(),
                "prompt": self.prompts.prompt,
                "question_prompt": None,
                "category_prompts": category_prompts,
                "threshold": self.threshold,
                "calibration": self.calibration,
                "abstention": self.abstention,
                "steering": steering,
            }
        )


def winner(judged: Judgement, choices: Choices) -> str:
    """Return the arm that is saved unless another is named: the judged one where it helps, else the best prompt alone.

    Besides the verdict, nothing of this is chosen on the test part.
    """
    if judged.helps:
        return judged.arm
    return "prompt_only" if choices.prompt_only else UNSTEERED


def arm_as_recipe(fitted: FittedArms, arm: str, choices: Choices) -> ArmRecipe:
    """Return an arm as a recipe; `choices` has the map of its scores and the rule of whom to trust, where it has them.

    Raises:
        BadInput: the arm was not run.
    """
    chosen = fitted.prompts.prompt_only if arm == "prompt_only" else fitted.prompts.unsteered
    if chosen is None:
        raise BadInput("The arm prompt_only was not run, since the prompt was given; save unsteered.")
    return ArmRecipe(
        arm=arm,
        model=fitted.runner.model.identity,
        prompts=chosen.candidate,
        threshold=fitted.threshold if arm == "prior" else 0.0,
        calibration=choices.calibrations.get(arm),
        abstention=choices.abstention_rules.get(arm),
        vectors={
            category.value if category else ALL: vector_of(
                fitted.runner, vector, category, strategy=vector.top.strategy
            )
            for category, vector in _fitted_vectors(fitted, arm).items()
        },
    )


def _fitted_vectors(fitted: FittedArms, arm: str) -> Mapping[Category | None, FittedVector]:
    """Return what an arm steers with, by category; None is for all together."""
    if arm == "paper":
        return fitted.paper[ANSWER_WORD].vectors
    if arm == "gated":
        gate, training = fitted.gated.chosen, fitted.gated.training
        return {None: FittedVector(training.statements, {gate.layer: gate}, training.fitted_on)}
    return {}
