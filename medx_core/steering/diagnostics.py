"""What a steering vector looks like, in figures that are stored with it and shown with it.

None of them says that a vector helps: that takes an evaluation with controls. They say whether it can be taken
seriously at all.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from medx_core.steering.contrast import Traces

DRAWS = 20
"""How often labels are shuffled for `against_shuffled`."""


def cosine(left: Tensor, right: Tensor) -> float:
    """Return the cosine of the angle between two directions (hidden_size,)."""
    return float(torch.nn.functional.cosine_similarity(left.float(), right.float(), dim=0))


def halves_cosine(fit: Callable[[Tensor], Tensor], *, groups: Sequence[str], seed: int) -> float:
    """Return the cosine between the axes fitted to two random halves of the data, groups kept whole.

    `fit` returns the axis (hidden_size,) fitted to the statements that a mask chooses. Near 1: the direction is stable.
    Stable is not medical: see `against_shuffled`.
    """
    first = _random_half(groups, seed)
    return cosine(fit(first), fit(~first))


@dataclass(frozen=True)
class ShuffledLabels:
    """What fits to shuffled labels have in common with the fit to the real ones.

    `cosine` is the mean cosine with the real direction: high where the direction holds the answer words or the class
    prior, not what is true. `cosine_size` is the mean absolute cosine: a direction whose sign comes by chance, as a
    principal component's does, is the same axis each time and yet has a mean cosine near 0. `separation` is the
    largest that any of the shuffled labels reach along their own direction, in pooled standard deviations: labels
    that are told apart no better than that decide nothing about the axis.
    """

    cosine: float
    cosine_size: float
    separation: float


class AxisFit(Protocol):
    """Traces under some labels, and the axis fitted to them."""

    @property
    def traces(self) -> Traces:
        """The states and their labels."""
        ...

    @property
    def axis(self) -> Tensor:
        """The axis (hidden_size,)."""
        ...


def against_shuffled(axis: Tensor, draws: Sequence[AxisFit]) -> ShuffledLabels:
    """Compare the real `axis` (hidden_size,) with fits to shuffled labels. One draw alone says nothing."""
    cosines = [cosine(axis, draw.axis) for draw in draws]
    return ShuffledLabels(
        cosine=sum(cosines) / len(draws),
        cosine_size=sum(map(abs, cosines)) / len(draws),
        separation=max(separation(draw.traces, draw.axis) for draw in draws),
    )


def separation(traces: Traces, direction: Tensor) -> float:
    """Return how far correct and incorrect traces lie apart along the direction, in pooled standard deviations."""
    unit = direction / direction.norm()
    contrast = traces.contrast
    correct, incorrect = contrast.correct @ unit, contrast.incorrect @ unit
    pooled = ((correct.var() + incorrect.var()) / 2).sqrt().clamp(min=1e-12)
    return float((correct.mean() - incorrect.mean()) / pooled)


def shift_of_distribution(before: Tensor, after: Tensor) -> dict[str, float]:
    """Compare hidden states (rows, hidden_size) without and with steering at the steered layer.

    Returns:
        `mean_shift`: distance between the means; `relative`: the same over the mean length of unsteered states;
        `in_deviations`: the same over the root mean variance of unsteered states, for a feeling of its size.
    """
    distance = float((after.mean(dim=0) - before.mean(dim=0)).norm())
    spread = float(before.var(dim=0).sum().sqrt()) or 1.0
    return {
        "mean_shift": distance,
        "relative": distance / float(before.norm(dim=1).mean()),
        "in_deviations": distance / spread,
    }


def cosines_between(directions: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    """Return the cosine of every pair of named directions."""
    return {a: {b: cosine(left, right) for b, right in directions.items()} for a, left in directions.items()}


def _random_half(groups: Sequence[str], seed: int) -> Tensor:
    names = sorted(set(groups))
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
    chosen = {names[i] for i in order[: len(names) // 2]}
    return torch.tensor([group in chosen for group in groups])
