"""Everything that is chosen and fitted, on the training part of one model alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from medx_core.data.labelled_statements import LabelledStatement
from medx_core.errors import BadInput
from medx_core.evaluation.gated_arm import GatedArm, TrainingRun, candidate_layers, fit_gated_arm
from medx_core.evaluation.metrics import twins_of
from medx_core.evaluation.paper_arm import PaperArm, fit_paper_arm
from medx_core.evaluation.plan import EvaluationPlan
from medx_core.evaluation.prompt_selection import OnStage, PromptChoice, RunnerFor, choose_prompts
from medx_core.evaluation.reference_arms import best_threshold
from medx_core.steering.layers import decoder_layers
from medx_core.traces.statement_runner import StatementRunner

FEWEST_TWINS = 40


@dataclass(frozen=True)
class FittedArms:
    """The chosen prompts, the fitted arms, and the training part as the chosen prompt ran it."""

    prompts: PromptChoice
    runner: StatementRunner
    run: TrainingRun
    gated: GatedArm
    paper: PaperArm
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
    """Choose the prompts, record the training part once with the best, fit the gated and the paper's arm.

    Raises:
        BadInput: the training part cannot be fitted on, or twins are asked for where there are too few.
    """
    prompts = choose_prompts(runner_for, train, on_stage, plan.prompt)
    runner = runner_for(prompts.unsteered.candidate.prompt)
    layers = candidate_layers(len(decoder_layers(runner.model.network)))
    recorded = runner.recorded(
        [one.text for one in train], layers, lambda done, total: on_stage("recording states", done, total)
    )
    run = TrainingRun(train, recorded, on_twins=_on_twins(train, plan.fit_on))
    on_stage("fitting the gated arm", 0, 1)
    gated = fit_gated_arm(runner, run)
    on_stage("building the paper's vectors", 0, 1)
    paper = fit_paper_arm(runner, train, plan.paper)
    return FittedArms(prompts, runner, run, gated, paper, best_threshold(recorded.scores, run.gold))


def _on_twins(train: Sequence[LabelledStatement], fit_on: str) -> bool:
    pairs = len(twins_of(train))
    if fit_on == "twins" and pairs < FEWEST_TWINS:
        raise BadInput(
            f"Fitting on twins needs at least {FEWEST_TWINS} complete pairs in the training part; there are {pairs}. "
            "Use --fit-on statements, or make twins with `medx data twins`."
        )
    return pairs >= FEWEST_TWINS if fit_on == "auto" else fit_on == "twins"
