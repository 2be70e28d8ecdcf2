"""Figures about a steering vector that are stored and shown with it.

None of them says that a vector helps: that takes an evaluation with controls. They say whether it can be taken
seriously at all. How stable a direction is, `fitting.build` measures by fitting it again.
"""

from collections.abc import Mapping

import torch
from torch import Tensor


def cosine(left: Tensor, right: Tensor) -> float:
    """Return the cosine of the angle between two directions (hidden_size,)."""
    return float(torch.nn.functional.cosine_similarity(left.float(), right.float(), dim=0))


def cosines_between(directions: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    """Return the cosine of every pair of named directions."""
    return {a: {b: cosine(left, right) for b, right in directions.items()} for a, left in directions.items()}


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
