"""Steering as a with-block: row by row, undone on every way out.

One forward pass serves rows with different vectors, strengths and arms: each row of a batch is shifted by its own
amount, an unsteered row by zero, which leaves it exactly as it was.

Where in the text: the state of the last prompt token and of every token written after it (`Positions.LAST`), that is
each state a next token is read from. Earlier prompt tokens stay untouched, so that prompts may share a cached
beginning. `Positions.LAST_PROMPT` shifts the last prompt token alone: the first answer token is read from it, and the
rest is written by the model as it is. `Positions.ALL` shifts every token of a pass.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from typing import Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from medx_core.errors import VectorRefused
from medx_core.steering.layers import hidden_of, hidden_size, layer_at, with_hidden


class Positions(StrEnum):
    """Which tokens of a forward pass are shifted."""

    LAST = "last"
    LAST_PROMPT = "last-prompt"
    ALL = "all"


class Shift(Protocol):
    """How far to move states. Input-dependent strategies compute it from the states themselves."""

    def __call__(self, states: Tensor) -> Tensor:
        """Return the shift for `states` (rows, tokens, hidden_size), in a shape that broadcasts to it."""
        ...


@dataclass(frozen=True)
class ConstantShift:
    """The same shift whatever the state: strength times vector, one row of the batch each."""

    rows: Tensor  # (rows, hidden_size), or (1, hidden_size) for all rows alike

    def __call__(self, states: Tensor) -> Tensor:
        """Return the rows' shifts in the states' own device and number type."""
        return self.rows.to(device=states.device, dtype=states.dtype)[:, None, :]


@dataclass(frozen=True)
class SteeringStep:
    """One layer's part of a plan."""

    layer: int
    shift: Shift
    positions: Positions = Positions.LAST


@dataclass(frozen=True)
class SteeringPlan:
    """What is done to one batch. An empty plan changes nothing."""

    steps: tuple[SteeringStep, ...] = field(default_factory=tuple)

    @property
    def after_the_prompt(self) -> "SteeringPlan":
        """What still acts once the prompt has been read: the plan for every later token."""
        kept = tuple(step for step in self.steps if step.positions is not Positions.LAST_PROMPT)
        return SteeringPlan(kept)


@contextmanager
def steered(network: PreTrainedModel, plan: SteeringPlan) -> Iterator[None]:
    """Steer every forward pass inside the block; afterwards, also after an error, no hook is left.

    Steps of `Positions.LAST_PROMPT` act on the first pass inside the block only: the one that reads the prompt.

    Raises:
        VectorRefused: the plan names a layer the network does not have.
    """
    with ExitStack() as hooks:
        for step in plan.steps:
            handle = layer_at(network, step.layer).register_forward_hook(_hook(step, hidden_size(network)))
            hooks.callback(handle.remove)
        yield


def _hook(step: SteeringStep, width: int) -> Callable[[nn.Module, tuple[object, ...], object], object]:
    passes = count()

    def shift_output(_layer: nn.Module, _inputs: tuple[object, ...], output: object) -> object:
        if next(passes) and step.positions is Positions.LAST_PROMPT:
            return output
        hidden = hidden_of(output)
        states = hidden if step.positions is Positions.ALL else hidden[:, -1:]
        shift = step.shift(states)
        if shift.shape[-1] != width or shift.shape[0] not in (1, hidden.shape[0]):
            raise VectorRefused(
                f"A steering plan for {shift.shape[0]} rows of width {shift.shape[-1]} met a batch of shape {tuple(hidden.shape)}."
            )
        moved = states + shift
        if step.positions is not Positions.ALL:
            moved = torch.cat([hidden[:, :-1], moved], dim=1)
        return with_hidden(output, moved)

    return shift_output


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
