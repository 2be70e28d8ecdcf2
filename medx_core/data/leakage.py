"""How much the wording of statements gives away about their answers, to readers that know no medicine.

Three readers see nothing but the surface: TF-IDF of words, TF-IDF of characters, and counts of function words, length,
punctuation and digits. Each is fitted and asked in five folds that keep groups (quads, else pairs) together: with one
twin in the fitted part and the other outside, a reader would learn to say the opposite of what it has seen.
What they reach above one half, a language model could reach without knowing anything.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from medx_core.categories import Category
from medx_core.data.file_rows import FileRow
from medx_core.data.question_files import QuestionFile
from medx_core.errors import BadInput

FOLDS = 5
RESAMPLES = 1_000
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
_WORD = re.compile(r"[a-z']+")
_NUMBER = re.compile(r"\d+")
_PUNCTUATION = ".,;:!?()-/%\"'"

Values = NDArray[np.float64]
Readers = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class LabelledStatement:
    """One statement with its gold answer; statements of one `group` are never on both sides of a fold."""

    text: str
    answer: bool
    group: str
    category: Category | None


def labelled_statements(file: QuestionFile) -> tuple[LabelledStatement, ...]:
    """Return the rows of `file` that have an answer, grouped by its `quad` column, else by `pair`, else by wording.

    Raises:
        BadInput: the file was refused, or no row has an answer.
    """
    if file.refused:
        raise BadInput(file.problems[0].message)
    quad = next((name for name in file.columns if name.casefold() == "quad"), "")
    rows = tuple(
        LabelledStatement(row.text, row.answer, _group(row, quad), row.category)
        for row in file.rows
        if row.answer is not None
    )
    if not rows:
        raise BadInput(
            f"{file.name} has no row with an answer; an 'answer' column with TRUE or FALSE is needed."
        )
    return rows


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


def _group(row: FileRow, quad: str) -> str:
    """Rows of a group carry the same name; the first letter keeps quads, pairs and wordings apart."""
    if quad and row.carried.get(quad, "").strip():
        return "q" + row.carried[quad].strip()
    return "p" + row.pair if row.pair else "t" + " ".join(row.text.split()).casefold()


def _readers_on(statements: Sequence[LabelledStatement]) -> Readers:
    answers = np.array([statement.answer for statement in statements], dtype=bool)
    groups = np.unique([statement.group for statement in statements], return_inverse=True)[1]
    reason = _too_little(answers, groups)
    if reason:
        nothing = {"accuracy": None, "auroc": None, "reasons": {"accuracy": reason, "auroc": reason}}
        return {name: dict(nothing) for name in _READERS}
    texts = np.array([statement.text for statement in statements], dtype=object)
    return {
        name: _figures(_scores_outside(build, texts, answers, groups), answers, groups)
        for name, build in _READERS.items()
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


def _words() -> Pipeline:
    return make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), _linear_reader())


def _characters() -> Pipeline:
    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, max_features=100_000)
    return make_pipeline(vectors, _linear_reader())


def _surface() -> Pipeline:
    return make_pipeline(FunctionTransformer(_surface_cues), StandardScaler(), _linear_reader())


def _linear_reader() -> LogisticRegression:
    return LogisticRegression(max_iter=2_000, random_state=SEED)


def _surface_cues(texts: Sequence[str]) -> Values:
    """Return one row of counts a text: (texts, cues)."""
    return np.array([_cues_of(text) for text in texts], dtype=float)


def _cues_of(text: str) -> list[float]:
    words = _WORD.findall(text.lower())
    counts = Counter(words)
    length = [float(len(text)), float(len(words)), sum(map(len, words)) / max(len(words), 1)]
    numbers = _NUMBER.findall(text)
    capitals = sum(1 for character in text if character.isupper())
    return [
        *length,
        float(len(numbers)),
        float(sum(map(len, numbers))),
        float(capitals),
        *(float(text.count(mark)) for mark in _PUNCTUATION),
        *(float(counts[word]) for word in _FUNCTION_WORDS),
    ]


_READERS: dict[str, Callable[[], Pipeline]] = {
    "words": _words,
    "characters": _characters,
    "surface": _surface,
}
