"""Contrast pairs and how their traces are read into one direction.

Every statement gives a contrast pair: its prompt followed by the correct and by the incorrect answer word. The
paper's vector is the mean hidden state over correct traces minus that over incorrect ones (MEDASSESS-X, arXiv
2601.12812, section 3).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from medx_core.errors import VectorRefused

ANSWER_WORD = "answer_word"


@dataclass(frozen=True)
class AnswerWordStates:
    """States at the appended answer word, one row a statement: (statements, hidden_size) each.

    `gold` is (statements,), True where the statement is true.
    """

    with_true_word: Tensor
    with_false_word: Tensor
    gold: Tensor

    @property
    def correct(self) -> Tensor:
        """States of the correct traces."""
        return torch.where(self.gold[:, None], self.with_true_word, self.with_false_word)

    @property
    def incorrect(self) -> Tensor:
        """States of the incorrect traces."""
        return torch.where(self.gold[:, None], self.with_false_word, self.with_true_word)

    def part(self, chosen: Tensor) -> "AnswerWordStates":
        """Return the statements that `chosen` (a mask or indices) names."""
        return AnswerWordStates(self.with_true_word[chosen], self.with_false_word[chosen], self.gold[chosen])


def mean_difference(states: AnswerWordStates) -> Tensor:
    """Read `answer_word`: correct minus incorrect, averaged within TRUE and within FALSE statements first.

    Averaging the classes first keeps the share of TRUE statements out of the direction; without it the vector is
    mostly (2t - 1) times the difference of the two answer words, t being that share.

    Raises:
        VectorRefused: statements of one class are missing.
    """
    if bool(states.gold.all()) or not bool(states.gold.any()):
        raise VectorRefused("A vector needs both TRUE and FALSE statements; the data holds one kind only.")
    difference = states.correct - states.incorrect
    return (difference[states.gold].mean(dim=0) + difference[~states.gold].mean(dim=0)) / 2
