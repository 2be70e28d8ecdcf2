"""Readers that know no medicine: they see the wording of a statement and nothing else.

Three of them: TF-IDF of words, TF-IDF of characters, and counts of function words, length, punctuation and digits,
each below a linear classifier. Fits are repeated by the hundred, so what is counted in a text is remembered.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

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
