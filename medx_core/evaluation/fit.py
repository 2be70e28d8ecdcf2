"""What one evaluation runs, and all that is chosen and fitted for it, on the training part of one model alone.

The vectors come from `medx_core.fitting`, by the functions that build a vector for use.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medx_core.categories import Category
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.errors import VectorRefused
from medx_core.evaluation.baselines import best_threshold
from medx_core.evaluation.prompt_selection import OnStage, PromptChoice, RunnerFor, choose_prompts
from medx_core.evaluation.request import DECLARED, DRAWS
from medx_core.fitting.fit import CategoryVectors, fit_by_category
from medx_core.fitting.gated import GatedFit, fit_gated
from medx_core.fitting.recipe import VectorRecipe
from medx_core.steering.names import ANSWER_WORD, GATED, READINGS
from medx_core.traces.statement_runner import StatementRunner


@dataclass(frozen=True)
class EvaluationPlan:
    """What is run. `declared` is the arm that is judged; the others are exploratory.

    `extra` names arms that run when asked for. `prompt` names the prompt of every arm; empty: the best ones are chosen
    on the training part. `seed` decides the draw of examples and of controls.
    """

    declared: str = DECLARED
    extra: tuple[str, ...] = ()
    fit_on: str = "auto"
    prompt: str = ""
    seed: int = 1
    draws: int = DRAWS
    batch_rows: int = 32


@dataclass(frozen=True)
class PaperVectors:
    """The paper's constant vectors by reading; `refused` says why a reading gives none.

    MEDASSESS-X (arXiv 2601.12812, section 3): mean hidden state over correct minus that over incorrect traces, 200
    training examples per category, penultimate layer, alpha 1.0. The paper leaves open where a trace is read: the arm
    `paper` reads it at the answer word, and the other readings are shown under their own names.
    """

    readings: Mapping[str, CategoryVectors]
    refused: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """Return what was built."""
        fits = self.readings[ANSWER_WORD].fits
        return {
            "layer": fits[None].layer,
            "alpha": fits[None].alpha,
            "examples": {_name(category): len(fit.groups) for category, fit in fits.items()},
            "norms": {
                reading: {
                    _name(category): float(fit.direction.norm()) for category, fit in vectors.fits.items()
                }
                for reading, vectors in self.readings.items()
            },
            "refused": dict(self.refused),
        }


@dataclass(frozen=True)
class FittedArms:
    """The chosen prompts, the model with the best of them, the fitted arms, and what they were fitted on."""

    prompts: PromptChoice
    runner: StatementRunner
    train: Sequence[LabelledStatement]
    gated: GatedFit
    paper: PaperVectors
    threshold: float

    def as_json(self) -> dict[str, Any]:
        """Return `choices` of the JSON: prompt, layer and strength first, then what they were chosen from."""
        gated = self.gated.as_json()
        return {
            **self.prompts.as_json(),
            "layer": gated.pop("layer"),
            "strength": gated.pop("strength"),
            **gated,
            "prior_threshold": self.threshold,
            "paper": self.paper.as_json(),
        }


def fit_arms(
    runner_for: RunnerFor, train: Sequence[LabelledStatement], plan: EvaluationPlan, on_stage: OnStage
) -> FittedArms:
    """Choose the prompts; fit the gated arm and the paper's with the best one.

    Raises:
        BadInput: the training part cannot be fitted on, or twins are asked for where there are too few.
        VectorRefused: the training part holds TRUE or FALSE statements only.
        ModelUnavailable: a batch does not fit into the device's memory.
    """
    prompts = choose_prompts(runner_for, train, on_stage, plan.prompt)
    runner = runner_for(prompts.unsteered.candidate.prompt)
    gated = fit_gated(
        runner,
        train,
        VectorRecipe(strategy=GATED, fit_on=plan.fit_on, prompt=runner.prompt, seed=plan.seed),
        lambda done, total: on_stage("recording states", done, total),
    )
    on_stage("building the paper's vectors", 0, 1)
    paper = _paper_vectors(runner, train, plan.seed)
    gold = np.array([statement.answer for statement in train], dtype=bool)
    return FittedArms(
        prompts, runner, train, gated, paper, best_threshold(prompts.unsteered.run.scores, gold)
    )


def _paper_vectors(runner: StatementRunner, train: Sequence[LabelledStatement], seed: int) -> PaperVectors:
    readings, refused = {}, {}
    for reading in READINGS:
        recipe = VectorRecipe(reading=reading, prompt=runner.prompt, seed=seed)
        try:
            readings[reading] = fit_by_category(runner, train, recipe)
        except VectorRefused as error:
            if reading == ANSWER_WORD:
                raise
            refused[reading] = str(error)
    return PaperVectors(readings, refused)


def _name(category: Category | None) -> str:
    return category.value if category else "all"
