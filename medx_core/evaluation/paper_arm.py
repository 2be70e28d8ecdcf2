"""The paper's arm: one constant vector a category, and the random and shuffled ones it must beat.

MEDASSESS-X (arXiv 2601.12812, section 3): mean hidden state over correct minus that over incorrect traces, 200
training examples a category, penultimate layer, alpha 1.0. The paper leaves open where a trace is read: the arm
`paper` reads it at the answer word, and the other readings stand beside it under their own names.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medx_core.categories import Category
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.errors import VectorRefused
from medx_core.steering.contrast import (
    ANSWER_WORD,
    FULL_TRACE,
    MODEL_RIGHT,
    STATEMENT,
    AnswerWordStates,
    ContrastStates,
    mean_of_contrast,
    model_right_states,
    statement_states,
)
from medx_core.steering.hooks import ConstantShift, Shift
from medx_core.steering.layers import penultimate_layer
from medx_core.steering.strategies import random_direction, shuffled
from medx_core.traces.readings import answer_word_states, full_trace_states
from medx_core.traces.statement_runner import StatementRunner, SteeringCell

FEWEST_OF_A_CATEGORY = 40

Directions = Mapping[Category | None, Tensor]
"""One vector (hidden_size,) a category; under None the one of all statements together."""


@dataclass(frozen=True)
class VectorsByText:
    """A constant shift of its own for every text of a run: rows (texts, hidden_size)."""

    rows: Tensor

    def for_texts(self, indices: Sequence[int]) -> Shift:
        """Return the shifts of these texts, one row each."""
        return ConstantShift(self.rows[list(indices)])

    def __call__(self, states: Tensor) -> Tensor:
        """Refuse: it must be asked with `for_texts` first."""
        raise TypeError(
            f"shifts by text must be bound to texts before they meet states {tuple(states.shape)}"
        )


@dataclass(frozen=True)
class PaperArm:
    """The vectors of every reading, and what is needed to draw the controls of reading `answer_word`."""

    layer: int
    alpha: float
    directions: Mapping[str, Directions]
    traces: Mapping[Category | None, AnswerWordStates]
    groups: Mapping[Category | None, Sequence[str]]
    refused: Mapping[str, str] = field(default_factory=dict)

    def cell(self, statements: Sequence[LabelledStatement], directions: Directions) -> SteeringCell:
        """Return what steers each statement by the vector of its category."""
        rows = torch.stack([directions.get(one.category, directions[None]) for one in statements])
        return SteeringCell(self.layer, VectorsByText(rows * self.alpha))

    def random(self, seed: int) -> Directions:
        """Return random directions, each as long as the real one."""
        return {
            category: random_direction(len(real), float(real.norm()), seed=1_000 * seed + place).direction
            for place, (category, real) in enumerate(self.directions[ANSWER_WORD].items())
        }

    def shuffled(self, seed: int) -> Directions:
        """Return vectors made of the same traces after their labels were permuted."""
        found = {}
        for category, states in self.traces.items():
            mixed = torch.as_tensor(shuffled(states.gold.numpy(), self.groups[category], seed))
            found[category] = mean_of_contrast(
                AnswerWordStates(states.with_true_word, states.with_false_word, mixed).contrast
            )
        return found

    def as_json(self) -> dict[str, Any]:
        """Return what was built."""
        return {
            "layer": self.layer,
            "alpha": self.alpha,
            "examples": {_name(category): len(states.gold) for category, states in self.traces.items()},
            "norms": {
                reading: {_name(category): float(one.norm()) for category, one in found.items()}
                for reading, found in self.directions.items()
            },
            "refused": dict(self.refused),
        }


@dataclass(frozen=True)
class PaperRecipe:
    """How many examples a category, and how strongly; the defaults are the paper's."""

    examples: int = 200
    alpha: float = 1.0
    full_trace: bool = True


def fit_paper_arm(
    runner: StatementRunner, train: Sequence[LabelledStatement], recipe: PaperRecipe
) -> PaperArm:
    """Build the vectors of all readings from the training part: for all statements together, and for each category.

    A category with few training statements uses the vector of all.

    Raises:
        VectorRefused: the training part holds TRUE or FALSE statements only.
    """
    layer = penultimate_layer(runner.model.network)
    chosen = _examples_by_category(train, recipe.examples)
    traces = {category: answer_word_states(runner, part, layer) for category, part in chosen.items()}
    directions: dict[str, Directions] = {
        ANSWER_WORD: {category: mean_of_contrast(states.contrast) for category, states in traces.items()}
    }
    refused: dict[str, str] = {}
    for reading, read in _other_readings(runner, layer, recipe).items():
        try:
            directions[reading] = {
                category: mean_of_contrast(read(part)) for category, part in chosen.items()
            }
        except VectorRefused as error:
            refused[reading] = str(error)
    groups = {category: [one.pair or one.group for one in part] for category, part in chosen.items()}
    return PaperArm(layer, recipe.alpha, directions, traces, groups, refused)


def _other_readings(
    runner: StatementRunner, layer: int, recipe: PaperRecipe
) -> dict[str, Callable[[Sequence[LabelledStatement]], ContrastStates]]:
    def states(part: Sequence[LabelledStatement]) -> tuple[Tensor, Tensor, Tensor]:
        run = runner.recorded([one.text for one in part], [layer], with_answer_words=False)
        gold = torch.tensor([one.answer for one in part])
        return run.states[layer], gold, torch.as_tensor(run.scores >= 0) == gold

    def statement(part: Sequence[LabelledStatement]) -> ContrastStates:
        found, gold, _ = states(part)
        return statement_states(found, gold)

    def model_right(part: Sequence[LabelledStatement]) -> ContrastStates:
        found, _, right = states(part)
        return model_right_states(found, right)

    readings: dict[str, Callable[[Sequence[LabelledStatement]], ContrastStates]]
    readings = {STATEMENT: statement, MODEL_RIGHT: model_right}
    if recipe.full_trace:
        readings[FULL_TRACE] = lambda part: full_trace_states(runner, part, layer)
    return readings


def _examples_by_category(
    train: Sequence[LabelledStatement], most: int
) -> dict[Category | None, list[LabelledStatement]]:
    """Return the examples of all together (under None) and of every category that has enough of them."""
    found: dict[Category | None, list[LabelledStatement]] = {None: _whole_groups(train, most)}
    for category in Category:
        part = [one for one in train if one.category is category]
        if len(part) >= FEWEST_OF_A_CATEGORY and len({one.answer for one in part}) == 2:
            found[category] = _whole_groups(part, most)
    return found


def _whole_groups(statements: Sequence[LabelledStatement], most: int) -> list[LabelledStatement]:
    """Take statements in a fixed random order, whole groups only, up to `most` of them."""
    members: dict[str, list[LabelledStatement]] = {}
    for one in statements:
        members.setdefault(one.group, []).append(one)
    names = sorted(members)
    chosen: list[LabelledStatement] = []
    for place in np.random.default_rng(0).permutation(len(names)):
        group = members[names[place]]
        if len(chosen) + len(group) <= most:
            chosen.extend(group)
    return chosen


def _name(category: Category | None) -> str:
    return category.value if category else "all"
