"""All that is chosen and fitted for one model of an evaluation, on the training part alone.

The vectors come from `medx_core.fitting`, by the functions that build a vector for use.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from medx_core.accuracy import Flags, Values
from medx_core.categories import Category
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.errors import VectorRefused
from medx_core.evaluation.prompt_selection import OnStage, PromptChoice, RunnerFor, choose_prompts
from medx_core.evaluation.request import EvaluationRequest
from medx_core.evaluation.result import Choices, FineTuning, PaperChoices, TriedStrength
from medx_core.fitting.fit import CategoryVectors, fit_by_category
from medx_core.fitting.gated import GatedFit, fit_gated
from medx_core.fitting.spec import FitSpec
from medx_core.steering.names import ANSWER_WORD, GATED, READINGS
from medx_core.traces.statement_runner import StatementRunner


@dataclass(frozen=True)
class FittedArms:
    """The chosen prompts, the model with the best of them, the fitted arms, and what they were fitted on.

    `paper` holds the paper's constant vectors by reading, and `refused` says why a reading gives none: MEDASSESS-X (arXiv
    2601.12812, section 3) takes the mean hidden state over correct minus that over incorrect traces, 200 training
    examples per category, penultimate layer, alpha 1.0. It leaves open where a trace is read: the arm `paper` reads it
    at the answer word, and the other readings are shown under their own names. `threshold` is that of the arm `prior`.
    """

    prompts: PromptChoice
    runner: StatementRunner
    train: Sequence[LabelledStatement]
    gated: GatedFit
    paper: Mapping[str, CategoryVectors]
    refused: Mapping[str, str]
    threshold: float

    def choices(self, *, lexical_reader: str, fine_tuned: FineTuning | None) -> Choices:
        """Return everything that was chosen, with what the arms of these names tell of themselves."""
        prompts, gated = self.prompts, self.gated
        return Choices(
            prompt=prompts.unsteered.figures.prompt,
            prompt_given=prompts.prompt_only is None,
            prompt_only=prompts.prompt_only and prompts.prompt_only.figures.prompt,
            prompts_tried=tuple(trial.figures for trial in prompts.tried),
            prompts_refused=dict(prompts.refused),
            layer=gated.chosen.layer,
            strength=gated.chosen.alpha,
            offset=gated.chosen.b0,
            fitted_on=gated.training.fitted_on,
            layers_tried=dict(gated.layers_tried),
            strengths_tried=tuple(
                TriedStrength.model_validate(setting, from_attributes=True)
                for setting in gated.strengths_tried
            ),
            prior_threshold=self.threshold,
            paper=self._paper_choices(),
            lexical_reader=lexical_reader,
            fine_tuned=fine_tuned,
        )

    def _paper_choices(self) -> PaperChoices:
        fits = self.paper[ANSWER_WORD].fits
        return PaperChoices(
            layer=fits[None].layer,
            alpha=fits[None].alpha,
            examples={_name(category): len(fit.groups) for category, fit in fits.items()},
            norms={
                reading: {
                    _name(category): float(fit.direction.norm()) for category, fit in vectors.fits.items()
                }
                for reading, vectors in self.paper.items()
            },
            refused=dict(self.refused),
        )


def fit_arms(
    runner_for: RunnerFor,
    train: Sequence[LabelledStatement],
    request: EvaluationRequest,
    on_stage: OnStage,
) -> FittedArms:
    """Choose the prompts; fit the gated arm and the paper's with the best one.

    Raises:
        BadInput: the training part cannot be fitted on, or twins are asked for where there are too few.
        VectorRefused: the training part holds TRUE or FALSE statements only.
        ModelUnavailable: a batch does not fit into the device's memory.
    """
    prompts = choose_prompts(runner_for, train, on_stage, request.prompt)
    runner = runner_for(prompts.unsteered.candidate.prompt)
    gated = fit_gated(
        runner,
        train,
        FitSpec(strategy=GATED, fit_on=request.fit_on, prompt=runner.prompt, seed=request.seed),
        partial(on_stage, "recording states"),
    )
    on_stage("building the paper's vectors", 0, 1)
    paper, refused = {}, {}
    for reading in READINGS:
        spec = FitSpec(reading=reading, prompt=runner.prompt, seed=request.seed)
        try:
            paper[reading] = fit_by_category(runner, train, spec)
        except VectorRefused as error:
            if reading == ANSWER_WORD:
                raise
            refused[reading] = str(error)
    gold = np.array([statement.answer for statement in train], dtype=bool)
    threshold = best_threshold(prompts.unsteered.run.scores, gold)
    return FittedArms(prompts, runner, train, gated, paper, refused, threshold)


def best_threshold(scores: Values, gold: Flags) -> float:
    """Return the threshold with the best balanced accuracy on these scores: a midpoint between two of them.

    Of several equally good ones, the one nearest to zero, which changes the least.
    """
    order = np.sort(np.unique(scores))
    cuts = np.concatenate([[order[0] - 1.0], (order[:-1] + order[1:]) / 2, [order[-1] + 1.0], [0.0]])
    said = scores[None, :] >= cuts[:, None]
    quality = (said[:, gold].mean(axis=1) + (~said[:, ~gold]).mean(axis=1)) / 2
    best = cuts[quality >= quality.max() - 1e-12]
    return float(best[np.argmin(np.abs(best))])


def _name(category: Category | None) -> str:
    return category.value if category else "all"
