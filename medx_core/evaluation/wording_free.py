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
from medx_core.evaluation.arms import ArmScores, Flags, TestItems, Values
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
from medx_core.evaluation.result import WordingFreePart
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


def balanced_in_bins(scores: Values, gold: Flags, random: np.random.Generator) -> Flags:
    """Return which items stay when each quantile bin of `scores` keeps as many TRUE as FALSE ones, drawn by chance."""
    bins = max(1, min(MOST_BINS, len(gold) // ITEMS_PER_BIN))
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
class WordingFree:
    """The wording-free part: `members` (items,) are in it, and `pairs` are its twins, None where it is not made of them.

    `about` is the part without any arm's figures; of kind None, it has no members.
    """

    about: WordingFreePart
    members: Flags
    pairs: Pairs | None = None

    def score(self, scores: Values, resamples: Resamples, among: Pairs | None = None) -> Estimate:
        """Return the figure arms are compared by: the share of twins ranked right, else balanced accuracy.

        Of twins, those `among` alone are ranked if given.
        """
        if self.pairs is None:
            return resamples.balanced((scores >= 0) == resamples.gold, self.members)
        pairs = self.pairs if among is None else among
        # both of a pair are of one group, so they are drawn together, as often as the first of them
        return ranked_right(scores[pairs], resamples.counts[pairs[:, 0]])

    def values(self, scores: Values, gold: Flags) -> Values:
        """Return that figure for each row of `scores` (draws, items)."""
        if self.pairs is not None:
            return np.asarray(preferred(scores[:, self.pairs]).mean(axis=1))
        kept = self.members  # equal numbers of TRUE and FALSE: plain and balanced accuracy are the same
        return np.asarray(((scores[:, kept] >= 0) == gold[kept]).mean(axis=1))


def wording_free_part(items: TestItems, reading: WordingReading) -> WordingFree:
    """Return the most trusted wording-free part that the items allow; of kind None, it says why there is none."""
    pairs = as_pairs(twins_of(items.statements))
    if len(pairs) >= LEAST_PAIRS:
        return _twins(items, pairs, reading)
    if reading.unread or not reading.matched.any():
        return no_part(reading.unread or Reason.NO_MATCH.value, len(items))
    residual_auc = reading.auroc_among(reading.matched, items.gold)
    return matched_part(reading.matched, reading.fitted_on, residual_auc)


def _twins(items: TestItems, pairs: Pairs, reading: WordingReading) -> WordingFree:
    """Return the pairs with what readers of wording make of them; symmetric swaps leave them at one half.

    They rule out wording as long as no reader of it ranks them: more than 55 % right, and more than chance would,
    leaves open what an arm ranks them by.
    """
    members = np.zeros(len(items), dtype=bool)
    members[pairs.ravel()] = True
    right = {name: preferred(scores[pairs]) for name, scores in reading.scores.items()}
    shares = {name: wilson(int(np.floor(hits.sum())), len(hits)) for name, hits in right.items()}
    read_right = {name: share for name, share in shares.items() if share is not None}
    leaking = [
        f"{name} {100 * share.value:.0f} %"
        for name, share in read_right.items()
        if share.value > MOST_READ_RIGHT and share.low > CHANCE
    ]
    about = WordingFreePart(
        kind="twins",
        n=len(pairs),
        valid=not leaking,
        reason=Reason.TWINS_READ_BY_WORDING.format(readers=", ".join(leaking)) if leaking else None,
        notice=Reason.TWINS_NOT_READ.format(why=reading.unread) if reading.unread else None,
        residual_auc=reading.auroc_among(members, items.gold),
        read_right=read_right,
    )
    return WordingFree(about, members, pairs)


def matched_part(kept: Flags, fitted_on: int, residual_auc: Mapping[str, float]) -> WordingFree:
    """Return the part made of the items `kept` (items,), which wording says nothing about."""
    leaking = [f"{name} {auc:.3f}" for name, auc in residual_auc.items() if auc > MOST_RESIDUAL_AUC]
    reason = None
    if fitted_on < LEAST_FITTED_ON:
        reason = Reason.WEAK_READERS.format(n=fitted_on, needed=LEAST_FITTED_ON)
    elif leaking:
        reason = Reason.WORDING_LEFT.format(readers=", ".join(leaking), most=MOST_RESIDUAL_AUC)
    about = WordingFreePart(
        kind="matched",
        n=int(kept.sum()),
        valid=reason is None,
        reason=reason,
        fitted_on=fitted_on,
        residual_auc=dict(residual_auc),
    )
    return WordingFree(about, kept)


def no_part(reason: str, items: int) -> WordingFree:
    """Return that there is no wording-free part of so many items, and why."""
    about = WordingFreePart(kind=None, n=0, valid=False, reason=reason, residual_auc={})
    return WordingFree(about, np.zeros(items, dtype=bool))


@dataclass(frozen=True)
class Association:
    """Shares of one arm: twins ranked right, originals of FALSE statements preferred, and the first minus the second.

    `alike` counts the twins whose kind of word was exchanged in the control too, and `same_kinds` is the excess of
    these alone; None where they are all twins, or none.
    """

    control: Estimate
    excess: Estimate
    alike: int
    same_kinds: Estimate | None

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
    """Swaps of FALSE statements: `scores` (pairs, 2) per arm are those of the original and of the swapped version.

    `kinds` are the kinds of word that they exchange; a pair whose kind is not named has the kind "".
    """

    scores: Mapping[str, Values]
    counts: Counts  # (pairs, resamples): how often each pair counts in each resample
    kinds: frozenset[str]


def association_control(
    items: TestItems, arms: Mapping[str, ArmScores], *, seed: int
) -> AssociationControl | None:
    """Find the pairs of the control and draw its resamples of whole groups; None where there are no pairs."""
    pairs = swapped_pairs(items.statements)
    if not len(pairs):
        return None
    originals = [items.statements[original] for original in pairs[:, 0]]
    groups = np.unique([original.group for original in originals], return_inverse=True)[1]
    counts = resamples(np.zeros(len(pairs), dtype=bool), groups, seed=seed).counts
    kinds = frozenset(original.kind for original in originals)
    return AssociationControl({name: arm.scores[pairs] for name, arm in arms.items()}, counts, kinds)


def swapped_pairs(statements: Sequence[LabelledStatement]) -> Pairs:
    """Return the complete pairs (original, swapped) of FALSE statements."""
    versions: dict[str, dict[bool, list[int]]] = {}
    for place, statement in enumerate(statements):
        if statement.pair and statement.source_answer is False and statement.original is not None:
            versions.setdefault(statement.pair, {True: [], False: []})[statement.original].append(place)
    return as_pairs(
        [(of[True][0], of[False][0]) for of in versions.values() if len(of[True]) == len(of[False]) == 1]
    )


def association(
    part: WordingFree, control: AssociationControl, items: TestItems, arm: ArmScores, weights: Resamples
) -> Association | None:
    """Return by how much the arm's share of twins ranked right lies above that of originals preferred in the control.

    Twins and control are resampled independently. None where the part is not made of twins.
    """
    if part.pairs is None:
        return None
    preferred_originals = ranked_right(control.scores[arm.name], control.counts)

    def above(twins: Estimate) -> Estimate:
        return replace(twins.minus(preferred_originals), n=twins.n + preferred_originals.n)

    kinds = [items.statements[true].kind for true in part.pairs[:, 0]]
    alike = part.pairs[np.array([kind in control.kinds for kind in kinds], dtype=bool)]
    some = 0 < len(alike) < len(part.pairs)
    return Association(
        preferred_originals,
        above(part.score(arm.scores, weights)),
        len(alike),
        above(part.score(arm.scores, weights, alike)) if some else None,
    )


def as_pairs(pairs: Sequence[tuple[int, int]]) -> Pairs:
    """Return pairs of indices as an array (pairs, 2), also when there are none."""
    return np.array(pairs, dtype=np.intp).reshape(-1, 2)
