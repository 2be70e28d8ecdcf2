"""The other control: labels that mean nothing, permuted before anything is fitted on them."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def shuffled(
    labels: ArrayLike, groups: Sequence[str] | NDArray[np.generic] | None, seed: int
) -> NDArray[np.bool_]:
    """Return `labels` (n,) permuted; as many of each kind as before.

    Within every group that holds as many TRUE as FALSE ones (twins), labels are permuted inside the group, so that
    what makes twins comparable stays. All other groups (near copies) exchange their labels as a whole with groups of
    their size, and then inside: labels of one group are alike, and a control that tore them apart would be too weak.
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
    """Return the rows of every group; without groups every row is one of its own."""
    number = (
        np.arange(len(labels)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    )
    if not len(labels):
        return []
    order = np.argsort(number, kind="stable")
    return np.split(order, np.cumsum(np.bincount(number))[:-1])
