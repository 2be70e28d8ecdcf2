"""Forward hooks on decoder layers as with-blocks, undone on every way out: steering states, and recording them.

One forward pass serves rows with different vectors, strengths and arms: each row of a batch is shifted by its own
amount, an unsteered row by zero, which leaves it exactly as it was. Hooks on a layer run in the order they were
registered, so enter `recorded` inside `steered` to see what steering did. `output_hidden_states` is not a substitute: its
own hook runs before hooks that were added later.

Where in the text: by default the state of the last prompt token and of every token written after it
(`Positions.LAST`), that is each state a next token is read from. Earlier prompt tokens stay untouched, so that prompts
may share a cached beginning; a step says whether that holds (`SteeringStep.positions`, a typed window of tokens).
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from medx_core.errors import VectorRefused
from medx_core.steering.dose import DoseMeter, read_doses
from medx_core.steering.layers import hidden_of, layer_at, with_hidden
from medx_core.steering.positions import Positions

T = TypeVar("T")


class Shift(Protocol):
    """How far to move states. Input-dependent strategies compute it from the states themselves."""

    def __call__(self, states: Tensor) -> Tensor:
        """Return the shift for `states` (rows, tokens, hidden_size), in a shape that broadcasts to it."""
        ...


@dataclass(frozen=True)
class ConstantShift:
    """The same shift whatever the state."""

    rows: Tensor  # (rows, hidden_size), or (1, hidden_size) for all rows alike

    def __call__(self, states: Tensor) -> Tensor:
        """Return the rows' shifts in the states' own device and number type."""
        return self.rows.to(device=states.device, dtype=states.dtype)[:, None, :]


@dataclass(frozen=True)
class ShiftsByText:
    """A constant shift for every text of a run, (texts, hidden_size); `SteeringPlan.for_texts` takes a batch's rows."""

    rows: Tensor

    def __call__(self, states: Tensor) -> Tensor:
        """Refuse: the shift must be bound to texts first."""
        raise TypeError(
            f"shifts by text must be bound to texts before they meet states of shape {tuple(states.shape)}"
        )


@dataclass(frozen=True)
class ShiftsInTurn:
    """Several shifts, each of which sees what those before it made of the state, as one."""

    shifts: tuple[Shift, ...]

    def __call__(self, states: Tensor) -> Tensor:
        """Return how far all of them together move each state."""
        total = self.shifts[0](states)
        for shift in self.shifts[1:]:
            total = total + shift(states + total)
        return total


@dataclass(frozen=True)
class ScaledShift:
    """A shift that is `factor` times as long; a negative factor turns it round, 0 takes it away."""

    shift: Shift
    factor: float

    def __call__(self, states: Tensor) -> Tensor:
        """Return the scaled shift of each state."""
        return self.factor * self.shift(states)


@dataclass(frozen=True)
class SteeringStep:
    """One layer's part of a plan: a shift, and which tokens it acts on; `meters` read the dose of each row."""

    layer: int
    shift: Shift
    positions: Positions = Positions.LAST
    meters: tuple[DoseMeter | None, ...] = field(default=(), compare=False)

    def moved(self, states: Tensor, begins_at: int) -> Tensor:
        """Return `states` (rows, tokens, hidden_size) after the shift; their first token is number `begins_at`.

        Raises:
            VectorRefused: the shift does not fit the states.
        """
        shift = self.shift(states)
        if shift.shape[-1] != states.shape[-1] or shift.shape[0] not in (1, states.shape[0]):
            raise VectorRefused(
                f"A steering plan for {shift.shape[0]} rows of width {shift.shape[-1]} met a batch of shape {tuple(states.shape)}."
            )
        if self.meters:
            read_doses(self.meters, self.layer, states, shift, begins_at)
        return states + shift


@dataclass(frozen=True)
class SteeringPlan:
    """What is done to a row, to one batch, or to a run of batches. An empty plan changes nothing.

    Steps at one layer act one after another, in their order. `meter` reads the dose of the row it is the plan of.

    A run batches texts by length, so a plan for a run sees rows in another order than the caller's: its shifts must
    treat all rows alike (a `ConstantShift` of one row, or a function of the state), or be `ShiftsByText`.
    """

    steps: tuple[SteeringStep, ...] = ()
    meter: DoseMeter | None = field(default=None, compare=False)

    @property
    def on_the_prompt(self) -> "SteeringPlan":
        """The steps that act on any token of a prompt: what a verdict is made with."""
        return replace(self, steps=tuple(step for step in self.steps if step.positions.in_prompt))

    @property
    def after_the_prompt(self) -> "SteeringPlan":
        """The steps that act on any token of an answer."""
        return replace(self, steps=tuple(step for step in self.steps if step.positions.in_answer))

    @property
    def last_token_only(self) -> bool:
        """Whether all tokens of a prompt but the last stay as they are, so that their passes may be shared."""
        return not any(step.positions.in_earlier_prompt for step in self.steps)

    def at(self, positions: Positions) -> "SteeringPlan":
        """Return the same plan acting on other tokens."""
        return replace(self, steps=tuple(replace(step, positions=positions) for step in self.steps))

    def times(self, factor: float) -> "SteeringPlan":
        """Return the same plan whose every shift is `factor` times as long."""
        return replace(
            self,
            steps=tuple(
                replace(step, shift=ConstantShift(factor * step.shift.rows))
                if isinstance(step.shift, ConstantShift)
                else replace(step, shift=ScaledShift(step.shift, factor))
                for step in self.steps
            ),
        )

    def metered(self, meters: Sequence[DoseMeter]) -> "SteeringPlan":
        """Return the plan for a batch with a meter for each of its rows; what acts at one layer and tokens has one dose."""
        together = groupby(self.steps, key=lambda step: (step.layer, step.positions))
        return SteeringPlan(
            tuple(
                SteeringStep(layer, _in_turn([step.shift for step in steps]), positions, tuple(meters))
                for (layer, positions), steps in together
            )
        )

    def for_texts(self, indices: Sequence[int]) -> "SteeringPlan":
        """Return the plan for a batch of these texts of a run, lowest layer first."""
        rows = torch.as_tensor(list(indices))
        bound = (
            replace(step, shift=ConstantShift(step.shift.rows[rows]))
            if isinstance(step.shift, ShiftsByText)
            else step
            for step in self.steps
        )
        return replace(self, steps=tuple(sorted(bound, key=lambda step: step.layer)))


@contextmanager
def steered(network: PreTrainedModel, plan: SteeringPlan, *, begins_at: int | None = None) -> Iterator[None]:
    """Steer every forward pass inside the block; afterwards, also after an error, no hook is left.

    `begins_at` is the number of the first pass's first token, counted as `Positions` counts; None says that this pass
    reads the prompt, so that it ends right before the answer. Each later pass goes on where the one before it ended.

    Raises:
        VectorRefused: the plan names a layer the network does not have.
    """
    with ExitStack() as hooks:
        for step in plan.steps:
            handle = layer_at(network, step.layer).register_forward_hook(_hook(step, begins_at))
            hooks.callback(handle.remove)
        yield


def _hook(
    step: SteeringStep, begins_at: int | None
) -> Callable[[nn.Module, tuple[object, ...], object], object]:
    next_token = begins_at

    def shift_output(_layer: nn.Module, _inputs: tuple[object, ...], output: object) -> object:
        nonlocal next_token
        hidden = hidden_of(output)
        tokens = hidden.shape[1]
        begins = -tokens if next_token is None else next_token
        next_token = begins + tokens
        chosen = step.positions.within(begins, tokens)
        if chosen.start == chosen.stop:
            return output
        moved = step.moved(hidden[:, chosen], begins + chosen.start)
        return with_hidden(
            output, torch.cat([hidden[:, : chosen.start], moved, hidden[:, chosen.stop :]], dim=1)
        )

    return shift_output


@contextmanager
def outputs_read(
    network: PreTrainedModel, layers: Sequence[int], read: Callable[[object], T], *, first_pass: bool = False
) -> Iterator[dict[int, T]]:
    """Keep, by layer, what `read` makes of each layer's output in the latest forward pass inside the block.

    `first_pass` keeps what the first pass gave instead, whatever is run after it.

    Raises:
        VectorRefused: a layer does not exist.
    """
    kept: dict[int, T] = {}
    with ExitStack() as hooks:
        for layer in layers:

            def keep(
                _module: nn.Module, _inputs: tuple[object, ...], output: object, at: int = layer
            ) -> None:
                if not (first_pass and at in kept):
                    kept[at] = read(output)

            hooks.callback(layer_at(network, layer).register_forward_hook(keep).remove)
        yield kept


def recorded(
    network: PreTrainedModel, layers: Sequence[int], *, first_pass: bool = False
) -> AbstractContextManager[dict[int, Tensor]]:
    """Keep each row's last-token state after each of `layers`: (rows, hidden_size) in float32 on the CPU.

    The pass is the latest inside the block, or with `first_pass` the one that reads the prompt.
    """
    return outputs_read(
        network,
        layers,
        lambda output: hidden_of(output)[:, -1].detach().float().cpu(),
        first_pass=first_pass,
    )


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


def plan_for_rows(rows: Sequence[SteeringPlan], *, width: int) -> SteeringPlan:
    """Make one plan for a batch whose rows are steered differently, each by its own plan; an empty one changes nothing.

    Where a row has several steps at one layer, each acts on what the one before it made.

    Raises:
        VectorRefused: a vector's length is not `width`, the model's hidden size.
    """
    placed: dict[tuple[int, int, Positions], list[tuple[int, Shift]]] = defaultdict(list)
    for index, plan in enumerate(rows):
        at_layer: Counter[int] = Counter()
        for (layer, positions), steps in groupby(plan.steps, key=lambda step: (step.layer, step.positions)):
            # A row's next step at a layer, at other tokens, acts on what the one before it made.
            placed[layer, at_layer[layer], positions].append(
                (index, _in_turn([step.shift for step in steps]))
            )
            at_layer[layer] += 1
    return SteeringPlan(
        tuple(
            SteeringStep(
                layer,
                _shift_of_rows(here, rows=len(rows), width=width),
                positions,
                _meters_of(rows, {index for index, _ in here}),
            )
            for (layer, _, positions), here in sorted(placed.items(), key=lambda item: item[0][:2])
        )
    )


def _in_turn(shifts: Sequence[Shift]) -> Shift:
    """Return what acts at one layer and the same tokens as one shift, so that it has one dose."""
    return shifts[0] if len(shifts) == 1 else ShiftsInTurn(tuple(shifts))


def _meters_of(rows: Sequence[SteeringPlan], steered_here: Set[int]) -> tuple[DoseMeter | None, ...]:
    meters = tuple(plan.meter if index in steered_here else None for index, plan in enumerate(rows))
    return meters if any(meters) else ()


def _shift_of_rows(here: Sequence[tuple[int, Shift]], *, rows: int, width: int) -> Shift:
    constant = torch.zeros((rows, width), dtype=torch.float32)
    # rows that share their vectors share their shift: one call for all
    by_shift: dict[tuple[int, ...], tuple[Shift, list[int]]] = {}
    for index, shift in here:
        if not isinstance(shift, ConstantShift):
            parts = shift.shifts if isinstance(shift, ShiftsInTurn) else (shift,)
            by_shift.setdefault(tuple(map(id, parts)), (shift, []))[1].append(index)
        elif shift.rows.shape == (1, width):
            constant[index] += shift.rows[0].detach().float().cpu()
        else:
            raise VectorRefused(
                f"A steering vector of shape {tuple(shift.rows.shape[1:])} does not fit a model of hidden size {width}."
            )
    if not by_shift:
        return ConstantShift(constant)
    return RowwiseShift(constant, tuple((shift, tuple(chosen)) for shift, chosen in by_shift.values()))
