"""Constant steering: the same vector is added whatever the state holds.

Such a vector moves the answer's threshold; measured on TRUE/FALSE statements it added no discrimination, and a random
vector of the same length did as well. It is what the paper proposes, and the baseline for everything else.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from medx_core.errors import VectorRefused
from medx_core.steering.contrast import ContrastStates, mean_of_contrast
from medx_core.steering.hooks import ConstantShift, Shift


@dataclass(frozen=True)
class ConstantDirection:
    """A vector (hidden_size,) that is added `strength` times."""

    direction: Tensor

    def __post_init__(self) -> None:
        if not (torch.isfinite(self.direction).all() and self.norm > 0):
            raise VectorRefused("A direction that is zero or not finite would steer nothing.")

    @property
    def norm(self) -> float:
        """The vector's length."""
        return float(self.direction.float().norm())

    def shift(self, strength: float) -> Shift:
        """Return the shift by `strength` times the vector."""
        return ConstantShift((self.direction.float() * strength)[None])


def mean_difference(states: ContrastStates) -> ConstantDirection:
    """Return the paper's vector: mean correct minus mean incorrect state.

    Raises:
        VectorRefused: one kind is missing, or the means are equal.
    """
    return ConstantDirection(mean_of_contrast(states))


def pca(states: ContrastStates) -> ConstantDirection:
    """Return the first principal component of the correct-minus-incorrect differences, correct scoring higher.

    The differences are not centred, since their common part is what is looked for. The length is that of the mean
    difference, so that a strength means the same for both. Where traces come in no pairs, each is compared with the
    mean of the other side.

    Raises:
        VectorRefused: one kind is missing, or the differences vanish.
    """
    mean = mean_difference(states)
    differences = _differences(states).double()
    # float64 and the smaller Gram matrix: the same component for every number of threads
    _, _, axes = torch.linalg.svd(differences, full_matrices=False)
    axis = axes[0]
    gap = float(axis @ (states.correct.double().mean(dim=0) - states.incorrect.double().mean(dim=0)))
    signed = axis if gap >= 0 else -axis
    return ConstantDirection((signed * mean.norm).float())


def _differences(states: ContrastStates) -> Tensor:
    if states.paired:
        return states.correct - states.incorrect
    return torch.cat(
        [
            states.correct - states.incorrect.mean(dim=0),
            states.correct.mean(dim=0) - states.incorrect,
        ]
    )
