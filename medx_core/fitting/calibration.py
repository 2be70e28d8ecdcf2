"""Fitting the map from score to probability, by cross-fitting with whole groups.

Three maps are tried, see `Calibration`; the one is taken that loses least (log loss) on statements it was not fitted
on. The scores must themselves be of statements that the arm was not fitted on: a gate is too sure of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, xlogy
from sklearn.isotonic import IsotonicRegression
from sklearn.model_selection import GroupKFold

from medx_core.accuracy import Flags, Values
from medx_core.calibration import Calibration, CalibrationKind, Knot
from medx_core.errors import BadInput
from medx_core.steering.gate import logistic_weights

FEWEST_OF_A_KIND = 10
FOLDS = 5
NO_PENALTY = 1e9


@dataclass(frozen=True)
class FittedCalibration:
    """A map fitted on all statements, and what its kind gave each of them (n,) when fitted on the other folds."""

    calibration: Calibration
    unseen: Values


def fit_calibration(scores: Values, gold: Flags, groups: Sequence[str]) -> FittedCalibration:
    """Fit a map from `scores` (n,) to the probability that `gold` (n,) is TRUE.

    Statements of one of `groups` (twins, near copies) stay in one fold. The map is untested: see `Calibration.tested`.

    Raises:
        BadInput: there are fewer than ten groups with a TRUE statement, or with a FALSE one, or a score is not finite.
    """
    names = np.asarray(groups)
    if not np.isfinite(scores).all():
        raise BadInput("A score is not a finite number, so that it cannot be mapped to a probability.")
    if min(len(set(names[kind])) for kind in (gold, ~gold)) < FEWEST_OF_A_KIND:
        raise BadInput(
            f"A map from score to probability needs {FEWEST_OF_A_KIND} TRUE and {FEWEST_OF_A_KIND} FALSE statements "
            "or more that are no near copies of each other."
        )
    folds = list(GroupKFold(FOLDS, shuffle=True, random_state=0).split(gold, groups=names))
    unseen = {kind: np.zeros(len(gold)) for kind in CalibrationKind}
    for fitted, judged in folds:
        for kind, values in unseen.items():
            values[judged] = probabilities(_fit(kind, scores[fitted], gold[fitted]), scores[judged])
    kind = min(unseen, key=lambda kind: _log_loss(unseen[kind], gold))
    calibration = _fit(kind, scores, gold)
    if np.ptp(probabilities(calibration, scores)) == 0.0:
        # It tells no statements apart, and neither may the folds: the one with the most TRUE statements was given the least,
        # since its own did not count.
        return FittedCalibration(calibration, np.full(len(gold), unseen[kind].mean()))
    return FittedCalibration(calibration, unseen[kind])


def probabilities(calibration: Calibration, scores: Values) -> Values:
    """Return `Calibration.probability` of each of `scores` (n,)."""
    if calibration.kind is CalibrationKind.ISOTONIC:
        corners = np.array([(knot.score, knot.probability) for knot in calibration.knots])
        return np.asarray(np.interp(scores, corners[:, 0], corners[:, 1]), dtype=float)
    return np.asarray(expit(calibration.slope * scores + calibration.intercept), dtype=float)


def _fit(kind: CalibrationKind, scores: Values, gold: Flags) -> Calibration:
    return _FITS[kind](scores, gold)


def _temperature(scores: Values, gold: Flags) -> Calibration:
    slope, _ = _logistic(scores, gold, intercept=False)
    return Calibration(kind=CalibrationKind.TEMPERATURE, slope=slope, n=len(gold))


def _platt(scores: Values, gold: Flags) -> Calibration:
    slope, intercept = _logistic(scores, gold, intercept=True)
    return Calibration(kind=CalibrationKind.PLATT, slope=slope, intercept=intercept, n=len(gold))


def _isotonic(scores: Values, gold: Flags) -> Calibration:
    least = 1 / (len(gold) + 2)  # nothing is certain after n statements
    fit = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip").fit(
        scores, gold.astype(float)
    )
    levels = np.maximum.accumulate(fit.y_thresholds_)  # sums in another order may fall by the last digit
    knots = tuple(
        Knot(score=float(score), probability=float(level))
        for score, level in zip(fit.X_thresholds_, levels, strict=True)
    )
    return Calibration(kind=CalibrationKind.ISOTONIC, knots=knots, n=len(gold))


_FITS: dict[CalibrationKind, Callable[[Values, Flags], Calibration]] = {
    CalibrationKind.TEMPERATURE: _temperature,
    CalibrationKind.PLATT: _platt,
    CalibrationKind.ISOTONIC: _isotonic,
}


def _logistic(scores: Values, gold: Flags, *, intercept: bool) -> tuple[float, float]:
    """Return slope and intercept; the slope is not below zero: no map falls as scores rise.

    The targets are Platt's (1999): short of 0 and 1, so that the slope stays finite where scores tell all apart.
    """
    target = np.where(gold, (gold.sum() + 1) / (gold.sum() + 2), 1 / ((~gold).sum() + 2))
    scale = float(np.abs(scores).mean()) or 1.0
    weights, bias = logistic_weights(scores[:, None] / scale, target, c=NO_PENALTY, intercept=intercept)
    if weights[0] < 0:  # the loss is convex, so that the best slope allowed is zero
        return 0.0, float(logit(target.mean())) if intercept else 0.0
    return float(weights[0]) / scale, bias


def _log_loss(chances: Values, gold: Flags) -> float:
    hits: NDArray[np.float64] = np.where(gold, chances, 1 - chances)
    return float(-xlogy(1.0, hits).mean())
