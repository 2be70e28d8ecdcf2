"""How much the wording of statements gives away about their answers, to readers that know no medicine.

Each of the `WORDING_READERS` is fitted and asked in five folds that keep groups (quads, pairs, near copies) together:
with a twin in the fitted part and the other outside, a reader would learn to say the opposite of what it has seen.
What they reach above one half, a language model could reach without knowing anything.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NotRequired, TypedDict

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
FOLDS = 5
RESAMPLES = 1_000

_FUNCTION_WORDS = (
    "a an the and or but not no never nor without only all any some many most more less than as if when while because "
    "so that which who is are was were be been being has have had does do did can cannot could may might must should "
    "will would always usually often sometimes rarely of in on at by for from to with into over under after before "
    "during between about it its this these those there"
)
_PLACES = {word: place for place, word in enumerate(_FUNCTION_WORDS.split())}
_WORD = re.compile(r"[a-z']+")
_TERM = re.compile(r"\w\w+")
_NUMBER = re.compile(r"\d+")
_PUNCTUATION = ".,;:!?()-/%\"'"
_REMEMBERED = 65_536

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]
Groups = NDArray[np.intp]


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
    cues = np.zeros(6 + len(_PUNCTUATION) + len(_PLACES), dtype=np.float32)
    cues[:3] = len(text), len(words), sum(map(len, words)) / max(len(words), 1)
    cues[3:6] = len(numbers), sum(map(len, numbers)), sum(map(str.isupper, text))
    cues[6 : 6 + len(_PUNCTUATION)] = [text.count(mark) for mark in _PUNCTUATION]
    for word, count in Counter(words).items():
        if word in _PLACES:
            cues[6 + len(_PUNCTUATION) + _PLACES[word]] = count
    return cues


def surface_cues(texts: Sequence[str]) -> NDArray[np.float32]:
    """Return a row of counts per text: (texts, cues)."""
    return np.stack([_cues_of(text) for text in texts])


def character_grams(text: str) -> list[str]:
    """Return what scikit-learn's "char_wb" gives for two to four characters; every word is taken apart only once."""
    return [gram for word in text.lower().split() for gram in _grams_of_word(word)]


def _classifier(*, dual: bool = False) -> LogisticRegression:
    # Several times faster here than the default solver at the same accuracy, and it keeps to one thread; the dual
    # form is the faster one where texts have many features each, and slow where features are not of one size.
    return LogisticRegression(solver="liblinear", dual=dual, max_iter=2_000, random_state=SEED)


WORDING_READERS: dict[str, Callable[[], Pipeline]] = {
    "words": lambda: make_pipeline(TfidfVectorizer(analyzer=_terms_of, sublinear_tf=True), _classifier()),
    "characters": lambda: make_pipeline(
        TfidfVectorizer(analyzer=character_grams, sublinear_tf=True, max_features=100_000),
        _classifier(dual=True),
    ),
    "surface": lambda: make_pipeline(FunctionTransformer(surface_cues), StandardScaler(), _classifier()),
}
"""By name, what makes a reader that is not fitted yet: fit(texts, answers), then predict_proba(texts)[:, 1]."""


class Figure(TypedDict):
    """A share with its 95 % interval by bootstrap over groups, from `n` statements."""

    value: float
    low: float
    high: float
    n: int


class ReaderFigures(TypedDict):
    """What a reader reaches; where there is too little to measure, None, and `reasons` says why."""

    accuracy: Figure | None
    auroc: Figure | None
    reasons: NotRequired[dict[str, str]]


Readers = dict[str, ReaderFigures]


class Leakage(TypedDict):
    """The figures of each reader, on all statements and within each category."""

    rows: int
    groups: int
    seed: int
    readers: Readers
    by_category: dict[str, Readers]


def leakage(statements: Sequence[LabelledStatement]) -> Leakage:
    """Return accuracy and AUROC of each reader, on all statements and within each category."""
    by_category: dict[str, list[LabelledStatement]] = {}
    for category in Category:
        of_category = [statement for statement in statements if statement.category is category]
        if of_category:
            by_category[category.value] = of_category
    return {
        "rows": len(statements),
        "groups": len({statement.group for statement in statements}),
        "seed": SEED,
        "readers": _readers_on(statements),
        "by_category": {name: _readers_on(of_category) for name, of_category in by_category.items()},
    }


def _readers_on(statements: Sequence[LabelledStatement]) -> Readers:
    answers = np.array([statement.answer for statement in statements], dtype=bool)
    groups = np.unique([statement.group for statement in statements], return_inverse=True)[1]
    reason = _too_little(answers, groups)
    if reason:
        reasons = {"accuracy": reason, "auroc": reason}
        return {name: {"accuracy": None, "auroc": None, "reasons": reasons} for name in WORDING_READERS}
    texts = np.array([statement.text for statement in statements], dtype=object)
    return {
        name: _figures(_scores_outside(build, texts, answers, groups), answers, groups)
        for name, build in WORDING_READERS.items()
    }


def _too_little(answers: Flags, groups: Groups) -> str:
    fewest = 2 * FOLDS
    if min(answers.sum(), (~answers).sum()) < fewest:
        return f"at least {fewest} TRUE and {fewest} FALSE statements are needed"
    return "" if len(np.unique(groups)) >= fewest else f"at least {fewest} groups are needed"


def _scores_outside(
    build: Callable[[], Pipeline], texts: NDArray[np.object_], answers: Flags, groups: Groups
) -> Values:
    """Return for each statement the probability of TRUE by a reader that has not seen its group."""
    scores = np.full(len(texts), 0.5)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=SEED)
    for fitted, asked in folds.split(texts, answers, groups):
        if len(np.unique(answers[fitted])) == 2:
            reader = build().fit(texts[fitted], answers[fitted])
            scores[asked] = reader.predict_proba(texts[asked])[:, 1]
    return scores


def _figures(scores: Values, answers: Flags, groups: Groups) -> ReaderFigures:
    right = np.where(scores == 0.5, 0.5, (scores > 0.5) == answers)
    ranking = _Ranking(scores, answers)
    random, count = np.random.default_rng(SEED), int(groups.max()) + 1
    drawn = np.empty((RESAMPLES, 2))
    for resample in drawn:
        # how often each row counts in a resample of whole groups
        weights = np.bincount(random.integers(0, count, count), minlength=count)[groups].astype(float)
        resample[:] = np.average(right, weights=weights), ranking.auroc(weights)
    low, high = np.nanpercentile(drawn, [2.5, 97.5], axis=0)
    values = float(right.mean()), ranking.auroc(np.ones(len(answers)))
    accuracy, auroc = (
        Figure(value=value, low=float(low[column]), high=float(high[column]), n=len(answers))
        for column, value in enumerate(values)
    )
    return {"accuracy": accuracy, "auroc": auroc}


class _Ranking:
    """Scores sorted once, so that a thousand weighted AUROCs cost a thousand sums and no sorting."""

    def __init__(self, scores: Values, answers: Flags) -> None:
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
