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
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from medx_core.errors import VectorRefused
from medx_core.steering.layers import hidden_of, hidden_size, layer_at, with_hidden
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
class SteeringStep:
    """One layer's part of a plan."""

    layer: int
    shift: Shift
    positions: Positions = Positions.LAST


@dataclass(frozen=True)
class SteeringPlan:
    """What is done to a row, to one batch, or to a run of batches. An empty plan changes nothing.

    Steps at one layer act one after another, in their order.

    A run batches texts by length, so a plan for a run sees rows in another order than the caller's: its shifts must
    treat all rows alike (a `ConstantShift` of one row, or a function of the state), or be `ShiftsByText`.
    """

    steps: tuple[SteeringStep, ...] = ()

    @property
    def on_the_prompt(self) -> "SteeringPlan":
        """The steps that act on any token of a prompt: what a verdict is made with."""
        return SteeringPlan(tuple(step for step in self.steps if step.positions.in_prompt))

    @property
    def after_the_prompt(self) -> "SteeringPlan":
        """The steps that act on any token of an answer."""
        return SteeringPlan(tuple(step for step in self.steps if step.positions.in_answer))

    @property
    def last_token_only(self) -> bool:
        """Whether all tokens of a prompt but the last stay as they are, so that their passes may be shared."""
        return not any(step.positions.in_earlier_prompt for step in self.steps)

    def at(self, positions: Positions) -> "SteeringPlan":
        """Return the same plan acting on other tokens."""
        return SteeringPlan(tuple(replace(step, positions=positions) for step in self.steps))

    def for_texts(self, indices: Sequence[int]) -> "SteeringPlan":
        """Return the plan for a batch of these texts of a run, lowest layer first."""
        rows = torch.as_tensor(list(indices))
        bound = (
            replace(step, shift=ConstantShift(step.shift.rows[rows]))
            if isinstance(step.shift, ShiftsByText)
            else step
            for step in self.steps
        )
        return SteeringPlan(tuple(sorted(bound, key=lambda step: step.layer)))


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
            hook = _hook(step, hidden_size(network), begins_at)
            hooks.callback(layer_at(network, step.layer).register_forward_hook(hook).remove)
        yield


def _hook(
    step: SteeringStep, width: int, begins_at: int | None
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
        states = hidden[:, chosen]
        shift = step.shift(states)
        if shift.shape[-1] != width or shift.shape[0] not in (1, hidden.shape[0]):
            raise VectorRefused(
                f"A steering plan for {shift.shape[0]} rows of width {shift.shape[-1]} met a batch of shape {tuple(hidden.shape)}."
            )
        moved = torch.cat([hidden[:, : chosen.start], states + shift, hidden[:, chosen.stop :]], dim=1)
        return with_hidden(output, moved)

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
        for step in plan.steps:
            # A row's second step at a layer acts on what its first one made, so both cannot be one sum.
            placed[step.layer, at_layer[step.layer], step.positions].append((index, step.shift))
            at_layer[step.layer] += 1
    return SteeringPlan(
        tuple(
            SteeringStep(layer, _shift_of_rows(here, rows=len(rows), width=width), positions)
            for (layer, _, positions), here in sorted(placed.items(), key=lambda item: item[0][:2])
        )
    )


def _shift_of_rows(here: Sequence[tuple[int, Shift]], *, rows: int, width: int) -> Shift:
    constant = torch.zeros((rows, width), dtype=torch.float32)
    by_shift: dict[
        int, tuple[Shift, list[int]]
    ] = {}  # rows that share a vector share its shift: one call for all
    for index, shift in here:
        if not isinstance(shift, ConstantShift):
            by_shift.setdefault(id(shift), (shift, []))[1].append(index)
        elif shift.rows.shape == (1, width):
            constant[index] += shift.rows[0].detach().float().cpu()
        else:
            raise VectorRefused(
                f"A steering vector of shape {tuple(shift.rows.shape[1:])} does not fit a model of hidden size {width}."
            )
    if not by_shift:
        return ConstantShift(constant)
    return RowwiseShift(constant, tuple((shift, tuple(chosen)) for shift, chosen in by_shift.values()))
