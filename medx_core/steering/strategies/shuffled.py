"""The other control: labels that mean nothing, permuted before anything is fitted on them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def shuffled(
    labels: ArrayLike, groups: Sequence[str] | NDArray[np.generic] | None, seed: int
) -> NDArray[np.bool_]:
    """Return `labels` (n,) permuted; as many of each kind as before.

    Within every group that holds as many TRUE as FALSE ones (twins), labels are permuted inside the group, so that
    what makes twins comparable stays. All other labels are permuted among themselves.
    """
    mixed = np.array(labels, dtype=bool)
    generator = np.random.default_rng(seed)
    inside = _balanced_groups(mixed, groups)
    for rows in inside:
        mixed[rows] = generator.permutation(mixed[rows])
    free = np.ones(len(mixed), dtype=bool)
    for rows in inside:
        free[rows] = False
    mixed[free] = generator.permutation(mixed[free])
    return mixed


def _balanced_groups(
    labels: NDArray[np.bool_], groups: Sequence[str] | NDArray[np.generic] | None
) -> list[NDArray[np.intp]]:
    if groups is None or not len(labels):
        return []
    number = np.unique(np.asarray(groups), return_inverse=True)[1]
    order = np.argsort(number, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(number))[:-1])
    return [rows for rows in parts if 2 * int(labels[rows].sum()) == len(rows)]
