"""The part of the test set where wording gives nothing away, in order of trust: twins, else items matched by wording.

Twins are ranked: right is the pair whose true statement gets the higher score. Matched items are judged one by one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from medx_core.data.labelled_statements import LabelledStatement
from medx_core.evaluation.arms import Flags, TestItems, Values
from medx_core.evaluation.association import Pairs, as_pairs
from medx_core.evaluation.bootstrap import Estimate, Resamples, preferred, ranked_right
from medx_core.evaluation.intervals import Share, wilson
from medx_core.evaluation.matched import WordingMatch, matched_by_wording, read_wording
from medx_core.evaluation.ranking import twins_of

LEAST_PAIRS = 100
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
