"""A strategy fitted to the states after one layer, and the random and shuffled versions of it that a gain must beat.

Whatever asks for a vector gets it from here: a build for use, an evaluation, a sweep and the self-test. What they need
of a model is the small protocol `StatementModel`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from medx_core.steering.contrast import STATEMENT, ContrastStates, PromptStates, Traces
from medx_core.steering.gate import Gate, fit_gate
from medx_core.steering.hooks import Shift
from medx_core.steering.steering_vector import strategy_shift
from medx_core.steering.strategies import (
    AMPLIFY,
    PCA,
    mean_difference,
    midpoint,
    pca,
    random_direction,
    shuffled,
)
from medx_core.traces.running import OnProgress
from medx_core.traces.statement_runner import RecordedStates, RunScores
from medx_core.traces.steering_conditions import SteeringCondition


class StatementModel(Protocol):
    """A model with one prompt: `StatementRunner` is a language model, the self-test's is a linear world."""

    @property
    def layer_count(self) -> int:
        """How many layers can be read."""
        ...

    def recorded(
        self, texts: Sequence[str], layers: Sequence[int], on_progress: OnProgress = ...
    ) -> RecordedStates:
        """Score every text and keep its last prompt token's state after each of `layers`."""
        ...

    def steered(
        self, texts: Sequence[str], conditions: Sequence[SteeringCondition], *, name: str = ""
    ) -> list[RunScores]:
        """Score every text under each of `conditions`; `name` tells them from all others, where runs are kept."""
        ...

    def answer_gradients(self, texts: Sequence[str], layers: Sequence[int]) -> dict[int, Tensor]:
        """Return the mean gradient (hidden_size,) of logit(TRUE) - logit(FALSE) in the state after each layer."""
        ...


@dataclass(frozen=True)
class GateStates:
    """States of the last prompt token (statements, hidden_size) with what a gate is fitted by.

    `groups` names each statement's twins; with `on_twins` the gate is fitted on the differences within them.
    """

    states: Tensor
    gold: Tensor
    groups: tuple[str, ...]
    on_twins: bool

    @property
    def contrast(self) -> ContrastStates:
        """The states of TRUE and of FALSE statements."""
        return PromptStates(self.states, self.gold, STATEMENT).contrast

    def part(self, chosen: Tensor) -> "GateStates":
        """Return the statements that `chosen` (a mask or indices) names."""
        rows = torch.arange(len(self.gold))[chosen]
        groups = tuple(self.groups[row] for row in rows.tolist())
        return GateStates(self.states[rows], self.gold[rows], groups, self.on_twins)

    def relabelled(self, gold: Tensor) -> "GateStates":
        """Return the same states under other labels."""
        return replace(self, gold=gold)

    def gate(self) -> Gate:
        """Fit a gate on these states."""
        return fit_gate(self.states, self.gold.numpy(), groups=self.groups, differences=self.on_twins)


@dataclass(frozen=True)
class FittedLayer:
    """A strategy fitted to `traces`, the states after `layer`.

    `groups` names, per statement, what stays together when labels are shuffled. `direction` (hidden_size,) is what
    `alpha` multiplies; with a `gate` it is the answer's gradient, and `b0` the unsteered bias that is taken away.
    `centre` is where the middle of both sides lies along the axis that `amplify` stretches.
    """

    strategy: str
    layer: int
    traces: Traces
    groups: Sequence[str]
    direction: Tensor
    alpha: float
    reading: str
    gate: Gate | None = None
    b0: float = 0.0
    centre: float = 0.0

    @property
    def shift(self) -> Shift:
        """The shift of a state after the layer."""
        return strategy_shift(
            self.strategy, self.direction, self.alpha, gate=self.gate, b0=self.b0, centre=self.centre
        )

    @property
    def condition(self) -> SteeringCondition:
        """The same as a condition of a steered run."""
        return SteeringCondition(self.layer, self.shift)

    @property
    def axis(self) -> Tensor:
        """The axis (hidden_size,) along which the two sides of the contrast are told apart."""
        return self.direction if self.gate is None else self.gate.weight

    def at(self, alpha: float) -> "FittedLayer":
        """Return the same with another strength."""
        return replace(self, alpha=alpha)

    def on(self, chosen: Tensor) -> "FittedLayer":
        """Fit the same strategy to the statements alone that `chosen` (a mask or indices) names."""
        rows = torch.arange(len(self.groups))[chosen].tolist()
        return self._refitted(self.traces.part(chosen), [self.groups[row] for row in rows])

    def random(self, seed: int) -> "FittedLayer":
        """Return the same with a random direction of equal length."""
        norm = float(self.direction.float().norm())
        return replace(self, direction=random_direction(len(self.direction), norm, seed))

    def shuffled(self, seed: int) -> "FittedLayer":
        """Fit anew after the labels were permuted: inside twins, and near copies as a whole (see `shuffled`)."""
        gold = shuffled(self.traces.gold.numpy(), self.groups, seed)
        return self._refitted(self.traces.relabelled(torch.as_tensor(gold)), self.groups)

    def _refitted(self, traces: Traces, groups: Sequence[str]) -> "FittedLayer":
        if isinstance(traces, GateStates):
            return replace(self, traces=traces, groups=groups, gate=traces.gate())
        return fitted_layer(self.strategy, self.layer, traces, groups, self.alpha)


def fitted_layer(
    strategy: str, layer: int, traces: Traces, groups: Sequence[str], alpha: float
) -> FittedLayer:
    """Fit one of the strategies that are read from contrast traces.

    Raises:
        VectorRefused: one side of the contrast is empty, or both have the same mean.
    """
    contrast = traces.contrast
    direction = pca(contrast) if strategy == PCA else mean_difference(contrast)
    centre = midpoint(contrast, direction) if strategy == AMPLIFY else 0.0
    return FittedLayer(
        strategy, layer, traces, groups, direction, alpha, reading=contrast.reading, centre=centre
    )
