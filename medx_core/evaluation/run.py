"""The test part in every arm: each statement runs through the model once, and every arm goes on from there.

`unsteered`, `prompt_only` and `prior` (what mere bias correction gives) are controls. `probe` and `lexical` are reference
lines: the first shows what the state holds, the second what the wording gives away without any language model.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, cross_val_score

from medx_core.accuracy import Values
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.data.leakage import WORDING_READERS
from medx_core.evaluation.arms import ArmScores, ControlDraws, TestItems
from medx_core.evaluation.fit import FittedArms
from medx_core.evaluation.prompt_selection import OnStage, RunnerFor, candidate_scores
from medx_core.evaluation.request import EvaluationRequest
from medx_core.steering.contrast import ANSWER_WORD
from medx_core.traces.steering_conditions import SteeringCondition

ExtraArm = Callable[[FittedArms, Sequence[LabelledStatement], EvaluationRequest, OnStage], ArmScores]
"""Runs an arm that is off unless asked for on the statements to answer; see `medx_core.lab.arms`."""
FOLDS = 5


@dataclass(frozen=True)
class TestedArms:
    """Scores of all arms on the statements to answer, and of the controls' draws on the tested ones among them.

    `lexical_reader` names the reader of wording that was best on the training part.
    """

    arms: tuple[ArmScores, ...]
    controls: tuple[ControlDraws, ...]
    lexical_reader: str

    __test__ = False  # the name starts with Test: tell pytest that this is not one


def run_arms(
    fitted: FittedArms,
    runner_for: RunnerFor,
    items: TestItems,
    request: EvaluationRequest,
    on_stage: OnStage,
    *,
    extra_arms: Mapping[str, ExtraArm],
) -> TestedArms:
    """Run `items` in every arm, unsteered first.

    The forty and more draws of the controls run on the counted items alone: swaps of FALSE statements count in nothing
    that draws are compared by.

    Raises:
        ModelUnavailable: a batch does not fit into the device's memory.
    """
    statements, chosen = items.statements, fitted.gated.chosen
    texts = [statement.text for statement in statements]
    unsteered = fitted.runner.recorded(texts, [chosen.layer], partial(on_stage, "unsteered answers"))
    steered = _steered(fitted, statements, on_stage)
    reader, wording = lexical_reader(fitted.train, statements)
    arms = (
        ArmScores("unsteered", unsteered.scores, unsteered.answer_words),
        *_prompt_only(fitted, runner_for, statements, on_stage),
        ArmScores("prior", unsteered.scores - fitted.threshold, unsteered.answer_words),
        *steered,
        ArmScores("probe", fitted.gated.values(unsteered.states[chosen.layer])),
        ArmScores("lexical", wording),
        *(extra_arms[name](fitted, statements, request, on_stage) for name in request.extra),
    )
    controls = _controls(fitted, items.among(items.counted).statements, request, on_stage)
    return TestedArms(arms, controls, reader)


def lexical_reader(
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
    for reading, vectors in fitted.paper.items():
        name = "paper" if reading == ANSWER_WORD else f"paper_{reading}"
        conditions[name] = vectors.condition(statements)
    texts = [statement.text for statement in statements]
    runs = fitted.runner.steered(texts, list(conditions.values()), partial(on_stage, "steered answers"))
    return [ArmScores(name, run.scores, run.answer_words) for name, run in zip(conditions, runs, strict=True)]


def _controls(
    fitted: FittedArms,
    statements: Sequence[LabelledStatement],
    request: EvaluationRequest,
    on_stage: OnStage,
) -> tuple[ControlDraws, ...]:
    gated, paper = fitted.gated.chosen, fitted.paper[ANSWER_WORD]
    seeds = [10_000 * request.seed + draw for draw in range(request.draws)]
    drawn: dict[tuple[str, str], list[SteeringCondition]] = {
        ("random", "paper"): [paper.random(seed).condition(statements) for seed in seeds],
        ("shuffled", "paper"): [paper.shuffled(seed).condition(statements) for seed in seeds],
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
