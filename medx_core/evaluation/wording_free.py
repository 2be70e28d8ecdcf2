"""The part of the test set where wording gives nothing away, in order of trust: twins, else items matched by wording.

Twins are ranked: right is the pair whose true statement gets the higher score. Matched items are judged one by one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

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
    Share,
    aurocs,
    preferred,
    ranked_right,
    resamples,
    wilson,
)

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


Pairs = NDArray[np.intp]  # (pairs, 2): the one that should score higher, the other

LEAST_PAIRS = 100
"""With fewer pairs of the control nobody can say what plausibility alone does."""
NO_CONTROL = "the file has no swaps of FALSE statements"
NO_TWINS = {
    "association": None,
    "excess": None,
    "excess_same_kinds": None,
    "reasons": dict.fromkeys(
        ("association", "excess", "excess_same_kinds"), "the wording-free part is not made of twins"
    ),
}
_ALL_KINDS = "the kinds of word that the twins exchange all stand in the control too, or none is named"


@dataclass(frozen=True)
class Association:
    """Shares of one arm: twins ranked right, originals of FALSE statements preferred, and the first minus the second.

    `alike` counts the twins whose kind of word was exchanged in the control too, and `same_kinds` is the excess of
    these alone; None where they are all twins, or none.
    """

    twins: Estimate
    control: Estimate
    excess: Estimate
    alike: int
    same_kinds: Estimate | None = None

    @property
    def judged(self) -> Estimate:
        """The excess that counts: like against like."""
        return self.same_kinds or self.excess

    @property
    def untold(self) -> str:
        """Why plausibility cannot be told from truth by it; empty where it can."""
        if self.control.n < LEAST_PAIRS:
            return (
                f"the file has too few swaps of FALSE statements ({self.control.n}; {LEAST_PAIRS} are needed)"
            )
        if self.alike < LEAST_PAIRS:
            return (
                f"too few twins exchange a kind of word that swaps of FALSE statements exchange too ({self.alike}; "
                f"{LEAST_PAIRS} are needed)"
            )
        return ""


@dataclass(frozen=True)
class AssociationControl:
    """Pairs of items (the original, the swapped one) with how often each pair counts in each resample.

    `kinds` are the kinds of word that they exchange; a pair whose kind is not named has the kind "".
    """

    pairs: Pairs
    counts: Counts  # (pairs, resamples)
    kinds: frozenset[str] = frozenset()

    def beside(
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
        return Association(twins, control, _above(twins, control), alike, same_kinds)

    def of_its_kinds(self, statements: Sequence[LabelledStatement], pairs: Pairs) -> Pairs:
        """Return those of `pairs` (twins, 2) whose kind of word was exchanged in the control too."""
        alike = np.array([statements[true].kind in self.kinds for true, _ in pairs], dtype=bool)
        return np.asarray(pairs[alike], dtype=np.intp)


def as_json(association: Association | None) -> dict[str, Any]:
    """Return `association`, `excess`, `excess_same_kinds` and `excess_valid` of the JSON."""
    if association is None:
        nothing = dict.fromkeys(("association", "excess", "excess_same_kinds"))
        return {
            **nothing,
            "excess_valid": False,
            "reasons": dict.fromkeys((*nothing, "excess_valid"), NO_CONTROL),
        }
    same, untold = association.same_kinds, association.untold
    reasons = {"excess_same_kinds": "" if same else _ALL_KINDS, "excess_valid": untold}
    return {
        "association": association.control.as_json(),
        "excess": association.excess.as_json(),
        "excess_same_kinds": same and same.as_json(),
        "excess_valid": not untold,
        "reasons": {name: why for name, why in reasons.items() if why},
    }


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


def counted(statements: Sequence[LabelledStatement]) -> Flags:
    """Return which statements are test items proper, and not there for the control only."""
    return np.array([one.source_answer is not False for one in statements], dtype=bool)


def items_among(items: TestItems, kept: Flags) -> TestItems:
    """Return the kept items."""
    return TestItems([one for one, stays in zip(items.statements, kept, strict=True) if stays])


def arm_among(arm: ArmScores, kept: Flags) -> ArmScores:
    """Return an arm on the kept items alone."""
    words = arm.answer_words
    return replace(arm, scores=arm.scores[kept], answer_words=None if words is None else words[kept])


def _association_pairs(statements: Sequence[LabelledStatement]) -> Pairs:
    members: dict[str, dict[bool, list[int]]] = {}
    for index, one in enumerate(statements):
        if one.pair and one.source_answer is False and one.original is not None:
            members.setdefault(one.pair, {True: [], False: []})[one.original].append(index)
    complete = [pair for pair in members.values() if len(pair[True]) == len(pair[False]) == 1]
    return as_pairs([(pair[True][0], pair[False][0]) for pair in complete])


CHANCE = 0.5
MOST_READ_RIGHT = 0.55


@dataclass(frozen=True)
class Twins:
    """Complete twins of the test set, and what readers of wording find among them.

    They rule out wording as long as no reader of it ranks them: more than 55 % right, and more than chance would,
    leaves open what an arm ranks them by. `unread` says why no reader could be asked.
    """

    pairs: Pairs
    residual_auc: Mapping[str, float] = field(default_factory=dict)
    read_right: Mapping[str, Share] = field(default_factory=dict)
    unread: str = ""

    kind = "twins"

    @property
    def n(self) -> int:
        """The number of pairs."""
        return len(self.pairs)

    @property
    def valid(self) -> bool:
        """Whether wording is ruled out on the pairs."""
        return not self.reason

    @property
    def reason(self) -> str:
        """Why it is not."""
        leaking = {
            name: share.value
            for name, share in self.read_right.items()
            if share.value > MOST_READ_RIGHT and share.low > CHANCE
        }
        if not leaking:
            return ""
        said = ", ".join(f"{name} {100 * value:.0f} %" for name, value in leaking.items())
        return f"readers of wording alone rank these twins right ({said}); they are not symmetric swaps"

    def score(self, scores: Values, resamples: Resamples, among: Pairs | None = None) -> Estimate:
        """Return the share of twins ranked right, the figure arms are compared by; of the pairs `among` them if given."""
        pairs = self.pairs if among is None else among
        # the two of a pair are of one group, so they are drawn together, as often as the first of them
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

    def about(self) -> dict[str, Any]:
        """Return what an arm's part and the evaluation's have in common."""
        found: dict[str, Any] = {
            "kind": self.kind,
            "n": self.n,
            "valid": self.valid,
            "residual_auc": dict(self.residual_auc),
            "read_right": {name: asdict(share) for name, share in self.read_right.items()},
        }
        if self.reason:
            found["reason"] = self.reason
        if self.unread:
            found["notice"] = f"whether wording tells these twins apart was not checked: {self.unread}"
        return found


@dataclass(frozen=True)
class Matched:
    """Test items kept because wording says nothing about them."""

    match: WordingMatch

    kind = "matched"

    @property
    def n(self) -> int:
        """The number of kept items."""
        return int(self.match.kept.sum())

    @property
    def valid(self) -> bool:
        """Whether wording is ruled out on the kept items."""
        return self.match.valid

    @property
    def reason(self) -> str:
        """Why it is not."""
        return self.match.reason

    def score(self, scores: Values, resamples: Resamples) -> Estimate:
        """Return the balanced accuracy on the kept items, the figure arms are compared by."""
        return resamples.balanced((scores >= 0) == resamples.gold, self.match.kept)

    def values(self, scores: Values, gold: Flags) -> Values:
        """Return that figure for each row of `scores` (draws, items)."""
        kept = self.match.kept  # equal numbers of TRUE and FALSE: plain and balanced accuracy are the same
        return np.asarray(((scores[:, kept] >= 0) == gold[kept]).mean(axis=1))

    def members(self, items: int) -> Flags:
        """Return which items are kept."""
        del items
        return self.match.kept

    def about(self) -> dict[str, Any]:
        """Return what an arm's part and the evaluation's have in common."""
        shared = {"kind": self.kind, "n": self.n, "valid": self.valid, "fitted_on": self.match.fitted_on}
        said = {} if self.valid else {"reason": self.reason}
        return {**shared, "residual_auc": dict(self.match.residual_auc), **said}


WordingFree = Twins | Matched


def wording_free_part(
    items: TestItems, wording: Sequence[LabelledStatement], *, seed: int
) -> WordingFree | str:
    """Return the most trusted wording-free part that the items allow, or say why there is none."""
    pairs = as_pairs(twins_of(items.statements))
    if len(pairs) >= LEAST_PAIRS:
        return _twins(items, pairs, wording, seed)
    match = matched_by_wording(items, wording, seed=seed)
    return match if isinstance(match, str) else Matched(match)


def _twins(items: TestItems, pairs: Pairs, wording: Sequence[LabelledStatement], seed: int) -> Twins:
    """Return the pairs with what readers of wording make of them; symmetric swaps leave them at one half."""
    reading = read_wording(items, wording, np.random.default_rng(seed))
    if isinstance(reading, str):
        return Twins(pairs, unread=reading)
    members = np.zeros(len(items), dtype=bool)
    members[pairs.ravel()] = True
    shares = {name: _share(preferred(scores[pairs])) for name, scores in reading.by_reader.items()}
    return Twins(pairs, reading.auroc_among(members, items.gold), shares)


def _share(right: Values) -> Share:
    found = wilson(int(np.floor(right.sum())), len(right))
    assert found is not None  # noqa: S101 - for the type checker: there are pairs
    return found
