"""Plans for batches whose rows are steered differently: other vectors, layers, strengths, strategies, or not at all."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medx_core.errors import VectorRefused
from medx_core.steering.hooks import ConstantShift, Positions, Shift, SteeringPlan, SteeringStep


@dataclass(frozen=True)
class RowSteering:
    """One row's vector (hidden_size,) with its layer and strength."""

    layer: int
    vector: Tensor
    strength: float
    positions: Positions = Positions.LAST


@dataclass(frozen=True)
class RowShift:
    """One row's shift where it is no constant: it is computed from that row's own states."""

    layer: int
    shift: Shift
    positions: Positions = Positions.LAST


RowPart = RowSteering | RowShift


@dataclass(frozen=True)
class RowwiseShift:
    """Constant shifts for all rows, (rows, hidden_size), and state-dependent ones for some: shift and its rows."""

    constant: Tensor
    parts: tuple[tuple[Shift, tuple[int, ...]], ...]

    def __call__(self, states: Tensor) -> Tensor:
        """Return every row's own shift, in the states' device and number type."""
        if len(states) != len(self.constant):
            raise VectorRefused(
                f"A steering plan for {len(self.constant)} rows of width {self.constant.shape[-1]} met a batch of shape {tuple(states.shape)}."
            )
        whole = ConstantShift(self.constant)(states).expand_as(states).clone()
        for shift, rows in self.parts:
            chosen = torch.tensor(rows, device=states.device)
            whole[chosen] = whole[chosen] + shift(states[chosen])
        return whole


def plan_for_rows(rows: Sequence[RowPart | Sequence[RowPart] | None], *, width: int) -> SteeringPlan:
    """Make one plan for a batch whose rows are steered differently.

    A row may be steered at several layers; None, or nothing, leaves it as it is.

    Raises:
        VectorRefused: a vector's length is not `width`, the model's hidden size.
    """
    listed = [(index, part) for index, row in enumerate(rows) for part in _parts(row)]
    places = sorted({(part.layer, part.positions) for _, part in listed})
    steps = []
    for layer, positions in places:
        here = [(index, part) for index, part in listed if (part.layer, part.positions) == (layer, positions)]
        steps.append(SteeringStep(layer, _shift_for(here, rows=len(rows), width=width), positions))
    return SteeringPlan(tuple(steps))


def _parts(row: RowPart | Sequence[RowPart] | None) -> Sequence[RowPart]:
    if row is None:
        return ()
    return (row,) if isinstance(row, RowSteering | RowShift) else row


def _shift_for(here: Sequence[tuple[int, RowPart]], *, rows: int, width: int) -> Shift:
    constant = torch.zeros((rows, width), dtype=torch.float32)
    by_shift: dict[int, tuple[Shift, list[int]]] = {}
    for index, part in here:
        if isinstance(part, RowSteering):
            constant[index] += _checked(part.vector, width) * part.strength
        else:
            by_shift.setdefault(id(part.shift), (part.shift, []))[1].append(index)
    if not by_shift:
        return ConstantShift(constant)
    return RowwiseShift(constant, tuple((shift, tuple(chosen)) for shift, chosen in by_shift.values()))


def _checked(vector: Tensor, width: int) -> Tensor:
    if tuple(vector.shape) != (width,):
        raise VectorRefused(
            f"A steering vector of shape {tuple(vector.shape)} does not fit a model of hidden size {width}."
        )
    return vector.detach().float().cpu()
