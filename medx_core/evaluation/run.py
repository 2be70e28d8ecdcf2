"""The test part in every arm: each statement runs through the model once, and every arm goes on from there."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from medx_core.data.labelled_statements import LabelledStatement
from medx_core.evaluation.arms import ArmScores, ControlDraws
from medx_core.evaluation.baselines import lexical_reader, prior_arm
from medx_core.evaluation.fit import EvaluationPlan, FittedArms
from medx_core.evaluation.prompt_selection import OnStage, RunnerFor, candidate_scores
from medx_core.fitting.fitted import FittedLayer
from medx_core.steering.hooks import SteeringPlan
from medx_core.steering.names import ANSWER_WORD
from medx_core.traces.statement_runner import RecordedStates

ExtraArm = Callable[[FittedArms, Sequence[LabelledStatement], EvaluationPlan, OnStage], ArmScores]
"""Runs an arm that is off unless asked for on the statements to answer; see `medx_core.lab.arms`."""


@dataclass(frozen=True)
class TestedArms:
    """Scores of all arms on the statements to answer, and of the controls' draws on the tested ones among them.

    `lexical_reader` names the reader of wording that was best on the training part.
    """

    arms: tuple[ArmScores, ...]
    controls: tuple[ControlDraws, ...]
    lexical_reader: str

    __test__ = False  # the name starts with Test: tell pytest that this is not one

    def arm(self, name: str) -> ArmScores:
        """Return one arm by its name."""
        return next(arm for arm in self.arms if arm.name == name)


def run_arms(
    fitted: FittedArms,
    runner_for: RunnerFor,
    statements: Sequence[LabelledStatement],
    plan: EvaluationPlan,
    on_stage: OnStage,
    *,
    extra_arms: Mapping[str, ExtraArm],
) -> TestedArms:
    """Run `statements` in every arm, unsteered first.

    The forty and more draws of the controls run on the tested statements alone: swaps of FALSE statements among
    `statements` count in nothing that draws are compared by.

    Raises:
        ModelUnavailable: a batch does not fit into the device's memory.
    """
    layer = fitted.gated.chosen.layer
    unsteered = fitted.runner.recorded(
        [statement.text for statement in statements],
        [layer],
        lambda done, total: on_stage("unsteered answers", done, total),
    )
    steered = _steered(fitted, statements, on_stage)
    wording = lexical_reader(fitted.train, statements)
    arms = (
        ArmScores("unsteered", unsteered.scores, unsteered.answer_words),
        *_prompt_only(fitted, runner_for, statements, on_stage),
        prior_arm(unsteered, fitted.threshold),
        *steered,
        _probe(fitted, unsteered),
        ArmScores("lexical", wording.scores),
        *(extra_arms[name](fitted, statements, plan, on_stage) for name in plan.extra),
    )
    tested = [statement for statement in statements if statement.source_answer is not False]
    return TestedArms(
        arms,
        _controls(fitted, tested, plan, on_stage),
        lexical_reader=wording.reader,
    )


def _prompt_only(
    fitted: FittedArms, runner_for: RunnerFor, statements: Sequence[LabelledStatement], on_stage: OnStage
) -> Iterator[ArmScores]:
    if fitted.prompts.prompt_only is not None:
        on_progress = partial(on_stage, "the best prompt alone")
        run = candidate_scores(runner_for, fitted.prompts.prompt_only.candidate, statements, on_progress)
        yield ArmScores("prompt_only", run.scores, run.answer_words)


def _steered(
    fitted: FittedArms, statements: Sequence[LabelledStatement], on_stage: OnStage
) -> list[ArmScores]:
    conditions = {"gated": fitted.gated.chosen.condition}
    for reading, vectors in fitted.paper.readings.items():
        name = "paper" if reading == ANSWER_WORD else f"paper_{reading}"
        conditions[name] = vectors.condition(statements)
    runs = fitted.runner.steered(
        [statement.text for statement in statements],
        list(conditions.values()),
        lambda done, total: on_stage("steered answers", done, total),
    )
    return [ArmScores(name, run.scores, run.answer_words) for name, run in zip(conditions, runs, strict=True)]


def _probe(fitted: FittedArms, unsteered: RecordedStates) -> ArmScores:
    """Answer by what the gate itself reads in the unsteered state."""
    return ArmScores("probe", fitted.gated.values(unsteered.states[fitted.gated.chosen.layer]))


def _controls(
    fitted: FittedArms, statements: Sequence[LabelledStatement], plan: EvaluationPlan, on_stage: OnStage
) -> tuple[ControlDraws, ...]:
    gated, paper = fitted.gated.chosen, fitted.paper.readings[ANSWER_WORD]
    seeds = [10_000 * plan.seed + draw for draw in range(plan.draws)]
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
            lambda done, total: on_stage("random and shuffled controls", done, total),
            with_answer_words=False,
        )
    )
    return tuple(
        ControlDraws(name, of, np.stack([next(runs).scores for _ in conditions]))
        for (name, of), conditions in drawn.items()
    )
