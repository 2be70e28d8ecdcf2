"""The control of twins: pairs made from FALSE statements, both versions false.

Whoever prefers the version that stood in the file does so because its words belong together, or because nobody edited
it, not because it is true. What twins reach above this share is `excess`. These statements count in no other figure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medx_core.data.labelled_statements import LabelledStatement
from medx_core.evaluation.arms import ArmScores, Flags, TestItems, Values
from medx_core.evaluation.bootstrap import Counts, Estimate, ranked_right, resamples

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
