"""One condition of a steered run: at which layers states are shifted, and by how much."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from medx_core.steering.hooks import ConstantShift, Positions, Shift, SteeringStep


@runtime_checkable
class ShiftByText(Protocol):
    """A shift that knows each text of a run: for conditions that depend on something other than the state."""

    def for_texts(self, indices: Sequence[int]) -> Shift:
        """Return the shift for a batch of these texts, one row per text, in this order."""
        ...


@dataclass(frozen=True)
class ShiftsByText:
    """A constant shift of its own for every text of a run: `rows` is (texts, hidden_size)."""

    rows: Tensor

    def for_texts(self, indices: Sequence[int]) -> Shift:
        """Return the shifts of these texts."""
        return ConstantShift(self.rows[torch.as_tensor(list(indices))])

    def __call__(self, states: Tensor) -> Tensor:
        """Refuse: the shift must be bound to texts with `for_texts` first."""
        raise TypeError(
            f"shifts by text must be bound to texts before they meet states of shape {tuple(states.shape)}"
        )


@dataclass(frozen=True)
class SteeringCondition:
    """A shift at one layer, and possibly further steps above it.

    A run batches texts by length, so a shift sees rows in another order than the caller's: it must treat all rows
    alike (a `ConstantShift` of one row, or a function of the state), or be a `ShiftByText`.
    """

    layer: int
    shift: Shift
    above: tuple[SteeringStep, ...] = ()
    positions: Positions = Positions.LAST

    @classmethod
    def of(cls, steps: Sequence[SteeringStep]) -> "SteeringCondition":
        """Make a condition from steps at several layers."""
        first, *others = sorted(steps, key=lambda step: step.layer)
        return cls(first.layer, first.shift, tuple(others), first.positions)

    @property
    def steps(self) -> tuple[SteeringStep, ...]:
        """All steps, lowest layer first."""
        return (SteeringStep(self.layer, self.shift, self.positions), *self.above)

    def steps_for(self, indices: Sequence[int]) -> tuple[SteeringStep, ...]:
        """Return the steps as they act on a batch of the run's texts `indices`."""
        return tuple(replace(step, shift=_bound(step.shift, indices)) for step in self.steps)


def _bound(shift: Shift, indices: Sequence[int]) -> Shift:
    return shift.for_texts(indices) if isinstance(shift, ShiftByText) else shift
