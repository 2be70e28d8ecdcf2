"""What a steering vector looks like, in figures that are stored with it and shown beside it.

None of them says that a vector helps: that takes an evaluation with controls. They say whether it can be taken
seriously at all.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from medx_core.steering.contrast import Traces, mean_of_contrast

T = TypeVar("T", bound=Traces)


def cosine(left: Tensor, right: Tensor) -> float:
    """Return the cosine of the angle between two directions (hidden_size,)."""
    return float(torch.nn.functional.cosine_similarity(left.float(), right.float(), dim=0))


def halves_cosine(
    traces: T, *, groups: Sequence[str], seed: int, fit: Callable[[T], Tensor] | None = None
) -> float:
    """Return the cosine between vectors from two random halves of the data, twins kept together.

    Near 1: the direction is stable. Stable is not medical: see `against_shuffled`. `fit` makes the direction, the
    mean difference by default.
    """
    read = fit or _mean_difference
    first = _random_half(groups, seed)
    return cosine(read(traces.part(first)), read(traces.part(~first)))


@dataclass(frozen=True)
class ShuffledLabels:
    """What a fit makes of labels that mean nothing, beside the direction that the real ones give.

    `cosine` is the mean cosine with the real direction: high where the direction holds the answer words or the class
    prior, not what is true. `cosine_size` is the mean absolute cosine: a direction whose sign comes by chance, as a
    principal component's does, is the same axis each time and yet has a mean cosine near 0. `separation` is the
    largest that any of the shuffled labels reach along their own direction, in pooled standard deviations: labels
    that are told apart no better than that decide nothing about the axis.
    """

    cosine: float
    cosine_size: float
    separation: float


def against_shuffled(
    traces: T, *, seed: int, draws: int = 20, fit: Callable[[T], Tensor] | None = None
) -> ShuffledLabels:
    """Fit the traces again under `draws` shufflings of their labels. One draw alone says nothing."""
    read = fit or _mean_difference
    generator = torch.Generator().manual_seed(seed)
    real = read(traces)
    cosines, separations = [], []
    for _ in range(draws):
        mixed = traces.relabelled(traces.gold[torch.randperm(len(traces.gold), generator=generator)])
        direction = read(mixed)
        cosines.append(cosine(real, direction))
        separations.append(separation(mixed, direction))
    return ShuffledLabels(
        cosine=sum(cosines) / draws,
        cosine_size=sum(map(abs, cosines)) / draws,
        separation=max(separations),
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


def _mean_difference(traces: Traces) -> Tensor:
    return mean_of_contrast(traces.contrast)


def _random_half(groups: Sequence[str], seed: int) -> Tensor:
    names = sorted(set(groups))
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
    chosen = {names[i] for i in order[: len(names) // 2]}
    return torch.tensor([group in chosen for group in groups])
