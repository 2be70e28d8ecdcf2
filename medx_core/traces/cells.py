"""What one steered run does: where it steers and by how much."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from medx_core.steering.hooks import ConstantShift, Positions, Shift, SteeringStep


@runtime_checkable
class ShiftByText(Protocol):
    """A shift that knows each text of a run: for gates that read something else than the states."""

    def for_texts(self, indices: Sequence[int]) -> Shift:
        """Return the shift for a batch of these texts, one row each, in this order."""
        ...


@dataclass(frozen=True)
class TextAmounts:
    """Each text's own amount along one direction: amounts (texts,), direction (hidden_size,)."""

    amounts: Tensor
    direction: Tensor

    def for_texts(self, indices: Sequence[int]) -> Shift:
        """Return one constant shift a row."""
        chosen = self.amounts[torch.as_tensor(list(indices))]
        return ConstantShift(chosen.float()[:, None] * self.direction.float()[None, :])

    def __call__(self, states: Tensor) -> Tensor:
        """Refuse: it must be asked with `for_texts` first."""
        raise TypeError(
            f"a shift by text met states of shape {tuple(states.shape)} without being told whose they are"
        )


@dataclass(frozen=True)
class SteeringCell:
    """One layer and shift, and possibly more steps above it.

    A run puts texts together by length, so a shift sees rows in an order of its own: it must treat all rows alike
    (`ConstantShift` of one row, or a function of the state), or be a `ShiftByText`.
    """

    layer: int
    shift: Shift
    above: tuple[SteeringStep, ...] = ()
    positions: Positions = Positions.LAST

    @classmethod
    def of(cls, steps: Sequence[SteeringStep]) -> "SteeringCell":
        """Make a cell of steps at several layers."""
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
