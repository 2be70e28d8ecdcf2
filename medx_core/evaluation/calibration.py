"""Whether probabilities mean what they say, and how much better the answers get when the unsure ones are left out.

The probability of TRUE is the logistic function of the score, nothing fitted.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from medx_core.evaluation.arms import Flags, Values
from medx_core.evaluation.bootstrap import Estimate, Resamples

BINS = 10
COVERAGES = tuple(step / 20 for step in range(1, 21))


def calibration(scores: Values, resamples: Resamples) -> dict[str, Any]:
    """Return Brier score, expected calibration error, its bins of equal mass, and the risk-coverage curve.

    A bin holds `mean_score` (the mean probability of TRUE) and `share_true`; a point of the curve is the share of
    wrong answers (`risk`) among the most confident `coverage` of the items.
    """
    probabilities = expit(np.asarray(scores, dtype=float))
    gold = resamples.gold
    bins = _bins(probabilities)
    return {
        "brier": resamples.share((probabilities - gold) ** 2).as_json(),
        "ece": _calibration_error(probabilities, bins, resamples).as_json(),
        "bins": [
            {
                "mean_score": float(probabilities[held].mean()),
                "share_true": float(gold[held].mean()),
                "n": len(held),
            }
            for held in bins
        ],
        "risk_coverage": _risk_coverage(scores, gold),
    }


def _bins(probabilities: Values) -> list[NDArray[np.intp]]:
    order = np.argsort(probabilities, kind="stable")
    return [held for held in np.array_split(order, BINS) if len(held)]


def _calibration_error(probabilities: Values, bins: list[NDArray[np.intp]], resamples: Resamples) -> Estimate:
    """Resampling adds noise to every bin and so lifts the error: the draws are moved back to lie around the value."""
    gold = resamples.gold
    gaps = np.zeros((len(bins), len(gold)), dtype=np.float32)
    for number, held in enumerate(bins):
        gaps[number, held] = probabilities[held] - gold[held]
    value = float(np.abs(gaps.sum(axis=1, dtype=float)).sum() / len(gold))
    draws = np.abs(gaps @ resamples.counts).sum(axis=0, dtype=float) / resamples.counts.sum(axis=0)
    centred = np.clip(draws - draws.mean() + value, 0.0, 1.0)
    return Estimate(value, centred, len(gold))


def _risk_coverage(scores: Values, gold: Flags) -> list[dict[str, float]]:
    surest = np.argsort(-np.abs(scores), kind="stable")
    wrong = ((scores >= 0) != gold)[surest]
    kept = [max(1, round(coverage * len(gold))) for coverage in COVERAGES]
    return [
        {"coverage": many / len(gold), "risk": float(wrong[:many].mean())} for many in dict.fromkeys(kept)
    ]
