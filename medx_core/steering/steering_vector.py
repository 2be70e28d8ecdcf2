"""A steering vector as a value: what is added, where, how it was made, and what makes it sound."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from medx_core.categories import Category
from medx_core.errors import VectorRefused
from medx_core.steering.hooks import SteeringPlan, SteeringStep
from medx_core.steering.names import FITTED_TO_STATES, GATED, INPUT_DEPENDENT, ON_STATEMENTS, STRATEGIES
from medx_core.steering.positions import Positions
from medx_core.steering.strategies import SteeredLayer


@dataclass(frozen=True, kw_only=True)
class SteeringVector(SteeredLayer):
    """A steered layer of one model with its provenance; `further` holds the directions of further layers, if any.

    `category` is None for a vector of all categories together. `reading` names how the contrast traces were read, `pairs` how many contrast pairs (for `gated`: statements) went
    in, `data_sha256` which data, `fitted_on` whether single statements or twin differences. `prompt_version` is the
    prompt whose states were read, `model_type` the model's architecture ("llama"). Written answers are steered at
    `positions`, verdicts at `verdict_positions`.
    """

    category: Category | None
    model: str
    model_sha256: str
    reading: str
    pairs: int
    data_sha256: str
    prompt_version: str
    created_at: str
    version: str = ""
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    positions: Positions = Positions.LAST
    verdict_positions: Positions = Positions.LAST
    fitted_on: str = ON_STATEMENTS
    model_type: str = ""
    further: Mapping[int, Tensor] = field(default_factory=dict)

    @property
    def is_constant(self) -> bool:
        """Whether the same vector is added whatever the state."""
        return self.strategy not in INPUT_DEPENDENT

    @property
    def directions(self) -> dict[int, Tensor]:
        """The directions by layer, lowest first."""
        return dict(sorted({self.layer: self.direction, **self.further}.items()))

    @cached_property
    def plan(self) -> SteeringPlan:
        """How this vector steers a row, or any number of rows alike, lowest layer first."""
        steps = (
            SteeringStep(layer, replace(self, direction=direction).shift, self.positions)
            for layer, direction in self.directions.items()
        )
        return SteeringPlan(tuple(steps))

    @cached_property
    def verdict_plan(self) -> SteeringPlan:
        """How this vector steers a prompt whose verdict is read."""
        return self.plan.at(self.verdict_positions).on_the_prompt


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
    if vector.further and vector.strategy in FITTED_TO_STATES:
        raise VectorRefused(f"{name}: the strategy {vector.strategy} steers one layer, not several.")
    if not all(map(isfinite, (vector.alpha, vector.b0, vector.centre))):
        raise VectorRefused(f"{name} holds a strength that is not finite.")
    _check_gate(vector, name)


def check_direction(direction: Tensor, name: str) -> None:
    """Refuse a tensor that cannot serve as a direction.

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
