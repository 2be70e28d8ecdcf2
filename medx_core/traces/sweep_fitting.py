"""Fitting one strategy at many layers at once: the training prompts are run once for all of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from medx_core.data.labelled_statements import LabelledStatement
from medx_core.errors import BadInput
from medx_core.steering.contrast import STATEMENT, ContrastStates
from medx_core.steering.hooks import Shift
from medx_core.steering.strategies.amplification import amplify
from medx_core.steering.strategies.direction import mean_difference, pca
from medx_core.steering.strategies.gate import Gate, fit_gate, gated_shift
from medx_core.steering.strategies.registry import AMPLIFY, GATED, MEAN_DIFFERENCE, PCA
from medx_core.traces.answer_gradient import answer_gradients
from medx_core.traces.readings import contrast_states
from medx_core.traces.running import OnProgress
from medx_core.traces.statement_runner import StatementRunner

SWEPT = (MEAN_DIFFERENCE, PCA, AMPLIFY, GATED)


class Strengthened(Protocol):
    """A fitted strategy that waits for its strength."""

    def shift(self, strength: float) -> Shift:
        """Return the shift at that strength."""
        ...


_FROM_CONTRAST: Mapping[str, Callable[[ContrastStates], Strengthened]] = {
    MEAN_DIFFERENCE: mean_difference,
    PCA: pca,
    AMPLIFY: amplify,
}


@dataclass(frozen=True)
class SweepRecipe:
    """What is swept. `reading` says how contrast traces are read; `gated` always reads the last prompt token.

    `on_twins`: the gate is fitted on the differences within twins.
    """

    layers: tuple[int, ...]
    strengths: tuple[float, ...]
    strategy: str = MEAN_DIFFERENCE
    reading: str = STATEMENT
    on_twins: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the recipe by name."""
        return {
            "strategy": self.strategy,
            "reading": STATEMENT if self.strategy == GATED else self.reading,
            "fitted_on": "twins" if self.on_twins else "statements",
            "layers": list(self.layers),
            "strengths": list(self.strengths),
        }


@dataclass(frozen=True)
class FittedGate:
    """A gate with the direction it pushes along and the unsteered bias that it takes away."""

    gate: Gate
    gradient: Tensor  # (hidden_size,)
    offset: float

    def shift(self, strength: float) -> Shift:
        """Return the gated shift of `strength` logits."""
        return gated_shift(self.gate, self.gradient, strength, self.offset)


def fitted_on_train(
    runner: StatementRunner,
    train: Sequence[LabelledStatement],
    recipe: SweepRecipe,
    on_progress: OnProgress,
) -> Mapping[int, Strengthened]:
    """Fit the recipe's strategy at each of its layers.

    Raises:
        BadInput: the strategy cannot be swept.
        VectorRefused: a layer does not exist, or the statements do not do for the strategy.
    """
    if recipe.strategy == GATED:
        return _gates(runner, train, recipe, on_progress)
    if recipe.strategy not in _FROM_CONTRAST:
        raise BadInput(f"The strategy {recipe.strategy!r} cannot be swept; these can: {', '.join(SWEPT)}.")
    fit = _FROM_CONTRAST[recipe.strategy]
    found = contrast_states(runner, train, recipe.reading, recipe.layers, on_progress)
    return {layer: fit(states) for layer, states in found.items()}


def _gates(
    runner: StatementRunner,
    train: Sequence[LabelledStatement],
    recipe: SweepRecipe,
    on_progress: OnProgress,
) -> Mapping[int, Strengthened]:
    texts = [one.text for one in train]
    run = runner.recorded(texts, recipe.layers, on_progress, with_answer_words=False)
    gradients = answer_gradients(runner, texts, recipe.layers)
    gold = torch.tensor([one.answer for one in train])
    groups = [one.pair or one.group for one in train]
    offset = float(np.median(run.scores))
    return {
        layer: FittedGate(
            fit_gate(states, gold, groups=groups, differences=recipe.on_twins), gradients[layer], offset
        )
        for layer, states in run.states.items()
    }
