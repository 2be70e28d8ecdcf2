"""The strategies by name, and the shift that each makes of a state after one layer.

Projection is the directional ablation of Arditi et al. (Refusal in language models is mediated by a single direction,
arXiv 2406.11717, section 2.4), h - (u . h) u, of which a share may be asked for.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from medx_core.errors import VectorRefused
from medx_core.steering.gate import Gate
from medx_core.steering.hooks import ConstantShift, Shift
from medx_core.steering.names import AMPLIFY, CLAMP, PROJECT


@dataclass(frozen=True, kw_only=True)
class SteeredLayer:
    """A strategy at one layer.

    `direction` is (hidden_size,) in float32; constant strategies add `alpha * direction`. `amplify`, `project` and
    `clamp` use it as an axis, whose middle between incorrect and correct states is `centre`: `amplify` makes the
    distance from there `alpha` times larger, `project` takes the share `alpha` of the whole coordinate away, and
    `clamp` sets it to the target `alpha`, where -1 is the mean of incorrect and 1 that of correct states: `direction`
    is as long as they are apart. For `gated` it is the answer's gradient, `gate` reads the state, `alpha` is k in
    logits and `b0` the unsteered bias that is cancelled.
    """

    strategy: str
    layer: int
    direction: Tensor
    alpha: float
    gate: Gate | None = None
    b0: float = 0.0
    centre: float = 0.0

    @property
    def norm(self) -> float:
        """The direction's length."""
        return float(self.direction.norm())

    @property
    def shift(self) -> Shift:
        """The shift of a state after the layer, the same for every row of a batch.

        Raises:
            VectorRefused: the direction of a gate is zero, not finite, or of another length than the gate.
        """
        direction = self.direction.detach().float().cpu()
        if self.gate is not None:
            return GatedShift.along(direction, self.gate, self.alpha, self.b0)
        if self.strategy in (AMPLIFY, PROJECT, CLAMP):
            norm = float(direction.norm())
            towards, strength = {
                AMPLIFY: (self.centre, self.alpha),
                PROJECT: (0.0, -self.alpha),
                CLAMP: (self.centre + self.alpha * norm / 2, -1.0),
            }[self.strategy]
            return AxisShift(direction / norm, towards, strength)
        return ConstantShift((direction * self.alpha)[None])


@dataclass(frozen=True)
class AxisShift:
    """The shift a (u . h - centre) u along the unit axis u: a = 1 doubles every state's distance from the centre, -1 takes it."""

    unit: Tensor  # (hidden_size,)
    centre: float
    strength: float

    def __call__(self, states: Tensor) -> Tensor:
        """Return each state's own shift, in the states' device and number type."""
        unit = self.unit.to(states.device)
        along = states.float() @ unit - self.centre
        return (self.strength * along[..., None] * unit).to(states.dtype)


@dataclass(frozen=True)
class GatedShift:
    """The shift (k * tanh(s) - b0) * push, where adding `push` once raises TRUE against FALSE by one logit."""

    gate: Gate
    push: Tensor  # (hidden_size,): G / |G|^2
    k: float
    b0: float

    @classmethod
    def along(cls, gradient: Tensor, gate: Gate, k: float, b0: float) -> "GatedShift":
        """Push along `gradient` (hidden_size,), the mean gradient of logit(TRUE) - logit(FALSE), with k and b0 in logits.

        Raises:
            VectorRefused: the gradient is zero, not finite, or of another length than the gate.
        """
        if gradient.shape != gate.weight.shape:
            raise VectorRefused(
                f"A gate over {tuple(gate.weight.shape)} values cannot push along a gradient of shape {tuple(gradient.shape)}."
            )
        squared = float(gradient.double().square().sum())
        if not 0 < squared < float("inf"):
            raise VectorRefused(
                "The answer's gradient is zero or not finite, so there is nothing to push along."
            )
        return cls(gate, gradient / squared, k, b0)

    def __call__(self, states: Tensor) -> Tensor:
        """Return each state's own shift, in the states' device and number type."""
        logits = self.k * torch.tanh(self.gate.values(states)) - self.b0
        return (logits[..., None] * self.push.to(states.device)).to(states.dtype)
