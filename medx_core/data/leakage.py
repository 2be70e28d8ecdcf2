"""How much the wording of statements gives away about their answers, to readers that know no medicine.

Each of the `wording_readers` is fitted and asked in five folds that keep groups (quads, pairs, near copies) together:
with one twin in the fitted part and the other outside, a reader would learn to say the opposite of what it has seen.
What they reach above one half, a language model could reach without knowing anything.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline

from medx_core.categories import Category
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.data.wording_readers import SEED
from medx_core.data.wording_readers import WORDING_READERS as WORDING_READERS  # handed on

FOLDS = 5
RESAMPLES = 1_000

Values = NDArray[np.float64]
Readers = dict[str, dict[str, Any]]


def leakage(statements: Sequence[LabelledStatement]) -> dict[str, Any]:
    """Return accuracy and AUROC of each reader, on all statements and within each category.

    A figure is `{value, low, high, n}` with a 95 % interval by bootstrap over groups; where there is too little to
    measure it is None and `reasons` says why.
    """
    categories = [each for each in Category if any(statement.category is each for statement in statements)]
    return {
        "rows": len(statements),
        "groups": len({statement.group for statement in statements}),
        "seed": SEED,
        "readers": _readers_on(statements),
        "by_category": {
            each.value: _readers_on([statement for statement in statements if statement.category is each])
            for each in categories
        },
    }


def _readers_on(statements: Sequence[LabelledStatement]) -> Readers:
    answers = np.array([statement.answer for statement in statements], dtype=bool)
    groups = np.unique([statement.group for statement in statements], return_inverse=True)[1]
    reason = _too_little(answers, groups)
    if reason:
        nothing = {"accuracy": None, "auroc": None, "reasons": {"accuracy": reason, "auroc": reason}}
        return {name: dict(nothing) for name in WORDING_READERS}
    texts = np.array([statement.text for statement in statements], dtype=object)
    return {
        name: _figures(_scores_outside(build, texts, answers, groups), answers, groups)
        for name, build in WORDING_READERS.items()
    }


def _too_little(answers: NDArray[np.bool_], groups: NDArray[np.intp]) -> str:
    smaller = min(int(answers.sum()), int((~answers).sum()))
    if smaller < 2 * FOLDS:
        return f"at least {2 * FOLDS} TRUE and {2 * FOLDS} FALSE statements are needed"
    return "" if len(np.unique(groups)) >= 2 * FOLDS else f"at least {2 * FOLDS} groups are needed"


def _scores_outside(
    build: Callable[[], Pipeline],
    texts: NDArray[np.object_],
    answers: NDArray[np.bool_],
    groups: NDArray[np.intp],
) -> Values:
    """Return for each statement the probability of TRUE by a reader that has not seen its group."""
    scores = np.full(len(texts), 0.5)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=SEED)
    for fitted, asked in folds.split(texts, answers, groups):
        if len(np.unique(answers[fitted])) == 2:
            reader = build().fit(texts[fitted], answers[fitted])
            scores[asked] = reader.predict_proba(texts[asked])[:, 1]
    return scores


def _figures(scores: Values, answers: NDArray[np.bool_], groups: NDArray[np.intp]) -> dict[str, Any]:
    right = np.where(scores == 0.5, 0.5, (scores > 0.5) == answers)
    ranking = _Ranking(scores, answers)
    drawn = np.array(
        [
            (np.average(right, weights=weights), ranking.auroc(weights))
            for weights in _resampled_weights(groups)
        ]
    )
    return {
        "accuracy": _interval(float(right.mean()), drawn[:, 0], len(answers)),
        "auroc": _interval(ranking.auroc(np.ones(len(answers))), drawn[:, 1], len(answers)),
    }


def _resampled_weights(groups: NDArray[np.intp]) -> Iterator[Values]:
    """Yield how often each row counts in each resample of whole groups."""
    random, count = np.random.default_rng(SEED), int(groups.max()) + 1
    for _ in range(RESAMPLES):
        yield np.bincount(random.integers(0, count, count), minlength=count)[groups].astype(float)


def _interval(value: float, drawn: Values, n: int) -> dict[str, Any]:
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return {"value": value, "low": float(low), "high": float(high), "n": n}


class _Ranking:
    """Scores sorted once, so that a thousand weighted AUROCs cost a thousand sums and no sorting."""

    def __init__(self, scores: Values, answers: NDArray[np.bool_]) -> None:
        self._order = np.argsort(scores, kind="stable")
        ordered = scores[self._order]
        self._ties = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        self._true = answers[self._order]

    def auroc(self, weights: Values) -> float:
        """Return the weighted share of (TRUE, FALSE) couples ranked right, ties counted half; nan without couples."""
        ordered = weights[self._order]
        true = np.add.reduceat(ordered * self._true, self._ties)
        false = np.add.reduceat(ordered * ~self._true, self._ties)
        couples = true.sum() * false.sum()
        below = np.cumsum(false) - false
        return float((true * (below + false / 2)).sum() / couples) if couples else float("nan")
