"""Fitting the map from score to probability, by cross-fitting with whole groups.

Three maps are tried, see `Calibration`; the one is taken that loses least (log loss) on statements it was not fitted
on. The scores must themselves be of statements that the arm was not fitted on: a gate is too sure of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, xlogy
from sklearn.isotonic import IsotonicRegression
from sklearn.model_selection import StratifiedGroupKFold

from medx_core.accuracy import Flags, Values
from medx_core.calibration import Calibration, CalibrationKind, Knot
from medx_core.errors import BadInput

FEWEST_OF_A_KIND = 10
FOLDS = 5


@dataclass(frozen=True)
class FittedCalibration:
    """A map fitted on all statements, and what its kind gave each of them (n,) when fitted on the other folds."""

    calibration: Calibration
    unseen: Values


def fit_calibration(scores: Values, gold: Flags, groups: Sequence[str]) -> FittedCalibration:
    """Fit a map from `scores` (n,) to the probability that `gold` (n,) is TRUE.

    Statements of one of `groups` (twins, near copies) stay in one fold. The map is untested: see `Calibration.tested`.

    Raises:
        BadInput: there are fewer than ten groups with a TRUE statement, or with a FALSE one.
    """
    names = np.asarray(groups)
    if min(len(set(names[kind])) for kind in (gold, ~gold)) < FEWEST_OF_A_KIND:
        raise BadInput(
            f"A map from score to probability needs {FEWEST_OF_A_KIND} TRUE and {FEWEST_OF_A_KIND} FALSE statements "
            "or more that are no near copies of each other."
        )
    folds = list(StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(gold, gold, names))
    unseen = {kind: np.zeros(len(gold)) for kind in CalibrationKind}
    for fitted, judged in folds:
        for kind, values in unseen.items():
            values[judged] = probabilities(_fit(kind, scores[fitted], gold[fitted]), scores[judged])
    kind = min(unseen, key=lambda kind: _log_loss(unseen[kind], gold))
    return FittedCalibration(_fit(kind, scores, gold), unseen[kind])


def probabilities(calibration: Calibration, scores: Values) -> Values:
    """Return `Calibration.probability` of each of `scores` (n,)."""
    if calibration.kind is CalibrationKind.ISOTONIC:
        corners = np.array([(knot.score, knot.probability) for knot in calibration.knots])
        return np.asarray(np.interp(scores, corners[:, 0], corners[:, 1]), dtype=float)
    return np.asarray(expit(calibration.slope * scores + calibration.intercept), dtype=float)


def _fit(kind: CalibrationKind, scores: Values, gold: Flags) -> Calibration:
    return _FITS[kind](scores, gold)


def _temperature(scores: Values, gold: Flags) -> Calibration:
    (slope,) = _logistic(scores[:, None], gold)
    return Calibration(kind=CalibrationKind.TEMPERATURE, slope=slope, n=len(gold))


def _platt(scores: Values, gold: Flags) -> Calibration:
    slope, intercept = _logistic(np.stack([scores, np.ones(len(scores))], axis=1), gold)
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


def _logistic(inputs: Values, gold: Flags) -> list[float]:
    """Return the weights (width,) of `inputs` (n, width), the first not below zero: no map falls as scores rise.

    The targets are Platt's (1999): short of 0 and 1, so that the slope stays finite where scores tell all apart.
    """
    target = np.where(gold, (gold.sum() + 1) / (gold.sum() + 2), 1 / ((~gold).sum() + 2))
    scale = np.array([float(np.abs(inputs[:, 0]).mean()) or 1.0, *[1.0] * (inputs.shape[1] - 1)])
    rows = inputs / scale

    def loss(weights: Values) -> tuple[float, Values]:
        margins = rows @ weights
        return (
            float(np.logaddexp(0.0, margins).sum() - target @ margins),
            rows.T @ (expit(margins) - target),
        )

    bounds: list[tuple[float | None, None]] = [(0.0, None), *[(None, None)] * (inputs.shape[1] - 1)]
    start = np.zeros(inputs.shape[1])
    start[0] = 1.0
    settled: Any = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    return [float(weight) for weight in settled.x / scale]


def _log_loss(chances: Values, gold: Flags) -> float:
    hits: NDArray[np.float64] = np.where(gold, chances, 1 - chances)
    return float(-xlogy(1.0, hits).mean())
