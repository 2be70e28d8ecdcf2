"""The part of the test set where wording gives nothing away, in order of trust: twins, else items matched by wording.

Twins are ranked: right is the pair whose true statement gets the higher score. Matched items are judged one by one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from medx_core.data.labelled_statements import LabelledStatement, twins_of
from medx_core.data.leakage import WORDING_READERS
from medx_core.evaluation.arms import Flags, TestItems, Values
from medx_core.evaluation.bootstrap import (
    Counts,
    Estimate,
    Resamples,
    aurocs,
    preferred,
    ranked_right,
    resamples,
    wilson,
)
from medx_core.evaluation.result import Metric, WordingFreePart
from medx_core.evaluation.verdicts import Reason

READERS = ("surface", "words", "characters")
FOLDS = 5
MOST_BINS = 50
ITEMS_PER_BIN = 20
LEAST_FITTED_ON = 3_000
MOST_RESIDUAL_AUC = 0.55
LEAST_OF_EACH_KIND = 2 * FOLDS
LEAST_PAIRS = 100
"""With fewer twins, or fewer pairs of the control, nothing can be said."""
CHANCE = 0.5
MOST_READ_RIGHT = 0.55

Pairs = NDArray[np.intp]  # (pairs, 2): the one that should score higher, the other


@dataclass(frozen=True)
class WordingReading:
    """What readers of wording, fitted outside the test set, make of the test items.

    `scores` are those of each reader (items,); `matched` (items,) are the items kept when quantile bins of all readers
    together hold as many TRUE as FALSE ones. `unread` says why no reader could be fitted.
    """

    fitted_on: int
    scores: Mapping[str, Values] = field(default_factory=dict)
    matched: Flags = field(default_factory=lambda: np.zeros(0, dtype=bool))
    unread: str = ""

    def auroc_among(self, kept: Flags, gold: Flags) -> dict[str, float]:
        """Return how well each reader tells TRUE from FALSE among the kept items."""
        return {
            name: float(aurocs(scores[None, kept], gold[kept])[0]) for name, scores in self.scores.items()
        }


def read_wording(items: TestItems, wording: Sequence[LabelledStatement], *, seed: int) -> WordingReading:
    """Fit the readers on `wording`, let them score the test items, and match these by the scores."""
    random = np.random.default_rng(seed)
    answers = np.array([statement.answer for statement in wording], dtype=bool)
    if min(int(answers.sum()), int((~answers).sum())) < LEAST_OF_EACH_KIND:
        unread = Reason.TOO_LITTLE_TO_READ_WORDING.format(n=len(wording), needed=LEAST_OF_EACH_KIND)
        return WordingReading(len(wording), unread=unread)
    readings = {name: _read(WORDING_READERS[name], wording, items, random) for name in READERS}
    known = np.stack([unseen for unseen, _ in readings.values()], axis=1)
    tested = np.stack([scores for _, scores in readings.values()], axis=1)
    matched = balanced_in_bins(_combined(known, answers, tested), items.gold, random)
    return WordingReading(len(wording), {name: scores for name, (_, scores) in readings.items()}, matched)


def balanced_in_bins(
    scores: Values, gold: Flags, random: np.random.Generator, *, most_bins: int = MOST_BINS
) -> Flags:
    """Return which items stay when each quantile bin of `scores` keeps as many TRUE as FALSE ones, drawn by chance."""
    bins = max(1, min(most_bins, len(gold) // ITEMS_PER_BIN))
    place = np.empty(len(gold), dtype=np.intp)
    place[np.argsort(scores, kind="stable")] = np.arange(len(gold)) * bins // len(gold)
    kept = np.zeros(len(gold), dtype=bool)
    for number in range(bins):
        trues, falses = np.flatnonzero((place == number) & gold), np.flatnonzero((place == number) & ~gold)
        fewer = min(len(trues), len(falses))
        kept[random.permutation(trues)[:fewer]] = True
        kept[random.permutation(falses)[:fewer]] = True
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
    answers = np.array([statement.answer for statement in wording], dtype=bool)
    fold = group_folds(answers, [statement.group for statement in wording], random)
    reader = build()
    cues, classifier = reader[:-1], reader[-1]
    known = cues.fit_transform([statement.text for statement in wording])
    unseen = np.zeros(len(wording))
    for number in range(FOLDS):
        fitted = fold != number
        if len(np.unique(answers[fitted])) == 2:
            unseen[~fitted] = classifier.fit(known[fitted], answers[fitted]).decision_function(known[~fitted])
    classifier.fit(known, answers)
    return unseen, classifier.decision_function(
        cues.transform([statement.text for statement in items.statements])
    )


def _combined(known: Values, answers: Flags, tested: Values) -> Values:
    scale = np.where(known.std(axis=0) > 0, known.std(axis=0), 1.0)
    combiner = LogisticRegression(max_iter=1_000).fit(known / scale, answers)
    return np.asarray(combiner.decision_function(tested / scale))


@dataclass(frozen=True)
class Twins:
    """Complete twins of the test set, and what readers of wording find among them.

    They rule out wording as long as no reader of it ranks them: more than 55 % right, and more than chance would,
    leaves open what an arm ranks them by. `unread` says why no reader could be fitted.
    """

    pairs: Pairs
    residual_auc: Mapping[str, float] = field(default_factory=dict)
    read_right: Mapping[str, Metric] = field(default_factory=dict)
    unread: str = ""

    @property
    def reason(self) -> str:
        """Why wording is not ruled out on the pairs; empty where it is."""
        leaking = [
            f"{name} {100 * share.value:.0f} %"
            for name, share in self.read_right.items()
            if share.value > MOST_READ_RIGHT and share.low > CHANCE
        ]
        return Reason.TWINS_READ_BY_WORDING.format(readers=", ".join(leaking)) if leaking else ""

    @property
    def valid(self) -> bool:
        """Whether wording is ruled out on the pairs."""
        return not self.reason

    def score(self, scores: Values, resamples: Resamples, among: Pairs | None = None) -> Estimate:
        """Return the share of twins ranked right, the figure arms are compared by; of the pairs `among` if given."""
        pairs = self.pairs if among is None else among
        # both of a pair are of one group, so they are drawn together, as often as the first of them
        return ranked_right(scores[pairs], resamples.counts[pairs[:, 0]])

    def values(self, scores: Values, gold: Flags) -> Values:
        """Return that share for each row of `scores` (draws, items)."""
        del gold  # twins are ranked, not judged
        return np.asarray(preferred(scores[:, self.pairs]).mean(axis=1))

    def members(self, items: int) -> Flags:
        """Return which of so many items are in a pair."""
        kept = np.zeros(items, dtype=bool)
        kept[self.pairs.ravel()] = True
        return kept

    def about(self) -> WordingFreePart:
        """Return the part without any arm's figures."""
        return WordingFreePart(
            kind="twins",
            n=len(self.pairs),
            valid=self.valid,
            reason=self.reason or None,
            notice=Reason.TWINS_NOT_READ.format(why=self.unread) if self.unread else None,
            residual_auc=dict(self.residual_auc),
            read_right=dict(self.read_right),
        )


@dataclass(frozen=True)
class Matched:
    """Test items kept because wording says nothing about them: `kept` is (items,)."""

    kept: Flags
    fitted_on: int
    residual_auc: Mapping[str, float]

    @property
    def reason(self) -> str:
        """Why wording is not ruled out on the kept items; empty where it is."""
        if self.fitted_on < LEAST_FITTED_ON:
            return Reason.WEAK_READERS.format(n=self.fitted_on, needed=LEAST_FITTED_ON)
        leaking = [f"{name} {auc:.3f}" for name, auc in self.residual_auc.items() if auc > MOST_RESIDUAL_AUC]
        if not leaking:
            return ""
        return Reason.WORDING_LEFT.format(readers=", ".join(leaking), most=MOST_RESIDUAL_AUC)

    @property
    def valid(self) -> bool:
        """Whether wording is ruled out on the kept items."""
        return not self.reason

    def score(self, scores: Values, resamples: Resamples) -> Estimate:
        """Return the balanced accuracy on the kept items, the figure arms are compared by."""
        return resamples.balanced((scores >= 0) == resamples.gold, self.kept)

    def values(self, scores: Values, gold: Flags) -> Values:
        """Return that figure for each row of `scores` (draws, items)."""
        kept = self.kept  # equal numbers of TRUE and FALSE: plain and balanced accuracy are the same
        return np.asarray(((scores[:, kept] >= 0) == gold[kept]).mean(axis=1))

    def members(self, items: int) -> Flags:
        """Return which items are kept."""
        del items
        return self.kept

    def about(self) -> WordingFreePart:
        """Return the part without any arm's figures."""
        return WordingFreePart(
            kind="matched",
            n=int(self.kept.sum()),
            valid=self.valid,
            reason=self.reason or None,
            fitted_on=self.fitted_on,
            residual_auc=dict(self.residual_auc),
        )


WordingFree = Twins | Matched


def wording_free_part(items: TestItems, reading: WordingReading) -> WordingFree | str:
    """Return the most trusted wording-free part that the items allow, or say why there is none."""
    pairs = as_pairs(twins_of(items.statements))
    if len(pairs) >= LEAST_PAIRS:
        return _twins(items, pairs, reading)
    if reading.unread:
        return reading.unread
    if not reading.matched.any():
        return Reason.NO_MATCH.value
    return Matched(reading.matched, reading.fitted_on, reading.auroc_among(reading.matched, items.gold))


def _twins(items: TestItems, pairs: Pairs, reading: WordingReading) -> Twins:
    """Return the pairs with what readers of wording make of them; symmetric swaps leave them at one half."""
    if reading.unread:
        return Twins(pairs, unread=reading.unread)
    members = np.zeros(len(items), dtype=bool)
    members[pairs.ravel()] = True
    right = {name: preferred(scores[pairs]) for name, scores in reading.scores.items()}
    shares = {name: wilson(int(np.floor(hits.sum())), len(hits)) for name, hits in right.items()}
    return Twins(
        pairs,
        reading.auroc_among(members, items.gold),
        {name: share for name, share in shares.items() if share is not None},
    )


@dataclass(frozen=True)
class Association:
    """Shares of one arm: twins ranked right, originals of FALSE statements preferred, and the first minus the second.

    `alike` counts the twins whose kind of word was exchanged in the control too, and `same_kinds` is the excess of
    these alone; None where they are all twins, or none.
    """

    control: Estimate
    excess: Estimate
    alike: int
    same_kinds: Estimate | None = None

    @property
    def judged(self) -> Estimate:
        """The excess that counts: like against like."""
        return self.same_kinds or self.excess

    @property
    def plausibility_left(self) -> str:
        """Why plausibility cannot be told from truth by it; empty where it can."""
        if self.control.n < LEAST_PAIRS:
            return Reason.TOO_SMALL_ASSOCIATION_CONTROL.format(n=self.control.n, needed=LEAST_PAIRS)
        if self.alike < LEAST_PAIRS:
            return Reason.TOO_FEW_OF_SAME_KINDS.format(n=self.alike, needed=LEAST_PAIRS)
        return ""


@dataclass(frozen=True)
class AssociationControl:
    """Pairs of items (the original, the swapped one) with how often each pair counts in each resample.

    `kinds` are the kinds of word that they exchange; a pair whose kind is not named has the kind "".
    """

    pairs: Pairs
    counts: Counts  # (pairs, resamples)
    kinds: frozenset[str] = frozenset()

    def of(
        self, scores: Values, twins: Estimate, alike: int, of_these: Estimate | None
    ) -> Association | None:
        """Return the share of pairs whose original scores higher, and by how much `twins` lies above it.

        `scores` (items,) are those of all items, the control's own included; `alike` counts the twins of the
        control's kinds, and `of_these` is the share of them ranked right, None where they are all or none. Twins and
        control are resampled independently. None where there are no pairs.
        """
        if not len(self.pairs):
            return None
        control = ranked_right(scores[self.pairs], self.counts)
        same_kinds = None if of_these is None else _above(of_these, control)
        return Association(control, _above(twins, control), alike, same_kinds)

    def of_its_kinds(self, statements: Sequence[LabelledStatement], pairs: Pairs) -> Pairs:
        """Return those of `pairs` (twins, 2) whose kind of word was exchanged in the control too."""
        alike = np.array([statements[true].kind in self.kinds for true, _ in pairs], dtype=bool)
        return np.asarray(pairs[alike], dtype=np.intp)


def association_control(statements: Sequence[LabelledStatement], *, seed: int) -> AssociationControl:
    """Find the complete pairs of the control, which may be none, and draw its resamples of whole groups."""
    pairs = _association_pairs(statements)
    groups = np.unique([statements[original].group for original, _ in pairs], return_inverse=True)[1]
    counts = resamples(np.zeros(len(pairs), dtype=bool), groups, seed=seed).counts
    return AssociationControl(pairs, counts, frozenset(statements[original].kind for original, _ in pairs))


def _above(twins: Estimate, control: Estimate) -> Estimate:
    return replace(twins.minus(control), n=twins.n + control.n)


def as_pairs(pairs: Sequence[tuple[int, int]]) -> Pairs:
    """Return pairs of indices as an array (pairs, 2), also when there are none."""
    return np.array(pairs, dtype=np.intp).reshape(-1, 2)


def _association_pairs(statements: Sequence[LabelledStatement]) -> Pairs:
    members: dict[str, dict[bool, list[int]]] = {}
    for index, statement in enumerate(statements):
        if statement.pair and statement.source_answer is False and statement.original is not None:
            versions = members.setdefault(statement.pair, {True: [], False: []})
            versions[statement.original].append(index)
    complete = [pair for pair in members.values() if len(pair[True]) == len(pair[False]) == 1]
    return as_pairs([(pair[True][0], pair[False][0]) for pair in complete])
