"""Contrast pairs and how their traces are read into one direction.

Every statement gives a contrast pair: its prompt followed by the correct and by the incorrect answer word. The
paper's vector is the mean hidden state over correct traces minus that over incorrect ones (MEDASSESS-X, arXiv
2601.12812, section 3). Which states stand for "correct" and "incorrect" is the reading; the readings differ, even in
sign, so a vector always names its own.
"""

from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch
from torch import Tensor

from medx_core.errors import VectorRefused

ANSWER_WORD = "answer_word"
STATEMENT = "statement"
MODEL_RIGHT = "model_right"
FULL_TRACE = "full_trace"
READINGS = (ANSWER_WORD, STATEMENT, MODEL_RIGHT, FULL_TRACE)


@dataclass(frozen=True)
class ContrastStates:
    """The states a reading calls correct and incorrect: (rows, hidden_size) each, not always as many of both.

    `paired` says that row i of both sides belongs to one statement. `gold` (rows,), where the rows are statements,
    is True for the true ones; such readings average TRUE and FALSE statements apart, so that the share of TRUE
    statements stays out of the direction.
    """

    correct: Tensor
    incorrect: Tensor
    reading: str
    paired: bool = False
    gold: Tensor | None = None

    def __post_init__(self) -> None:
        if not len(self.correct) or not len(self.incorrect):
            raise VectorRefused(
                f"The reading {self.reading} found no correct or no incorrect traces; a vector needs both."
            )
        if self.paired and len(self.correct) != len(self.incorrect):
            raise VectorRefused(
                f"The reading {self.reading} found {len(self.correct)} correct and {len(self.incorrect)} incorrect traces, which are no pairs."
            )


class Traces(Protocol):
    """States of labelled statements, from which a contrast can be made again for other rows or other labels."""

    @property
    def gold(self) -> Tensor:
        """The labels (statements,), True for one side of the contrast."""
        ...

    @property
    def contrast(self) -> ContrastStates:
        """The correct and the incorrect states under these labels."""
        ...

    def part(self, chosen: Tensor) -> Self:
        """Return the statements that `chosen` (a mask or indices) names."""
        ...

    def relabelled(self, gold: Tensor) -> Self:
        """Return the same states under other labels."""
        ...


@dataclass(frozen=True)
class AnswerWordStates:
    """States at the appended answer word, one row a statement: (statements, hidden_size) each.

    `gold` is (statements,), True where the statement is true. Readings of longer answers that come in the same two
    versions are held in the same way, under their own name.
    """

    with_true_word: Tensor
    with_false_word: Tensor
    gold: Tensor
    reading: str = ANSWER_WORD

    @property
    def correct(self) -> Tensor:
        """States of the correct traces."""
        return torch.where(self.gold[:, None], self.with_true_word, self.with_false_word)

    @property
    def incorrect(self) -> Tensor:
        """States of the incorrect traces."""
        return torch.where(self.gold[:, None], self.with_false_word, self.with_true_word)

    @property
    def contrast(self) -> ContrastStates:
        """The same as pairs of correct and incorrect traces."""
        return ContrastStates(self.correct, self.incorrect, self.reading, paired=True, gold=self.gold)

    def part(self, chosen: Tensor) -> "AnswerWordStates":
        """Return the statements that `chosen` (a mask or indices) names."""
        return AnswerWordStates(
            self.with_true_word[chosen], self.with_false_word[chosen], self.gold[chosen], self.reading
        )

    def relabelled(self, gold: Tensor) -> "AnswerWordStates":
        """Return the same states under other labels."""
        return replace(self, gold=gold)


@dataclass(frozen=True)
class PromptStates:
    """States of the last prompt token, (statements, hidden_size), and the label that divides them in two.

    For the reading `statement` the label is the gold answer, for `model_right` whether the model judges right.
    """

    states: Tensor
    gold: Tensor
    reading: str = STATEMENT

    @property
    def contrast(self) -> ContrastStates:
        """The states under either label."""
        return ContrastStates(self.states[self.gold], self.states[~self.gold], self.reading)

    def part(self, chosen: Tensor) -> "PromptStates":
        """Return the statements that `chosen` (a mask or indices) names."""
        return PromptStates(self.states[chosen], self.gold[chosen], self.reading)

    def relabelled(self, gold: Tensor) -> "PromptStates":
        """Return the same states under other labels."""
        return replace(self, gold=gold)


def mean_of_contrast(states: ContrastStates) -> Tensor:
    """Return mean correct minus mean incorrect, within TRUE and within FALSE statements first where `gold` is known.

    Averaging within the classes first keeps the share t of TRUE statements out of the direction; without it the
    reading `answer_word` is mostly (2t - 1) times the difference of the two answer words.

    Raises:
        VectorRefused: statements of one class are missing.
    """
    if states.gold is None:
        return states.correct.mean(dim=0) - states.incorrect.mean(dim=0)
    gold = states.gold.bool()
    if bool(gold.all()) or not bool(gold.any()):
        raise VectorRefused("A vector needs both TRUE and FALSE statements; the data holds one kind only.")
    difference = states.correct - states.incorrect
    return (difference[gold].mean(dim=0) + difference[~gold].mean(dim=0)) / 2
