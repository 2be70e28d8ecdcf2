"""How much the wording of statements gives away about their answers, to readers that know no medicine.

Each of the `wording_readers` is fitted and asked in five folds that keep groups (quads, pairs, near copies) together:
with one twin in the fitted part and the other outside, a reader would learn to say the opposite of what it has seen.
What they reach above one half, a language model could reach without knowing anything.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from medx_core.categories import Category
from medx_core.data.labelled_statements import LabelledStatement

SEED = 0

_FUNCTION_WORDS = tuple(
    word
    for line in (
        "a an the and or but not no never nor without only all any some many most more less than as if when while",
        "because so that which who is are was were be been being has have had does do did can cannot could may might",
        "must should will would always usually often sometimes rarely of in on at by for from to with into over under",
        "after before during between about it its this these those there",
    )
    for word in line.split()
)
_PLACES = {word: place for place, word in enumerate(_FUNCTION_WORDS)}
_WORD = re.compile(r"[a-z']+")
_TERM = re.compile(r"\w\w+")
_NUMBER = re.compile(r"\d+")
_PUNCTUATION = ".,;:!?()-/%\"'"
_REMEMBERED = 65_536


def surface_cues(texts: Sequence[str]) -> NDArray[np.float32]:
    """Return one row of counts a text: (texts, cues)."""
    return np.stack([_cues_of(text) for text in texts])


def character_grams(text: str) -> list[str]:
    """Return what scikit-learn's "char_wb" gives for two to four characters, with every word taken apart once only."""
    return [gram for word in text.lower().split() for gram in _grams_of_word(word)]


def _words() -> Pipeline:
    return make_pipeline(TfidfVectorizer(analyzer=_terms_of, sublinear_tf=True), _classifier())


def _characters() -> Pipeline:
    vectors = TfidfVectorizer(analyzer=character_grams, sublinear_tf=True, max_features=100_000)
    return make_pipeline(vectors, _classifier(dual=True))


def _surface() -> Pipeline:
    return make_pipeline(FunctionTransformer(surface_cues), StandardScaler(), _classifier())


WORDING_READERS: dict[str, Callable[[], Pipeline]] = {
    "words": _words,
    "characters": _characters,
    "surface": _surface,
}
"""By name, what makes a reader that is not fitted yet: fit(texts, answers), then predict_proba(texts)[:, 1]."""


def _classifier(*, dual: bool = False) -> LogisticRegression:
    # Several times faster here than the default solver at the same accuracy, and it keeps to one thread; the dual
    # form is the faster one where texts have many features each, and slow where features are not of one size.
    return LogisticRegression(solver="liblinear", dual=dual, max_iter=2_000, random_state=SEED)


@lru_cache(maxsize=_REMEMBERED)
def _terms_of(text: str) -> tuple[str, ...]:
    """Return the words of a text, then its pairs of neighbouring words."""
    words = _TERM.findall(text.lower())
    return (*words, *(f"{left} {right}" for left, right in pairwise(words)))


@lru_cache(maxsize=_REMEMBERED)
def _grams_of_word(word: str) -> tuple[str, ...]:
    padded = f" {word} "
    return tuple(
        padded[first : first + length] for length in (2, 3, 4) for first in range(len(padded) - length + 1)
    )


@lru_cache(maxsize=_REMEMBERED)
def _cues_of(text: str) -> NDArray[np.float32]:
    words = _WORD.findall(text.lower())
    numbers = _NUMBER.findall(text)
    cues = np.zeros(6 + len(_PUNCTUATION) + len(_FUNCTION_WORDS), dtype=np.float32)
    cues[:3] = len(text), len(words), sum(map(len, words)) / max(len(words), 1)
    cues[3:6] = len(numbers), sum(map(len, numbers)), sum(map(str.isupper, text))
    cues[6 : 6 + len(_PUNCTUATION)] = [text.count(mark) for mark in _PUNCTUATION]
    for word, count in Counter(words).items():
        if word in _PLACES:
            cues[6 + len(_PUNCTUATION) + _PLACES[word]] = count
    return cues


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
