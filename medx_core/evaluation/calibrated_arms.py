"""Mapping the arms' scores to probabilities, and choosing which of their answers are trusted, on the training part.

What an arm says of statements that it was fitted on is too good. So every fold of the training part is answered by what
was fitted on the other folds; the map and the rule are fitted on these answers, and applied to the test items.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from medx_core.accuracy import Values
from medx_core.calibration import AbstentionRule, Calibration
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.errors import BadInput, VectorRefused
from medx_core.evaluation.arms import ArmScores
from medx_core.evaluation.fit import FittedArms, best_threshold
from medx_core.evaluation.prompt_selection import OnStage
from medx_core.fitting.abstention import fit_abstention
from medx_core.fitting.calibration import fit_calibration, probabilities
from medx_core.fitting.examples import kept_together
from medx_core.fitting.fit import CategoryVectors
from medx_core.fitting.fitted import FittedLayer
from medx_core.fitting.search import Fold, folds_of
from medx_core.steering.hooks import SteeringPlan
from medx_core.steering.names import ANSWER_WORD


@dataclass(frozen=True)
class UnseenScores:
    """What an arm says (n,) of training statements that it was not fitted on."""

    statements: Sequence[LabelledStatement]
    scores: Values


@dataclass(frozen=True)
class CalibratedArms:
    """The arms with mapped scores, and by arm the map and the rule; `refused` says why an arm has none."""

    arms: tuple[ArmScores, ...]
    calibrations: Mapping[str, Calibration]
    rules: Mapping[str, AbstentionRule]
    refused: Mapping[str, str]


def unseen_scores(fitted: FittedArms, on_stage: OnStage) -> tuple[dict[str, UnseenScores], dict[str, str]]:
    """Return what each arm says of unseen training statements, and why an arm has no such answers.

    Prompts were chosen on all of them, which flatters the arms a little.

    Raises:
        ModelUnavailable: a batch does not fit into the device's memory.
    """
    train, prompts = fitted.train, fitted.prompts
    folds = folds_of(train)
    unsteered = prompts.unsteered.run.scores
    unseen = {"unsteered": unsteered, "prior": _past_threshold(unsteered, train, folds)}
    if prompts.prompt_only is not None:
        unseen["prompt_only"] = prompts.prompt_only.run.scores
    steered, refused = _steered(fitted, folds, partial(on_stage, "steering statements not fitted on"))
    training, layer = fitted.gated.training, fitted.gated.chosen.layer
    probe = training.cross_fitted(layer, folds_of(training.statements))[1]
    whole = {name: UnseenScores(train, scores) for name, scores in (unseen | steered).items()}
    return whole | {"probe": UnseenScores(training.statements, probe)}, refused


def calibrated_arms(
    arms: Iterable[ArmScores], unseen: Mapping[str, UnseenScores], *, max_error: float, seed: int
) -> CalibratedArms:
    """Fit a map and a rule for each arm with `unseen` answers, and apply them to its scores of the test items."""
    mapped, calibrations, rules, refused = [], {}, {}, {}
    for arm in arms:
        if arm.name in unseen:
            try:
                calibration, rule = fitted_trust(unseen[arm.name], max_error=max_error, seed=seed)
            except BadInput as error:
                refused[arm.name] = str(error)
            else:
                calibrations[arm.name], rules[arm.name] = calibration, rule
                arm = with_trust(arm, calibration, rule)
        mapped.append(arm)
    return CalibratedArms(tuple(mapped), calibrations, rules, refused)


def fitted_trust(unseen: UnseenScores, *, max_error: float, seed: int) -> tuple[Calibration, AbstentionRule]:
    """Fit the map of an arm's scores, and the rule by which its answers are trusted.

    Raises:
        BadInput: there are too few statements.
    """
    scores, statements = unseen.scores, unseen.statements
    gold, groups = _gold(statements), [statement.group for statement in statements]
    fitted = fit_calibration(scores, gold, groups)
    said_true = scores >= 0
    confidence = np.where(said_true, fitted.unseen, 1 - fitted.unseen)
    rule = fit_abstention(confidence, said_true == gold, groups, max_error=max_error, seed=seed)
    return fitted.calibration, rule


def with_trust(arm: ArmScores, calibration: Calibration, rule: AbstentionRule | None) -> ArmScores:
    """Return the arm with its mapped scores, and where a rule trusts its answers."""
    chances = probabilities(calibration, arm.scores)
    if rule is None:
        return replace(arm, probabilities=chances)
    confidence = np.where(arm.scores >= 0, chances, 1 - chances)
    trusted = np.array([rule.trusts(float(each)) for each in confidence], dtype=bool)
    return replace(arm, probabilities=chances, trusted=trusted)


def _past_threshold(scores: Values, train: Sequence[LabelledStatement], folds: Sequence[Fold]) -> Values:
    """Return `scores` (n,) minus the best threshold of the other folds: the arm `prior`."""
    gold, shifted = _gold(train), np.zeros(len(scores))
    for others, judged in folds:
        shifted[judged] = scores[judged] - best_threshold(scores[others], gold[others])
    return shifted


def _steered(
    fitted: FittedArms, folds: Sequence[Fold], on_progress: Callable[[int, int], None]
) -> tuple[dict[str, Values], dict[str, str]]:
    """Steer each fold of the training part by what is fitted on the others; one pass serves all arms."""
    train, together = fitted.train, kept_together(fitted.train)
    plans: dict[str, Callable[[set[str], Sequence[LabelledStatement]], SteeringPlan]] = {
        "gated": lambda aside, _: _without(fitted.gated.chosen, aside).condition,
        "paper": lambda aside, asked: CategoryVectors(
            {name: _without(fit, aside) for name, fit in fitted.paper[ANSWER_WORD].fits.items()}
        ).condition(asked),
    }
    scores, refused = {name: np.zeros(len(train)) for name in plans}, dict[str, str]()
    done = 0
    for _, judged in folds:
        asked, aside = [train[row] for row in judged], {together[row] for row in judged}
        conditions = dict[str, SteeringPlan]()
        for name, plan in plans.items():
            try:
                conditions[name] = plan(aside, asked)
            except VectorRefused as error:
                refused[name] = f"without one fold of the training part nothing can be fitted: {error}"
        runs = fitted.runner.steered(
            [statement.text for statement in asked], list(conditions.values()), with_answer_words=False
        )
        for name, run in zip(conditions, runs, strict=True):
            scores[name][judged] = run.scores
        done += len(judged)
        on_progress(done, len(train))
    return {name: values for name, values in scores.items() if name not in refused}, refused


def _without(fit: FittedLayer, aside: set[str]) -> FittedLayer:
    """Fit anew without the statements of the groups `aside`."""
    return fit.on(torch.tensor([group not in aside for group in fit.groups]))


def _gold(statements: Sequence[LabelledStatement]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.array([statement.answer for statement in statements], dtype=bool)
