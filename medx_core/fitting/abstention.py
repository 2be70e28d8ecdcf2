"""Choosing how sure MedX must be of an answer, so that few of the answers it stands by are wrong.

Risk control by Learn then Test (Angelopoulos et al., arXiv 2110.01052, section 3.2: fixed sequence testing with several
starts). Each threshold is a null hypothesis "more than `max_error` of the answers above it are wrong", tested by the
exact binomial tail of the wrong answers among those above it. From each start, thresholds are lowered until one cannot
be rejected, and the starts share the error. They are needed because the surest few are too few to show anything. Where no start trusts enough
answers to show it, because there are few or because many are tied (an isotonic map is equally sure of all above its last
knot), the sequence starts at the first threshold that does: that is seen from the confidences alone, before any error is.

The binomial tail asks for independent answers. Twins and near copies are not, so one statement of each group is drawn
and the others are left aside: the promise is about questions that have nothing to do with each other. Given a threshold
that is itself one of the confidences, those above it are independent, and the tail is exact; over a sequence of such
thresholds this needs that answers do not grow better as confidence falls.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from medx_core.accuracy import Flags, Values
from medx_core.calibration import AbstentionRule

COVERAGES = tuple(step / 40 for step in range(4, 41))
"""Shares of the answers that thresholds are tried at."""
STARTS = (0.1, 0.4)
LEVEL = 0.95

Counts = NDArray[np.intp]


def fit_abstention(
    confidences: Values, right: Flags, groups: Sequence[str], *, max_error: float, seed: int
) -> AbstentionRule:
    """Choose the lowest threshold above which at most `max_error` of the answers are wrong, with 95 % confidence.

    `confidences` (n,) are those of the answers by a map that was not fitted on them (`FittedCalibration.unseen`),
    `right` (n,) says which answers are, and `groups` which statements are not independent.
    """
    drawn = one_of_each_group(groups, seed)
    order = drawn[np.argsort(-confidences[drawn], kind="stable")]
    sure, wrong = confidences[order], np.cumsum(~right[order], dtype=np.intp)
    counts = np.array([_above(sure, coverage) for coverage in COVERAGES])
    held, starts = _held(counts, wrong, max_error), _starts(counts, max_error)
    kept = max((_lowest(counts[first:], held[first:]) for first in starts), default=0)
    about = {"max_error": max_error, "level": LEVEL, "n": len(drawn)}
    if not kept:
        return AbstentionRule(promised=False, reason=_why_not(sure, wrong, counts[starts]), **about)
    return AbstentionRule(
        promised=True,
        threshold=float(sure[kept]) if kept < len(sure) else 0.0,
        coverage=kept / len(drawn),
        error=float(wrong[kept - 1] / kept),
        **about,
    )


def one_of_each_group(groups: Sequence[str], seed: int) -> NDArray[np.intp]:
    """Return the place of one statement of each group, drawn by `seed`."""
    shuffled = np.random.default_rng(seed).permutation(len(groups))
    _, first = np.unique(np.asarray(groups)[shuffled], return_index=True)
    return np.sort(shuffled[first])


def _above(sure: Values, coverage: float) -> int:
    """Return how many of the falling `sure` lie above the threshold that trusts at most this share of them."""
    most = round(coverage * len(sure))
    return most if most == len(sure) else int((sure > sure[most]).sum())


def _starts(counts: Counts, max_error: float) -> list[int]:
    """Return where in `counts` the sequences start; nowhere if all answers are too few, even if every one were right."""
    enough = _held(counts, np.zeros(max(counts) + 1, dtype=np.intp), max_error)
    planned = [at for at in map(COVERAGES.index, STARTS) if enough[at]]
    return planned or np.flatnonzero(enough)[:1].tolist()


def _held(counts: Counts, wrong: Counts, max_error: float) -> Flags:
    """Return of which of `counts` of the surest answers it is shown that few enough are wrong."""
    chances = binom.cdf(wrong[np.maximum(counts, 1) - 1], counts, max_error)
    return np.asarray((counts > 0) & (chances <= (1 - LEVEL) / len(STARTS)))


def _lowest(counts: Counts, held: Flags) -> int:
    """Return the largest of the rising `counts` that is reached before one is not held; 0 where the first is not."""
    reached = int(np.argmin(held)) if not held.all() else len(held)
    return int(counts[reached - 1]) if reached else 0


def _why_not(sure: Values, wrong: Counts, started_at: Counts) -> str:
    """Say why no sequence, each of which failed at the count that it started at, showed anything."""
    n = len(wrong)
    if not len(started_at):
        return f"{n} unrelated statements are too few to show it, even if every answer were right"
    tied = int((sure == sure[0]).sum())
    if tied > round(max(STARTS) * n) and wrong[tied - 1]:
        return f"it is equally sure of the {tied} answers of {n} that it is surest of, and {wrong[tied - 1]} of them are wrong"
    surest = int(started_at[np.argmin(wrong[started_at - 1] / started_at)])
    return f"of the {surest} answers of {n} that it is surest of, {wrong[surest - 1]} are wrong"
