"""Amplifying steering: what a state already says along an axis is said louder."""

from dataclasses import dataclass

from torch import Tensor

from medx_core.steering.contrast import ContrastStates
from medx_core.steering.hooks import Shift
from medx_core.steering.strategies.direction import mean_difference


@dataclass(frozen=True)
class AmplifyShift:
    """The shift a (u . h - centre) u along the unit axis u."""

    unit: Tensor  # (hidden_size,)
    centre: float
    strength: float

    def __call__(self, states: Tensor) -> Tensor:
        """Return each state's own shift, in the states' device and number type."""
        unit = self.unit.to(states.device)
        along = states.float() @ unit - self.centre
        return (self.strength * along[..., None] * unit).to(states.dtype)


@dataclass(frozen=True)
class Amplification:
    """An axis (hidden_size,) of unit length, and where its middle lies."""

    unit: Tensor
    centre: float

    def shift(self, strength: float) -> Shift:
        """Return the shift: `strength` 1 doubles every state's distance from the middle."""
        return AmplifyShift(self.unit, self.centre, strength)


def amplify(states: ContrastStates) -> Amplification:
    """Return the mean-difference axis with the middle between the two sides' means.

    Raises:
        VectorRefused: one kind is missing, or the means are equal.
    """
    found = mean_difference(states)
    unit = found.direction.float() / found.norm
    middle = (states.correct.float().mean(dim=0) + states.incorrect.float().mean(dim=0)) / 2
    return Amplification(unit, float(middle @ unit))
