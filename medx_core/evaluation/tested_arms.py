"""The test part in every arm: each statement runs through the model once, and every arm goes on from there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from medx_core.data.labelled_statements import LabelledStatement
from medx_core.evaluation.arms import ArmScores, ControlDraws
from medx_core.evaluation.fitted_arms import FittedArms
from medx_core.evaluation.likelihood_arm import likelihood_gate
from medx_core.evaluation.plan import EvaluationPlan
from medx_core.evaluation.prompt_selection import OnStage, RunnerFor, candidate_scores
from medx_core.evaluation.reference_arms import lexical_reader, prior_arm
from medx_core.evaluation.request import FINE_TUNED, LIKELIHOOD_GATED
from medx_core.steering.contrast import ANSWER_WORD
from medx_core.steering.strategies import random_direction, shuffled
from medx_core.traces.fine_tuning import FineTuningRecipe, fine_tuned_scores
from medx_core.traces.statement_runner import RecordedStates, RunScores, SteeringCell

NEAR_TIES = {torch.float32: 0.01}
NEAR_TIES_HALF_PRECISION = 0.25


@dataclass(frozen=True)
class TestedArms:
    """Scores of all arms on the asked statements, of controls on the tested ones, and what is worth telling beside."""

    arms: tuple[ArmScores, ...]
    controls: tuple[ControlDraws, ...]
    about: dict[str, Any] = field(default_factory=dict)

    __test__ = False  # the name starts with Test: tell pytest that this is none

    def arm(self, name: str) -> ArmScores:
        """Return one arm by its name."""
        return next(one for one in self.arms if one.name == name)


def run_arms(
    fitted: FittedArms,
    runner_for: RunnerFor,
    asked: Sequence[LabelledStatement],
    plan: EvaluationPlan,
    on_stage: OnStage,
) -> TestedArms:
    """Run `asked` in every arm, unsteered first.

    The forty and more draws of the controls run on the tested statements alone: swaps of FALSE statements among
    `asked` count in nothing that draws are compared by.
    """
    texts = [one.text for one in asked]
    unsteered = fitted.runner.recorded(
        texts, [fitted.gated.layer], lambda done, total: on_stage("unsteered answers", done, total)
    )
    steered = _steered(fitted, asked, on_stage)
    wording = lexical_reader(fitted.run.statements, asked)
    arms = (
        ArmScores("unsteered", unsteered.scores, unsteered.answer_words),
        *_prompt_only(fitted, runner_for, asked, on_stage),
        prior_arm(RunScores(unsteered.scores, unsteered.answer_words), fitted.threshold),
        *steered,
        ArmScores("probe", _probe(fitted, unsteered)),
        ArmScores("lexical", wording.scores),
        *_extra(fitted, asked, plan, on_stage),
    )
    about = {
        "lexical_reader": wording.reader,
        "near_ties": {arm.name: near_ties(fitted, arm) for arm in arms if arm.answer_words is not None},
    }
    tested = [one for one in asked if one.source_answer is not False]
    return TestedArms(arms, _controls(fitted, tested, plan, on_stage), about)


def _prompt_only(
    fitted: FittedArms, runner_for: RunnerFor, asked: Sequence[LabelledStatement], on_stage: OnStage
) -> Iterator[ArmScores]:
    if fitted.prompts.prompt_only is not None:
        told = partial(on_stage, "the best prompt alone")
        run = candidate_scores(runner_for, fitted.prompts.prompt_only.candidate, asked, told)
        yield ArmScores("prompt_only", run.scores, run.answer_words)


def near_ties(fitted: FittedArms, arm: ArmScores) -> int:
    """Count the answers that another batch size may turn round, by the number type the model runs in."""
    margin = NEAR_TIES.get(fitted.runner.model.placement.dtype, NEAR_TIES_HALF_PRECISION)
    return int((np.abs(arm.scores) < margin).sum())


def _steered(fitted: FittedArms, asked: Sequence[LabelledStatement], on_stage: OnStage) -> list[ArmScores]:
    cells = {"gated": fitted.gated.cell()}
    for reading, directions in fitted.paper.directions.items():
        name = "paper" if reading == ANSWER_WORD else f"paper_{reading}"
        cells[name] = fitted.paper.cell(asked, directions)
    runs = fitted.runner.steered(
        [one.text for one in asked],
        list(cells.values()),
        lambda done, total: on_stage("steered answers", done, total),
    )
    return [ArmScores(name, run.scores, run.answer_words) for name, run in zip(cells, runs, strict=True)]


def _extra(
    fitted: FittedArms, asked: Sequence[LabelledStatement], plan: EvaluationPlan, on_stage: OnStage
) -> Iterator[ArmScores]:
    """Run the arms that were asked for by name."""
    model, train = fitted.runner.model, fitted.run.statements
    texts = [one.text for one in asked]
    if LIKELIHOOD_GATED in plan.extra:
        gate = likelihood_gate(
            model, train, asked, lambda done, total: on_stage("likelihoods of alternatives", done, total)
        )
        [run] = fitted.runner.steered(texts, [gate.cell(fitted.gated)])
        yield ArmScores(LIKELIHOOD_GATED, run.scores, run.answer_words)
    if FINE_TUNED in plan.extra:
        on_stage("fine-tuning", 0, 1)
        recipe = FineTuningRecipe(seed=plan.seed)
        tuned = fine_tuned_scores(model, fitted.runner.prompt, train, texts, recipe)
        yield ArmScores(FINE_TUNED, tuned.scores.double().numpy(), about=tuned.as_json())


def _probe(fitted: FittedArms, unsteered: RecordedStates) -> np.ndarray[Any, np.dtype[np.float64]]:
    layer = fitted.gated.layer
    gate = fitted.run.fit(layer) if not fitted.run.on_twins else fitted.gated.gate
    return gate.values(unsteered.states[layer]).double().numpy()


def _controls(
    fitted: FittedArms, asked: Sequence[LabelledStatement], plan: EvaluationPlan, on_stage: OnStage
) -> tuple[ControlDraws, ...]:
    drawn = {
        ("random", "paper"): list(_random(fitted, asked, plan)),
        ("shuffled", "paper"): list(_shuffled(fitted, asked, plan)),
        ("gated_random", "gated"): list(_gated_random(fitted, plan)),
        ("gated_shuffled", "gated"): list(_gated_shuffled(fitted, plan)),
    }
    runs = iter(
        fitted.runner.steered(
            [one.text for one in asked],
            [cell for cells in drawn.values() for cell in cells],
            lambda done, total: on_stage("random and shuffled controls", done, total),
            with_answer_words=False,
        )
    )
    return tuple(
        ControlDraws(name, of, np.stack([next(runs).scores for _ in cells]))
        for (name, of), cells in drawn.items()
    )


def _random(
    fitted: FittedArms, asked: Sequence[LabelledStatement], plan: EvaluationPlan
) -> Iterator[SteeringCell]:
    for draw in range(plan.draws):
        yield fitted.paper.cell(asked, fitted.paper.random(_seed(plan, draw)))


def _shuffled(
    fitted: FittedArms, asked: Sequence[LabelledStatement], plan: EvaluationPlan
) -> Iterator[SteeringCell]:
    for draw in range(plan.draws):
        yield fitted.paper.cell(asked, fitted.paper.shuffled(_seed(plan, draw)))


def _gated_random(fitted: FittedArms, plan: EvaluationPlan) -> Iterator[SteeringCell]:
    """Push along random directions of the gradient's length; the gate stays."""
    length = float(fitted.gated.gradient.norm())
    for draw in range(plan.draws):
        direction = random_direction(len(fitted.gated.gradient), length, seed=_seed(plan, draw)).direction
        yield fitted.gated.cell(direction=direction)


def _gated_shuffled(fitted: FittedArms, plan: EvaluationPlan) -> Iterator[SteeringCell]:
    """Fit the gate on permuted labels; everything else stays."""
    run = fitted.run
    groups = [one.pair or one.group for one in run.statements]
    for draw in range(plan.draws):
        gold = shuffled(run.gold, groups, _seed(plan, draw))
        yield fitted.gated.cell(gate=run.fit(fitted.gated.layer, gold=gold))


def _seed(plan: EvaluationPlan, draw: int) -> int:
    return 10_000 * plan.seed + draw
