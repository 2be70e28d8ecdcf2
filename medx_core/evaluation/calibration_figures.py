"""How far an arm's answers can be trusted: calibration, risk against coverage, and the rule that trusts only sure ones."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from medx_core.calibration import shows_probability
from medx_core.evaluation.arms import ArmScores, Flags, TestItems, Values
from medx_core.evaluation.bootstrap import Counts, Estimate, Resamples
from medx_core.evaluation.result import (
    PROBE,
    SCORE,
    AbstentionFigures,
    CalibratedFigures,
    CalibrationBin,
    CalibrationFigures,
    Reliability,
    RiskCurve,
    RiskPoint,
)

BINS = 10
COVERAGES = tuple(step / 20 for step in range(1, 21))

_AT_ONCE = 250  # resamples at a time


def calibration(scores: Values, resamples: Resamples) -> CalibrationFigures:
    """Return Brier score, expected calibration error, its bins, and the risk-coverage curve."""
    surest = np.argsort(-np.abs(scores), kind="stable")
    wrong = (scores >= 0) != resamples.gold
    return CalibrationFigures(
        **dict(_reliability(expit(np.asarray(scores, dtype=float)), resamples)),
        risk_coverage=_risk_coverage(wrong[surest]),
    )


def calibrated(probabilities: Values | None, resamples: Resamples) -> CalibratedFigures | None:
    """Return the same of mapped scores, and whether they may be called probabilities; None without a map."""
    if probabilities is None:
        return None
    figures = _reliability(probabilities, resamples)
    return CalibratedFigures(**dict(figures), is_probability=shows_probability(figures.ece))


def confidences(
    items: TestItems, arm: ArmScores, probe: ArmScores | None, resamples: Resamples
) -> dict[str, RiskCurve]:
    """Return the risk-coverage curves of an arm by its own confidence and by the probe's confidence in its answers.

    Without a map an arm has none: bare scores have their own curve, see `calibration`.
    """
    if arm.probabilities is None:
        return {}
    said_true, wrong = arm.scores >= 0, ~items.right(arm.scores)
    readers = {SCORE: arm} | ({PROBE: probe} if probe is not None and probe.name != arm.name else {})
    return {
        name: _risk_curve(wrong, _surest(said_true, reader), resamples)
        for name, reader in readers.items()
        if reader.probabilities is not None
    }


def abstention(items: TestItems, arm: ArmScores, resamples: Resamples) -> AbstentionFigures | None:
    """Return how many answers of an arm are trusted, and how many of these and of the others are wrong."""
    if arm.trusted is None:
        return None
    wrong = ~items.right(arm.scores)
    return AbstentionFigures(
        coverage=resamples.share(arm.trusted).metric,
        error=resamples.share(wrong, arm.trusted).metric,
        error_of_rest=resamples.share(wrong, ~arm.trusted).metric,
    )


def _surest(said_true: Flags, reader: ArmScores) -> NDArray[np.intp]:
    """Return the items by falling confidence of `reader` in these answers; equal ones by its bare scores."""
    assert reader.probabilities is not None  # noqa: S101 - for the type checker: callers leave others out
    confidence = np.where(said_true, reader.probabilities, 1 - reader.probabilities)
    bare = np.where(said_true, reader.scores, -reader.scores)
    return np.lexsort((-bare, -confidence))


def _risk_curve(wrong: Flags, surest: NDArray[np.intp], resamples: Resamples) -> RiskCurve:
    ordered = wrong[surest]
    value = float((np.cumsum(ordered) / np.arange(1, len(ordered) + 1)).mean())
    counts = resamples.counts[surest]
    draws = [
        _mean_risks(ordered, counts[:, first : first + _AT_ONCE])
        for first in range(0, counts.shape[1], _AT_ONCE)
    ]
    mean_risk = Estimate(value, np.concatenate(draws), len(ordered)).metric
    return RiskCurve(points=_risk_coverage(ordered), mean_risk=mean_risk)


def _mean_risks(ordered: Flags, counts: Counts) -> Values:
    """Return the area under the curve in each resample: an item that counts twice stands for two coverages."""
    answered = np.cumsum(counts, axis=0)
    risks = np.cumsum(counts * ordered[:, None], axis=0) / np.maximum(answered, 1)
    return np.asarray((counts * risks).sum(axis=0) / answered[-1], dtype=float)


def _reliability(probabilities: Values, resamples: Resamples) -> Reliability:
    gold = resamples.gold
    bins = _bins(probabilities)
    return Reliability(
        brier=resamples.share((probabilities - gold) ** 2).metric,
        ece=_calibration_error(probabilities, bins, resamples).metric,
        bins=tuple(
            CalibrationBin(
                mean_score=float(probabilities[members].mean()),
                share_true=float(gold[members].mean()),
                n=len(members),
            )
            for members in bins
        ),
    )


def _bins(probabilities: Values) -> list[NDArray[np.intp]]:
    """Return the items of each of at most `BINS` bins of about equal size; items of one probability share a bin.

    Cut by size alone, equal probabilities (every isotonic map has them) would come apart in the order of the rows, and
    the error of a constant would be the noise of that order.
    """
    order = np.argsort(probabilities, kind="stable")
    ordered = probabilities[order]
    by_size = np.cumsum([len(part) for part in np.array_split(order, BINS)])[:-1]
    inside = by_size[(by_size > 0) & (by_size < len(order))]
    before, after = (np.searchsorted(ordered, ordered[inside], side=side) for side in ("left", "right"))
    nearest = np.where(inside - before <= after - inside, before, after)
    cuts = np.unique(nearest)
    return [members for members in np.split(order, cuts) if len(members)]


def _calibration_error(probabilities: Values, bins: list[NDArray[np.intp]], resamples: Resamples) -> Estimate:
    """Resampling adds noise to every bin and so lifts the error: the draws are moved back to lie around the value."""
    gold = resamples.gold
    gaps = np.zeros((len(bins), len(gold)), dtype=np.float32)
    for number, members in enumerate(bins):
        gaps[number, members] = probabilities[members] - gold[members]
    value = float(np.abs(gaps.sum(axis=1, dtype=float)).sum() / len(gold))
    draws = np.abs(gaps @ resamples.counts).sum(axis=0, dtype=float) / resamples.counts.sum(axis=0)
    centred = np.clip(draws - draws.mean() + value, 0.0, 1.0)
    return Estimate(value, centred, len(gold))


def _risk_coverage(wrong: Flags) -> tuple[RiskPoint, ...]:
    """Return the points of the curve of `wrong` (items,), the surest first."""
    kept = [max(1, round(coverage * len(wrong))) for coverage in COVERAGES]
    return tuple(
        RiskPoint(coverage=many / len(wrong), risk=float(wrong[:many].mean())) for many in dict.fromkeys(kept)
    )
