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
_NO_KINDS = "the file does not say which kind of word was exchanged, or all kinds stand in the control"


@dataclass(frozen=True)
class Association:
    """Shares of one arm: twins ranked right, originals of FALSE statements preferred, and the first minus the second.

    `same_kinds` is the excess of those twins alone whose kinds of word stand in the control too: like against like.
    None where that cannot be told, or is the same.
    """

    twins: Estimate
    control: Estimate
    excess: Estimate
    same_kinds: Estimate | None = None


@dataclass(frozen=True)
class AssociationControl:
    """Pairs of items (the original, the swapped one) with how often each pair counts in each resample."""

    pairs: Pairs
    counts: Counts  # (pairs, resamples)
    kinds: frozenset[str] = frozenset()

    def beside(
        self, twins: Estimate, scores: Values, same_kinds: Estimate | None = None
    ) -> Association | None:
        """Return the share of pairs whose original scores higher, and by how much `twins` lies above it.

        `scores` (items,) are those of all items, the control's own included; `same_kinds` is the share of twins of the
        control's kinds. The two sets are resampled independently. None where there are no pairs.
        """
        if not len(self.pairs):
            return None
        control = ranked_right(scores[self.pairs], self.counts)
        return Association(twins, control, _above(twins, control), same_kinds and _above(same_kinds, control))

    def of_its_kinds(self, statements: Sequence[LabelledStatement], pairs: Pairs) -> Pairs | None:
        """Return those of `pairs` (twins, 2) whose kind of word was exchanged in the control too.

        None where kinds are not known, or where that is none or all of them.
        """
        alike = np.array([statements[true].kind in self.kinds for true, _ in pairs], dtype=bool)
        return pairs[alike] if "" not in self.kinds and alike.any() and not alike.all() else None


def as_json(association: Association | None) -> dict[str, Any]:
    """Return `association`, `excess` and `excess_same_kinds` of the JSON."""
    if association is None:
        reasons = dict.fromkeys(("association", "excess", "excess_same_kinds"), NO_CONTROL)
        return {"association": None, "excess": None, "excess_same_kinds": None, "reasons": reasons}
    found: dict[str, Any] = {
        "association": association.control.as_json(),
        "excess": association.excess.as_json(),
        "excess_same_kinds": association.same_kinds and association.same_kinds.as_json(),
    }
    return found if association.same_kinds else found | {"reasons": {"excess_same_kinds": _NO_KINDS}}


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
