"""What fitting a strategy leaves behind, before it becomes a vector with provenance."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from medx_core.steering.contrast import Traces
from medx_core.steering.gate import Gate
from medx_core.steering.steering_vector import ON_STATEMENTS

Axis = Callable[[Any], Tensor]
"""Fits the strategy's direction, or its gate's, on traces: for halves of the data and for shuffled labels."""


@dataclass(frozen=True)
class Fitted:
    """A fitted strategy: `directions` by layer, the strength, and what else its vector holds.

    `traces` are the states it was fitted on at `layer`, and `axis` fits it on part of them, None where that says
    nothing; `along` is the direction in which the two sides are told apart.
    """

    directions: Mapping[int, Tensor]
    alpha: float
    reading: str
    traces: Traces
    along: Tensor
    axis: Axis | None
    gate: Gate | None = None
    b0: float = 0.0
    centre: float = 0.0
    fitted_on: str = ON_STATEMENTS
    choices: Mapping[str, Any] = field(default_factory=dict)

    @property
    def layer(self) -> int:
        """The layer the vector is named by: the highest it steers."""
        return max(self.directions)
