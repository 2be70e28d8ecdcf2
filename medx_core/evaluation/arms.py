"""The values an evaluation passes around: the test items, and what each arm made of them.

Scores are logit(TRUE word) - logit(FALSE word) in float32, so that an arm answers TRUE where its score is 0 or more;
arms that move the threshold shift their scores. Nothing here knows where the scores came from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medx_core.accuracy import Flags, Values
from medx_core.data.labelled_statements import LabelledStatement

__all__ = ["ArmScores", "ControlDraws", "Flags", "TestItems", "Values"]


@dataclass(frozen=True)
class ArmScores:
    """One arm's answers to the test items, in their order.

    `scores` is (items,); `answer_words` (items,) says where the next token was an answer word at all, None for arms
    without a language model. `about` is told beside the figures.
    """

    name: str
    scores: Values
    answer_words: Flags | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    def among(self, kept: Flags) -> "ArmScores":
        """Return the arm on the items where `kept` (items,) is set."""
        words = self.answer_words
        return replace(self, scores=self.scores[kept], answer_words=None if words is None else words[kept])


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
    """The test statements with what is counted by: arrays of one value an item."""

    statements: Sequence[LabelledStatement]
    gold: Flags = field(init=False)
    groups: NDArray[np.intp] = field(init=False)

    __test__ = False  # the name starts with Test: tell pytest that this is none

    def __post_init__(self) -> None:
        object.__setattr__(self, "gold", np.array([one.answer for one in self.statements], dtype=bool))
        named = [one.group for one in self.statements]
        object.__setattr__(self, "groups", np.unique(named, return_inverse=True)[1])

    def __len__(self) -> int:
        return len(self.statements)

    def among(self, kept: Flags) -> "TestItems":
        """Return the items where `kept` (items,) is set."""
        return TestItems([statement for statement, stays in zip(self.statements, kept, strict=True) if stays])
