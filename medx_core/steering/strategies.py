"""The strategies by name: what each does, how a direction is read from contrast states, and the controls it must beat."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from medx_core.errors import VectorRefused
from medx_core.steering.contrast import ContrastStates, mean_of_contrast


def mean_difference(states: ContrastStates) -> Tensor:
    """Return the paper's vector (hidden_size,): mean correct minus mean incorrect state.

    Raises:
        VectorRefused: one kind is missing, or the means are equal.
    """
    return _usable(mean_of_contrast(states))


def pca(states: ContrastStates) -> Tensor:
    """Return the first principal component of the correct-minus-incorrect differences, correct scoring higher.

    The differences are not centred, since their common part is the signal. The length is that of the mean difference,
    so that a strength means the same for both. Where traces are not paired, each is compared with the mean of the
    other side.

    Raises:
        VectorRefused: one kind is missing, or the differences vanish.
    """
    norm = float(mean_difference(states).float().norm())
    differences = _differences(states).double()
    # float64 and the smaller Gram matrix: the same component for every number of threads
    _, _, axes = torch.linalg.svd(differences, full_matrices=False)
    axis = axes[0]
    gap = float(axis @ (states.correct.double().mean(dim=0) - states.incorrect.double().mean(dim=0)))
    signed = axis if gap >= 0 else -axis
    return _usable((signed * norm).float())


def _differences(states: ContrastStates) -> Tensor:
    if states.paired:
        return states.correct - states.incorrect
    return torch.cat(
        [
            states.correct - states.incorrect.mean(dim=0),
            states.correct.mean(dim=0) - states.incorrect,
        ]
    )


def midpoint(states: ContrastStates, direction: Tensor) -> float:
    """Return where the middle between the two sides' means lies along the unit axis of `direction`."""
    unit = direction.float() / float(direction.float().norm())
    middle = (states.correct.float().mean(dim=0) + states.incorrect.float().mean(dim=0)) / 2
    return float(middle @ unit)


@dataclass(frozen=True)
class AmplifyShift:
    """The shift a (u . h - centre) u along the unit axis u: a = 1 doubles every state's distance from the centre."""

    unit: Tensor  # (hidden_size,)
    centre: float
    strength: float

    def __call__(self, states: Tensor) -> Tensor:
        """Return each state's own shift, in the states' device and number type."""
        unit = self.unit.to(states.device)
        along = states.float() @ unit - self.centre
        return (self.strength * along[..., None] * unit).to(states.dtype)


def random_direction(width: int, norm: float, seed: int) -> Tensor:
    """Return a direction (width,) drawn uniformly from all directions, of length `norm`; it depends on `seed` alone.

    Raises:
        VectorRefused: `norm` is 0 or not finite.
    """
    drawn = torch.randn(width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return _usable((drawn * (norm / drawn.norm())).float())


def _usable(direction: Tensor) -> Tensor:
    if not (torch.isfinite(direction).all() and float(direction.float().norm()) > 0):
        raise VectorRefused("A direction that is zero or not finite would steer nothing.")
    return direction


def shuffled(
    labels: ArrayLike, groups: Sequence[str] | NDArray[np.generic] | None, seed: int
) -> NDArray[np.bool_]:
    """Return `labels` (n,) permuted; as many of each kind as before.

    Within every group that holds as many TRUE as FALSE statements (twins), labels are permuted inside the group, so
    that twins stay comparable. All other groups (near copies) exchange their labels as a whole with groups of their
    size, and then inside: labels of one group are alike, and a control that separated them would be too weak.
    """
    mixed = np.array(labels, dtype=bool)
    generator = np.random.default_rng(seed)
    others: dict[int, list[NDArray[np.intp]]] = defaultdict(list)
    for rows in _rows_of(mixed, groups):
        if 2 * int(mixed[rows].sum()) == len(rows):
            mixed[rows] = generator.permutation(mixed[rows])
        else:
            others[len(rows)].append(rows)
    for _, alike in sorted(others.items()):
        table = generator.permutation(mixed[np.array(alike)], axis=0)
        mixed[np.array(alike)] = generator.permuted(table, axis=1)
    return mixed


def _rows_of(
    labels: NDArray[np.bool_], groups: Sequence[str] | NDArray[np.generic] | None
) -> list[NDArray[np.intp]]:
    """Return the rows of every group; without groups every row is its own group."""
    number = (
        np.arange(len(labels)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    )
    if not len(labels):
        return []
    order = np.argsort(number, kind="stable")
    return np.split(order, np.cumsum(np.bincount(number))[:-1])


MEAN_DIFFERENCE = "mean_difference"
PCA = "pca"
GATED = "gated"
AMPLIFY = "amplify"
RANDOM = "random"
SHUFFLED = "shuffled"
IMPORTED = "imported"


@dataclass(frozen=True)
class Strategy:
    """One way of changing activations.

    `constant`: the same vector is added whatever the state, so that other programs can use it. `for_text`: it may
    steer written answers without being asked for.
    """

    name: str
    words: str
    constant: bool = True
    for_text: bool = True


STRATEGIES: dict[str, Strategy] = {
    strategy.name: strategy
    for strategy in (
        Strategy(MEAN_DIFFERENCE, "the paper's: mean state of correct minus that of incorrect traces"),
        Strategy(PCA, "first principal component of correct minus incorrect traces"),
        Strategy(
            GATED,
            "input-dependent: pushes towards TRUE or FALSE by what a read-out of the state says",
            constant=False,
            for_text=False,
        ),
        Strategy(AMPLIFY, "makes what the state says along the mean difference louder", constant=False),
        Strategy(RANDOM, "control: a random vector as long as the mean difference"),
        Strategy(SHUFFLED, "control: the mean difference after the labels were shuffled"),
        Strategy(IMPORTED, "a control vector made by another program"),
    )
}
BUILDABLE = tuple(name for name in STRATEGIES if name != IMPORTED)
