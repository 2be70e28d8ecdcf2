"""A steering vector as a value: what is added, where, how it was made, and what makes it sound."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from medx_core.categories import Category
from medx_core.errors import VectorRefused
from medx_core.steering.gate import Gate, gated_shift
from medx_core.steering.hooks import (
    ConstantShift,
    Positions,
    RowPart,
    RowShift,
    RowSteering,
    Shift,
    SteeringStep,
)
from medx_core.steering.strategies import AMPLIFY, GATED, STRATEGIES, AmplifyShift

ON_STATEMENTS = "statements"
ON_TWINS = "twins"


@dataclass(frozen=True)
class SteeringVector:
    """A direction in one model's residual stream, with its provenance.

    `direction` is (hidden_size,) in float32; constant strategies add `alpha * direction` at `layer`, and `further`
    holds the directions of further layers, if any. `amplify` uses it as an axis whose middle is `centre` along it.
    For `gated` it is the answer's gradient, `gate` reads the state, `alpha` is k in logits and `b0` the unsteered
    bias that is cancelled.

    `reading` names how the contrast traces were read, `pairs` how many contrast pairs (for `gated`: statements) went
    in, `data_sha256` which data, `fitted_on` whether single statements or twin differences. `prompt_version` is the
    prompt whose states were read, `model_type` the model's architecture ("llama").
    """

    category: Category
    direction: Tensor
    layer: int
    model: str
    model_sha256: str
    strategy: str
    alpha: float
    reading: str
    pairs: int
    data_sha256: str
    prompt_version: str
    created_at: str
    version: str = ""
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    positions: Positions = Positions.LAST
    fitted_on: str = ON_STATEMENTS
    gate: Gate | None = None
    b0: float = 0.0
    centre: float = 0.0
    model_type: str = ""
    further: Mapping[int, Tensor] = field(default_factory=dict)

    @property
    def norm(self) -> float:
        """The direction's length."""
        return float(self.direction.norm())

    @property
    def is_constant(self) -> bool:
        """Whether the same vector is added whatever the state."""
        return STRATEGIES[self.strategy].constant

    @property
    def directions(self) -> dict[int, Tensor]:
        """The directions by layer, lowest first."""
        return dict(sorted({self.layer: self.direction, **self.further}.items()))

    @cached_property
    def parts(self) -> tuple[RowPart, ...]:
        """How one row of a batch is steered by this vector."""
        if not self.is_constant:
            shift = strategy_shift(
                self.strategy, self.direction, self.alpha, gate=self.gate, b0=self.b0, centre=self.centre
            )
            return (RowShift(self.layer, shift, self.positions),)
        return tuple(
            RowSteering(layer, direction, self.alpha, self.positions)
            for layer, direction in self.directions.items()
        )

    @property
    def steps(self) -> tuple[SteeringStep, ...]:
        """The same for any number of rows that are all steered by this vector, lowest layer first."""
        shifts = {
            layer: strategy_shift(
                self.strategy, direction, self.alpha, gate=self.gate, b0=self.b0, centre=self.centre
            )
            for layer, direction in self.directions.items()
        }
        return tuple(SteeringStep(layer, shift, self.positions) for layer, shift in shifts.items())


def strategy_shift(
    strategy: str,
    direction: Tensor,
    alpha: float,
    *,
    gate: Gate | None = None,
    b0: float = 0.0,
    centre: float = 0.0,
) -> Shift:
    """Return the shift of a strategy along `direction` (hidden_size,), the same for every row of a batch.

    Raises:
        VectorRefused: the direction is zero, not finite, or of another length than the gate.
    """
    if gate is not None:
        return gated_shift(gate, direction, alpha, b0)
    if strategy == AMPLIFY:
        return AmplifyShift(direction.float() / float(direction.float().norm()), centre, alpha)
    return ConstantShift((direction.float() * alpha)[None])


def check_vector(vector: SteeringVector, name: str) -> None:
    """Refuse a vector that cannot steer soundly; `name` says which one in the message.

    Raises:
        VectorRefused: an unknown strategy, a tensor that is zero, not finite or of the wrong shape, a number that is
            not finite, or a gate where there must be none, or none where there must be one.
    """
    if vector.strategy not in STRATEGIES:
        raise VectorRefused(
            f"{name} names the strategy {vector.strategy!r}, which this version of MedX does not know."
        )
    for layer, direction in vector.directions.items():
        check_direction(direction, name)
        if layer < 0 or direction.shape != vector.direction.shape:
            raise VectorRefused(f"{name} holds directions that do not belong to one model.")
    if vector.further and not vector.is_constant:
        raise VectorRefused(f"{name}: only constant strategies steer several layers, not {vector.strategy}.")
    if not all(map(isfinite, (vector.alpha, vector.b0, vector.centre))):
        raise VectorRefused(f"{name} holds a strength that is not finite.")
    _check_gate(vector, name)


def check_direction(direction: Tensor, name: str) -> None:
    """Refuse a tensor that is no usable direction.

    Raises:
        VectorRefused: it is zero, not finite or not one row.
    """
    if direction.ndim != 1:
        raise VectorRefused(f"{name} holds a tensor of shape {tuple(direction.shape)}, not one direction.")
    if not torch.isfinite(direction).all():
        raise VectorRefused(f"{name} holds values that are not finite.")
    if not direction.float().norm() > 0:
        raise VectorRefused(f"{name} holds a zero vector, which would steer nothing.")


def _check_gate(vector: SteeringVector, name: str) -> None:
    if (vector.gate is not None) != (vector.strategy == GATED):
        missing = "lacks the gate" if vector.gate is None else "holds a gate, which is not part"
        raise VectorRefused(f"{name} {missing} of its strategy {vector.strategy}; build it anew.")
    if vector.gate is None:
        return
    check_direction(vector.gate.weight, name)
    if vector.gate.weight.shape != vector.direction.shape or not isfinite(vector.gate.bias):
        raise VectorRefused(f"{name} holds a gate that does not fit its direction; build it anew.")
