"""The values an evaluation passes around: the test items, and what each arm made of them.

Scores are logit(TRUE word) - logit(FALSE word) in float32, so that an arm answers TRUE where its score is 0 or more;
arms that move the threshold shift their scores. Nothing here knows where the scores came from.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from medx_core.accuracy import Flags, Values
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.evaluation.result import FineTuning

__all__ = ["ArmScores", "ControlDraws", "Flags", "TestItems", "Values"]


@dataclass(frozen=True)
class ArmScores:
    """One arm's answers to the test items, in their order.

    `scores` is (items,); `answer_words` (items,) says where the next token was an answer word at all, None where that
    was not recorded. `probabilities` (items,) are the mapped scores and `trusted` (items,) says where the arm's rule
    trusts its answer, both None without a map. `doses` (items,) is how far steering moved each item's states, not a number
    where nothing did. `fine_tuning` is what training took, in an arm that trains.
    """

    name: str
    scores: Values
    answer_words: Flags | None = None
    fine_tuning: FineTuning | None = None
    probabilities: Values | None = None
    trusted: Flags | None = None
    doses: Values | None = None

    def among(self, kept: Flags) -> "ArmScores":
        """Return the arm on the items where `kept` (items,) is set."""
        per_item = {
            name: getattr(self, name) for name in ("answer_words", "probabilities", "trusted", "doses")
        }
        parts = {name: values[kept] for name, values in per_item.items() if values is not None}
        return replace(self, scores=self.scores[kept], **parts)


@dataclass(frozen=True)
class ControlDraws:
    """Repeated draws of one control, for example twenty random directions: `scores` is (draws, items).

    `of` names the arm that it is the control of: same strategy, layer, strength, token and number of examples.
    """

    name: str
    of: str
    scores: Values
    answer_words: Flags | None = None


@dataclass(frozen=True)
class TestItems:
    """The test statements, with one value per item of each array.

    `groups` numbers the groups; `counted` is False for swaps of FALSE statements, which are there for the association
    control of twins alone and count in no other figure.
    """

    statements: Sequence[LabelledStatement]
    gold: Flags = field(init=False)
    groups: NDArray[np.intp] = field(init=False)
    counted: Flags = field(init=False)

    __test__ = False  # the name starts with Test: tell pytest that this is not one

    def __post_init__(self) -> None:
        gold = [statement.answer for statement in self.statements]
        object.__setattr__(self, "gold", np.array(gold, dtype=bool))
        names = [statement.group for statement in self.statements]
        object.__setattr__(self, "groups", np.unique(names, return_inverse=True)[1])
        counted = [statement.source_answer is not False for statement in self.statements]
        object.__setattr__(self, "counted", np.array(counted, dtype=bool))

    def __len__(self) -> int:
        return len(self.statements)

    def right(self, scores: Values) -> Flags:
        """Return where the verdict (TRUE at a score of 0 or more) is the gold answer: (items,), or (draws, items)."""
        return np.asarray((scores >= 0) == self.gold)

    def among(self, kept: Flags) -> "TestItems":
        """Return the items where `kept` (items,) is set."""
        return TestItems([statement for statement, stays in zip(self.statements, kept, strict=True) if stays])
