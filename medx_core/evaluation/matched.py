"""Test items of which wording says nothing: as many TRUE as FALSE ones wherever readers of wording put them.

Readers that see only the surface of a statement (function words, length and punctuation; TF-IDF of words and of
characters) are fitted on the labelled statements outside the test set, and combined by a logistic regression over
scores that each reader gave to statements it had not seen. Without the characters, what the other two cannot express
stays behind however many statements they are fitted on: in the self-test's world, where a gain of 0 is the truth, steering
by wording then gains 1.6 points among matched statements, with them 0.3. The combined score cuts the test items into quantile bins; each bin keeps equal numbers
of TRUE and FALSE. With too few statements to fit on, the readers are weak and leave wording behind: then, or when a
single reader still tells the kept items apart, the part is not valid.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from medx_core.data.labelled_statements import LabelledStatement
from medx_core.data.wording_readers import WORDING_READERS
from medx_core.evaluation.arms import Flags, TestItems, Values
from medx_core.evaluation.bootstrap import aurocs

READERS = ("surface", "words", "characters")
FOLDS = 5
MOST_BINS = 50
ITEMS_A_BIN = 20
LEAST_FITTED_ON = 3_000
MOST_RESIDUAL_AUC = 0.55
LEAST_OF_EACH_KIND = 2 * FOLDS


@dataclass(frozen=True)
class WordingMatch:
    """The kept test items, and how much wording still says about them."""

    kept: Flags  # (test items,)
    fitted_on: int
    residual_auc: Mapping[str, float]
    reason: str

    @property
    def valid(self) -> bool:
        """Whether wording is ruled out on the kept items."""
        return not self.reason


@dataclass(frozen=True)
class WordingScores:
    """What readers of wording make of the test items: each one's scores (items,), and all of them combined."""

    by_reader: Mapping[str, Values]
    combined: Values

    def auroc_among(self, kept: Flags, gold: Flags) -> dict[str, float]:
        """Return how well each reader tells TRUE from FALSE among the kept items."""
        found = {name: aurocs(scores[None, kept], gold[kept]) for name, scores in self.by_reader.items()}
        return {name: float(value[0]) for name, value in found.items()}


def matched_by_wording(
    items: TestItems, wording: Sequence[LabelledStatement], *, seed: int
) -> WordingMatch | str:
    """Match the test items by readers fitted on `wording`, or say why that cannot be done."""
    random = np.random.default_rng(seed)
    reading = read_wording(items, wording, random)
    if isinstance(reading, str):
        return reading
    kept = balanced_in_bins(reading.combined, items.gold, random)
    if not kept.any():
        return "where wording puts them there are never both TRUE and FALSE test statements"
    residual = reading.auroc_among(kept, items.gold)
    return WordingMatch(kept, len(wording), residual, _reason(len(wording), residual))


def read_wording(
    items: TestItems, wording: Sequence[LabelledStatement], random: np.random.Generator
) -> WordingScores | str:
    """Fit the readers on `wording` and let them score the test items, or say what is missing."""
    answers = np.array([one.answer for one in wording], dtype=bool)
    if min(int(answers.sum()), int((~answers).sum())) < LEAST_OF_EACH_KIND:
        return (
            f"the file has {len(wording)} labelled statements outside the test set; to fit readers of wording, "
            f"{LEAST_OF_EACH_KIND} TRUE and {LEAST_OF_EACH_KIND} FALSE ones are needed at the very least"
        )
    readings = {name: _read(WORDING_READERS[name], wording, items, random) for name in READERS}
    known = np.stack([one[0] for one in readings.values()], axis=1)
    asked = np.stack([one[1] for one in readings.values()], axis=1)
    return WordingScores({name: one[1] for name, one in readings.items()}, _combined(known, answers, asked))


def balanced_in_bins(
    scores: Values, gold: Flags, random: np.random.Generator, *, most_bins: int = MOST_BINS
) -> Flags:
    """Return which items stay when each quantile bin of `scores` keeps as many TRUE as FALSE ones, drawn by chance."""
    bins = max(1, min(most_bins, len(gold) // ITEMS_A_BIN))
    place = np.empty(len(gold), dtype=np.intp)
    place[np.argsort(scores, kind="stable")] = np.arange(len(gold)) * bins // len(gold)
    kept = np.zeros(len(gold), dtype=bool)
    for one in range(bins):
        trues, falses = np.flatnonzero((place == one) & gold), np.flatnonzero((place == one) & ~gold)
        number = min(len(trues), len(falses))
        kept[random.permutation(trues)[:number]] = True
        kept[random.permutation(falses)[:number]] = True
    return kept


def group_folds(answers: Flags, groups: Sequence[str], random: np.random.Generator) -> NDArray[np.intp]:
    """Deal whole groups into folds, those with equal first answers evenly; returns the fold of each row."""
    _, first, number = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
    shuffled = random.permutation(len(first))
    dealt = shuffled[np.argsort(answers[first][shuffled], kind="stable")]
    fold = np.empty(len(first), dtype=np.intp)
    fold[dealt] = np.arange(len(first)) % FOLDS
    return np.asarray(fold[number])


def _read(
    build: Callable[[], Pipeline],
    wording: Sequence[LabelledStatement],
    items: TestItems,
    random: np.random.Generator,
) -> tuple[Values, Values]:
    """Return one reader's scores of the wording statements, each by a fit without its group, and of the test items.

    What comes before the classifier learns nothing from the answers, so it is fitted once, on all of `wording`.
    """
    answers = np.array([one.answer for one in wording], dtype=bool)
    fold = group_folds(answers, [one.group for one in wording], random)
    reader = build()
    cues, classifier = reader[:-1], reader[-1]
    known = cues.fit_transform([one.text for one in wording])
    unseen = np.zeros(len(wording))
    for one in range(FOLDS):
        fitted = fold != one
        if len(np.unique(answers[fitted])) == 2:
            unseen[~fitted] = classifier.fit(known[fitted], answers[fitted]).decision_function(known[~fitted])
    classifier.fit(known, answers)
    return unseen, classifier.decision_function(cues.transform([one.text for one in items.statements]))


def _combined(known: Values, answers: Flags, asked: Values) -> Values:
    scale = np.where(known.std(axis=0) > 0, known.std(axis=0), 1.0)
    combiner = LogisticRegression(max_iter=1_000).fit(known / scale, answers)
    return np.asarray(combiner.decision_function(asked / scale))


def _reason(fitted_on: int, residual: Mapping[str, float]) -> str:
    if fitted_on < LEAST_FITTED_ON:
        return (
            f"the readers of wording were fitted on {fitted_on:,} statements; below {LEAST_FITTED_ON:,} they are too weak "
            "to rule wording out"
        )
    leaking = [f"{name} {value:.3f}" for name, value in residual.items() if value > MOST_RESIDUAL_AUC]
    if not leaking:
        return ""
    return (
        f"wording still tells TRUE from FALSE among the matched statements (AUROC of {', '.join(leaking)}; "
        f"at most {MOST_RESIDUAL_AUC} is allowed)"
    )
