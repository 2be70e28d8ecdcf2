"""Two arms on the same items: who answered right where the other did not, and whether that can be luck."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from medx_core.evaluation.arms import ArmScores, Flags, TestItems
from medx_core.evaluation.bootstrap import Resamples
from medx_core.evaluation.metrics import right_answers

EXAMPLES = 10


def mcnemar_p(helped: int, harmed: int) -> float:
    """Return the exact two-sided McNemar p: `helped` items only the one arm got right, `harmed` only the other."""
    changed = helped + harmed
    return float(binomtest(helped, changed).pvalue) if changed else 1.0


def against(
    items: TestItems, arm: ArmScores, base: ArmScores, resamples: Resamples, *, examples: int = EXAMPLES
) -> dict[str, Any]:
    """Return paired differences `arm` minus `base` with intervals, the McNemar p, and what was helped and harmed.

    `helped` items are right in `arm` and wrong in `base`, `harmed` the other way round; the first few of each are
    given with both scores.
    """
    ours, theirs = right_answers(items, arm), right_answers(items, base)
    helped, harmed = ours & ~theirs, ~ours & theirs
    balanced = resamples.balanced(ours).minus(resamples.balanced(theirs))
    return {
        "accuracy_difference": resamples.share(ours.astype(float) - theirs).as_json(),
        "balanced_accuracy_difference": balanced.as_json(),
        "mcnemar_p": mcnemar_p(int(helped.sum()), int(harmed.sum())),
        "helped": int(helped.sum()),
        "harmed": int(harmed.sum()),
        "examples": {
            "helped": _examples(items, arm, base, np.flatnonzero(helped)[:examples]),
            "harmed": _examples(items, arm, base, np.flatnonzero(harmed)[:examples]),
        },
    }


def false_acceptance_difference(
    items: TestItems, ours: Flags, theirs: Flags, resamples: Resamples
) -> tuple[float, float, float]:
    """Return how much more often FALSE items are answered TRUE in `ours` than in `theirs`: value, low, high."""
    more = resamples.share(ours.astype(float) - theirs, ~items.gold)
    return more.value, *more.interval


def _examples(
    items: TestItems, arm: ArmScores, base: ArmScores, chosen: NDArray[np.intp]
) -> list[dict[str, Any]]:
    return [
        {
            "row": items.statements[index].row,
            "statement": items.statements[index].text,
            "answer": items.statements[index].answer,
            "unsteered_score": float(base.scores[index]),
            "score": float(arm.scores[index]),
        }
        for index in chosen
    ]
