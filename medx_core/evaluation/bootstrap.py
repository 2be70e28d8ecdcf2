"""Intervals by resampling: one table of weights for every figure of an evaluation.

All arms answer the same items, so all figures are resampled with the same weights: a difference between two arms is
then paired within every resample. Whole groups (twins, near copies) are drawn together, and drawn within strata of
equal labels (all TRUE, all FALSE, both), so that a resample holds about as many TRUE items as the data do.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medx_core.errors import BadInput
from medx_core.evaluation.arms import Flags, Values
from medx_core.evaluation.result import Changes, ChangesByHarm
from medx_core.jobs.snapshots import ArmChanges
from medx_core.metric import Metric


def wilson(right: int, n: int, confidence: float = 0.95) -> Metric | None:
    """Return `right / n` with its Wilson score interval, or None when `n` is 0.

    Raises:
        BadInput: `right` is not between 0 and `n`, or `confidence` not strictly between 0 and 1.
    """
    if not 0 <= right <= n or not 0 < confidence < 1:
        raise BadInput(f"There is no share of {right} in {n} at confidence {confidence}.")
    if n == 0:
        return None
    from scipy.stats import binomtest  # takes a second to import, and pages call this

    interval = binomtest(right, n).proportion_ci(confidence, method="wilson")
    return Metric(value=right / n, low=float(interval.low), high=float(interval.high), n=n)


def mcnemar_p(helped: int, harmed: int) -> float:
    """Return the exact two-sided McNemar p: `helped` items only the one arm got right, `harmed` only the other."""
    if not helped + harmed:
        return 1.0
    from scipy.stats import binomtest  # see `wilson`

    return float(binomtest(helped, helped + harmed).pvalue)


def changes(n: int, helped: int, harmed: int) -> Changes:
    """Return how many of `n` items only the one arm got right and how many only the other, with McNemar's p."""
    return Changes(n=n, helped=helped, harmed=harmed, mcnemar_p=mcnemar_p(helped, harmed))


def all_changes(counted: Sequence[ArmChanges]) -> ChangesByHarm | None:
    """Return what the steered answers of a job changed, in all and by harm; None where nothing was counted."""
    if not counted:
        return None
    whole = changes(
        *(sum(getattr(each, name) for each in counted) for name in ("judged", "helped", "harmed"))
    )
    by_harm = {each.harm: changes(each.judged, each.helped, each.harmed) for each in counted if each.harm}
    return ChangesByHarm(**dict(whole), by_harm=by_harm)


RESAMPLES = 2_000
PERCENTILES = (2.5, 97.5)

_AT_ONCE = 250  # resamples drawn at a time, so that the numbers stay in the cache

Counts = NDArray[np.float32]


@dataclass(frozen=True)
class Estimate:
    """A figure on the items and in every resample, NaN where it cannot be computed: what paired differences are made of."""

    value: float
    draws: Values  # (resamples,)
    n: int
    bounds: tuple[float, float] | None = None  # the interval of a share of none or of all

    def minus(self, other: "Estimate") -> "Estimate":
        """Return the paired difference, resample by resample."""
        return Estimate(self.value - other.value, self.draws - other.draws, self.n)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % percentile interval, or the bounds that stand for it; NaN where nothing could be computed."""
        if self.bounds is not None:
            return self.bounds
        known = self.draws[~np.isnan(self.draws)]
        if not len(known):
            return float("nan"), float("nan")
        low, high = np.percentile(known, PERCENTILES)
        return float(low), float(high)

    @property
    def above_zero(self) -> bool:
        """Whether the lower end of the interval lies above zero."""
        return self.interval[0] > 0

    @property
    def p(self) -> float:
        """The two-sided bootstrap p that the figure is above zero: 1 or near it when it is not."""
        not_above = int((~(self.draws > 0)).sum())
        return min(1.0, 2 * (1 + not_above) / (1 + len(self.draws)))

    @property
    def metric(self) -> Metric | None:
        """The figure with its interval; None when one of them cannot be computed."""
        low, high = self.interval
        if np.isnan(self.value) or np.isnan(low):
            return None
        return Metric(value=self.value, low=low, high=high, n=self.n)


@dataclass(frozen=True)
class Resamples:
    """How often each item counts in each resample: `counts` is (items, resamples), float32 whole numbers."""

    counts: Counts
    gold: Flags
    _per_class: Counts = field(init=False, repr=False)

    def __post_init__(self) -> None:
        classes = np.stack([self.gold, ~self.gold]).astype(np.float32)
        object.__setattr__(self, "_per_class", classes @ self.counts)

    def share(self, hits: NDArray[np.generic], among: Flags | None = None) -> Estimate:
        """Return the mean of `hits` (items,) over the items where `among` is set, all by default.

        Of a share of none (of 45 false statements accepted, say) or of all, every resample has the same and knows nothing of
        the next item: the interval is Wilson's then, of the groups.
        """
        kept = np.ones(len(self.gold), dtype=bool) if among is None else among
        weights = np.stack([np.where(kept, hits, 0), kept]).astype(np.float32) @ self.counts
        n = int(kept.sum())
        value = float(np.asarray(hits, dtype=float)[kept].mean()) if n else float("nan")
        draws = _ratio(weights[0], weights[1])
        whether = hits.dtype == np.bool_  # a mean of differences or errors is no share
        return Estimate(value, draws, n, _bounds(value, self.counts[kept]) if whether else None)

    def balanced(self, right: Flags, among: Flags | None = None) -> Estimate:
        """Return the mean of the shares right among gold TRUE and gold FALSE; NaN without both."""
        kept = np.ones(len(self.gold), dtype=bool) if among is None else among
        classes = np.stack([self.gold & kept, ~self.gold & kept])
        hits = (classes & right).astype(np.float32) @ self.counts
        whole = self._per_class if among is None else classes.astype(np.float32) @ self.counts
        value = float(balanced_accuracies(right[None, kept], self.gold[kept])[0])
        return Estimate(value, _ratio(hits, whole).mean(axis=0), int(kept.sum()))

    def auroc(self, scores: Values, among: Flags | None = None) -> Estimate:
        """Return the area under the ROC curve of `scores` (items,), where `among` is set; ties count half."""
        kept = slice(None) if among is None else among
        chosen, gold = scores[kept], self.gold[kept]
        value = float(aurocs(chosen[None], gold)[0])
        return Estimate(value, _auroc(chosen, gold, self.counts[kept]), len(gold))


def resamples(gold: Flags, groups: NDArray[np.intp], *, seed: int, count: int = RESAMPLES) -> Resamples:
    """Draw `count` resamples of whole groups, within strata of groups with equal labels; the same for the same seed.

    `groups` (items,) numbers the groups from 0 without gaps.
    """
    random = np.random.default_rng(seed)
    number = int(groups.max()) + 1 if len(groups) else 0
    kind = _kinds(gold, groups, number)
    drawn = np.zeros((number, count), dtype=np.float32)
    for stratum in np.unique(kind):
        members = np.flatnonzero(kind == stratum)
        for first in range(0, count, _AT_ONCE):
            many = min(_AT_ONCE, count - first)
            picks = random.integers(0, len(members), (many, len(members)))
            picks += np.arange(many)[:, None] * len(members)
            table = np.bincount(picks.ravel(), minlength=picks.size).reshape(picks.shape)
            drawn[members, first : first + many] = table.T
    return Resamples(drawn[groups], gold)


def ranked_right(pairs: Values, counts: Counts) -> Estimate:
    """Return the share of `pairs` (pairs, 2) of scores whose first is the higher, ties counted half.

    `counts` (pairs, resamples) says how often each pair counts in each resample.
    """
    right = preferred(pairs)
    value, draws = float(right.mean()), _ratio(right.astype(np.float32) @ counts, counts.sum(axis=0))
    return Estimate(value, draws, len(pairs), _bounds(value, counts))


def preferred(pairs: Values) -> Values:
    """Return for each of `pairs` (..., 2) of scores 1 where the first is the higher, 0.5 where they are equal."""
    return np.where(pairs[..., 0] == pairs[..., 1], 0.5, pairs[..., 0] > pairs[..., 1])


def balanced_accuracies(right: NDArray[np.bool_], gold: Flags) -> Values:
    """Return the balanced accuracy of each row of `right` (rows, items); NaN without both kinds of item."""
    if gold.all() or not gold.any():
        return np.full(len(right), np.nan)
    return np.asarray((right[:, gold].mean(axis=1) + right[:, ~gold].mean(axis=1)) / 2, dtype=float)


def aurocs(scores: Values, gold: Flags) -> Values:
    """Return the area under the ROC curve of each row of `scores` (rows, items); NaN without both kinds of item."""
    once = np.ones((len(gold), 1), dtype=np.float32)
    return np.array([_auroc(row, gold, once)[0] for row in scores])


def _bounds(share: float, counts: Counts) -> tuple[float, float] | None:
    """Return Wilson's interval of a share of none or of all, for as many groups as were drawn; None for other shares."""
    if share not in {0.0, 1.0}:
        return None
    groups = len(np.unique(counts, axis=0))  # items of one group count alike in every resample
    bounds = wilson(round(share * groups), groups)
    return (bounds.low, bounds.high) if bounds else None


def _kinds(gold: Flags, groups: NDArray[np.intp], number: int) -> NDArray[np.intp]:
    """Return for each group 1 where it holds TRUE items only, 2 where FALSE only, 3 where both."""
    trues = np.bincount(groups[gold], minlength=number) > 0
    falses = np.bincount(groups[~gold], minlength=number) > 0
    return np.asarray(trues + 2 * falses, dtype=np.intp)


def _auroc(scores: Values, gold: Flags, counts: Counts) -> Values:
    """Return one area per column of `counts` (items, columns): the weighted share of (TRUE, FALSE) couples ranked right."""
    order = np.argsort(scores[~gold], kind="stable")
    below = np.zeros((len(order) + 1, counts.shape[1]), dtype=np.float32)
    np.cumsum(counts[~gold][order], axis=0, out=below[1:])
    ordered = scores[~gold][order]
    first = np.searchsorted(ordered, scores[gold], side="left")
    last = np.searchsorted(ordered, scores[gold], side="right")
    true = counts[gold]
    halves = np.einsum("ic,ic->c", true, below[first]) + np.einsum("ic,ic->c", true, below[last])
    return _ratio(halves / 2, true.sum(axis=0) * below[-1])


def _ratio(above: NDArray[np.float32], under: NDArray[np.float32]) -> Values:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.divide(above, under, dtype=np.float64))
