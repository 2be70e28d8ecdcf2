"""A strategy fitted to the states after one layer, and the random and shuffled versions of it that a gain must beat.

Whatever asks for a vector gets it from here: a build for use, an evaluation, a sweep and the self-test. What they need
of a model is the small protocol `StatementModel`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from medx_core.steering.contrast import (
    ContrastTraces,
    mean_difference,
    midpoint,
    pca,
    random_direction,
    shuffled,
)
from medx_core.steering.gate import Gate, fit_gate
from medx_core.steering.hooks import SteeringPlan, SteeringStep
from medx_core.steering.names import AMPLIFY, CLAMP, PCA
from medx_core.steering.strategies import SteeredLayer
from medx_core.traces.running import OnProgress
from medx_core.traces.statement_runner import RecordedStates, RunScores


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
        self, texts: Sequence[str], conditions: Sequence[SteeringPlan], *, name: str = ""
    ) -> list[RunScores]:
        """Score every text under each of `conditions`; `name` tells them from all others, where runs are kept."""
        ...

    def answer_gradients(self, texts: Sequence[str], layers: Sequence[int]) -> dict[int, Tensor]:
        """Return the mean gradient (hidden_size,) of logit(TRUE) - logit(FALSE) in the state after each layer."""
        ...


@dataclass(frozen=True, kw_only=True)
class FittedLayer(SteeredLayer):
    """A strategy fitted to `traces`, the states after its layer.

    `groups` names, per statement, what stays together when labels are shuffled; with `on_twins` a gate is fitted on the
    differences within them.
    """

    traces: ContrastTraces
    groups: Sequence[str]
    on_twins: bool = False

    @property
    def condition(self) -> SteeringPlan:
        """What this fit does to a run."""
        return SteeringPlan((SteeringStep(self.layer, self.shift),))

    @property
    def axis(self) -> Tensor:
        """The axis (hidden_size,) along which the two sides of the contrast are told apart."""
        return self.direction if self.gate is None else self.gate.weight

    def at(self, alpha: float) -> "FittedLayer":
        """Return the same with another strength."""
        return replace(self, alpha=alpha)

    def on(self, chosen: Tensor) -> "FittedLayer":
        """Fit the same strategy to the statements alone that `chosen` (a mask or indices) names."""
        return self._refitted(self.traces.part(chosen), part_of(self.groups, chosen))

    def random(self, seed: int) -> "FittedLayer":
        """Return the same with a random direction of equal length."""
        norm = float(self.direction.float().norm())
        direction = random_direction(len(self.direction), norm, seed)
        # A target lies where states lie along the axis, so a random axis needs its own.
        centre = midpoint(self.traces, direction) if self.strategy == CLAMP else self.centre
        return replace(self, direction=direction, centre=centre)

    def shuffled(self, seed: int) -> "FittedLayer":
        """Fit anew after the labels were permuted: inside twins, and near copies as a whole (see `shuffled`)."""
        gold = shuffled(self.traces.gold.numpy(), self.groups, seed)
        return self._refitted(self.traces.relabelled(torch.as_tensor(gold)), self.groups)

    def _refitted(self, traces: ContrastTraces, groups: Sequence[str]) -> "FittedLayer":
        if self.gate is not None:
            gate = gate_on(traces, groups, on_twins=self.on_twins)
            return replace(self, traces=traces, groups=groups, gate=gate)
        return fitted_layer(self.strategy, self.layer, traces, groups, self.alpha)


def part_of(groups: Sequence[str], chosen: Tensor) -> list[str]:
    """Return the groups of the statements that `chosen` (a mask or indices) names."""
    return [groups[row] for row in torch.arange(len(groups))[chosen].tolist()]


def gate_on(traces: ContrastTraces, groups: Sequence[str], *, on_twins: bool) -> Gate:
    """Fit a gate on states of the last prompt token, or on their differences within twins."""
    return fit_gate(traces.states, traces.gold.numpy(), groups=groups, differences=on_twins)


def fitted_layer(
    strategy: str, layer: int, traces: ContrastTraces, groups: Sequence[str], alpha: float
) -> FittedLayer:
    """Fit one of the strategies that are read from contrast traces.

    Raises:
        VectorRefused: one side of the contrast is empty, or both have the same mean.
    """
    direction = pca(traces) if strategy == PCA else mean_difference(traces)
    return FittedLayer(
        strategy=strategy,
        layer=layer,
        traces=traces,
        groups=groups,
        direction=direction,
        alpha=alpha,
        centre=midpoint(traces, direction) if strategy in (AMPLIFY, CLAMP) else 0.0,
    )
