"""Contrast traces, the direction that is read from them, and the random and shuffled ones that it must beat.

Every statement gives a contrast pair: its prompt followed by the correct and by the incorrect answer word. The
paper's vector is the mean hidden state over correct traces minus that over incorrect ones (MEDASSESS-X, arXiv
2601.12812, section 3). Which states represent "correct" and "incorrect" is the reading; the readings differ, even in
sign, so a vector always names its own.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from medx_core.errors import VectorRefused


@dataclass(frozen=True)
class ContrastTraces:
    """States of labelled statements; the labels stay apart, so that a contrast can be made for other rows or labels.

    `states` is (2, statements, hidden_size), inside the TRUE and inside the FALSE answer to each statement, or
    (statements, hidden_size), at the last prompt token. `gold` (statements,) is True for the true statements or, for
    the reading `model_right`, for those that the model judges right.
    """

    states: Tensor
    gold: Tensor
    reading: str

    @property
    def paired(self) -> bool:
        """Whether every statement has a correct and an incorrect trace."""
        return self.states.ndim == 3

    @property
    def sides(self) -> tuple[Tensor, Tensor]:
        """The correct and the incorrect states, (rows, hidden_size) each; where paired, in the order of the statements.

        Raises:
            VectorRefused: one side is empty.
        """
        if self.paired:
            gold, (in_true, in_false) = self.gold[:, None], self.states
            correct, incorrect = torch.where(gold, in_true, in_false), torch.where(gold, in_false, in_true)
        else:
            correct, incorrect = self.states[self.gold], self.states[~self.gold]
        if not len(correct) or not len(incorrect):
            raise VectorRefused(
                f"The reading {self.reading} found no correct or no incorrect traces; a vector needs both."
            )
        return correct, incorrect

    def part(self, chosen: Tensor) -> "ContrastTraces":
        """Return the statements that `chosen` (a mask or indices) names."""
        return replace(self, states=self.states[..., chosen, :], gold=self.gold[chosen])

    def relabelled(self, gold: Tensor) -> "ContrastTraces":
        """Return the same states under other labels."""
        return replace(self, gold=gold)


def mean_difference(traces: ContrastTraces) -> Tensor:
    """Return the paper's vector (hidden_size,): mean correct minus mean incorrect state.

    Pairs are averaged within TRUE and within FALSE statements first, which keeps the share t of TRUE statements out of
    the direction; otherwise the reading `answer_word` is mostly (2t - 1) times the difference of the answer words.

    Raises:
        VectorRefused: one side or, of pairs, one class of statements is missing, or the means are equal.
    """
    correct, incorrect = traces.sides
    if not traces.paired:
        return _usable(correct.mean(dim=0) - incorrect.mean(dim=0))
    gold = traces.gold.bool()
    if bool(gold.all()) or not bool(gold.any()):
        raise VectorRefused("A vector needs both TRUE and FALSE statements; the data holds one kind only.")
    difference = correct - incorrect
    return _usable((difference[gold].mean(dim=0) + difference[~gold].mean(dim=0)) / 2)


def pca(traces: ContrastTraces) -> Tensor:
    """Return the first principal component of the correct-minus-incorrect differences, correct scoring higher.

    The differences are not centred, since their common part is the signal. The length is that of the mean difference,
    so that a strength means the same for both. Traces that are not paired are each compared with the mean of the other
    side.

    Raises:
        VectorRefused: one side is missing, or the differences vanish.
    """
    norm = float(mean_difference(traces).float().norm())
    correct, incorrect = traces.sides
    if traces.paired:
        differences = correct - incorrect
    else:
        differences = torch.cat([correct - incorrect.mean(dim=0), correct.mean(dim=0) - incorrect])
    # float64 and the smaller Gram matrix: the same component for every number of threads
    _, _, axes = torch.linalg.svd(differences.double(), full_matrices=False)
    axis = axes[0]
    gap = float(axis @ (correct.double().mean(dim=0) - incorrect.double().mean(dim=0)))
    return _usable(((axis if gap >= 0 else -axis) * norm).float())


def midpoint(traces: ContrastTraces, direction: Tensor) -> float:
    """Return where the middle between the two sides' means lies along the unit axis of `direction`."""
    correct, incorrect = traces.sides
    unit = direction.float() / float(direction.float().norm())
    middle = (correct.float().mean(dim=0) + incorrect.float().mean(dim=0)) / 2
    return float(middle @ unit)


def separation(traces: ContrastTraces, direction: Tensor) -> float:
    """Return how far correct and incorrect traces lie apart along the direction, in pooled standard deviations."""
    unit = direction / direction.norm()
    correct, incorrect = (side @ unit for side in traces.sides)
    pooled = ((correct.var() + incorrect.var()) / 2).sqrt().clamp(min=1e-12)
    return float((correct.mean() - incorrect.mean()) / pooled)


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


def shuffled(labels: ArrayLike, groups: Sequence[str] | NDArray[np.generic], seed: int) -> NDArray[np.bool_]:
    """Return `labels` (n,) permuted; as many of each kind as before.

    Within every group that holds as many TRUE as FALSE statements (twins), labels are permuted inside the group, so
    that twins stay comparable. All other groups (near copies) exchange their labels as a whole with groups of their
    size, and then inside: labels of one group are alike, and a control that separated them would be too weak.
    """
    mixed = np.array(labels, dtype=bool)
    generator = np.random.default_rng(seed)
    number = np.unique(np.asarray(groups), return_inverse=True)[1]
    rows_by_group = np.split(np.argsort(number, kind="stable"), np.cumsum(np.bincount(number))[:-1])
    others: dict[int, list[NDArray[np.intp]]] = defaultdict(list)
    for rows in rows_by_group:
        if 2 * int(mixed[rows].sum()) == len(rows):
            mixed[rows] = generator.permutation(mixed[rows])
        else:
            others[len(rows)].append(rows)
    for _, alike in sorted(others.items()):
        table = generator.permutation(mixed[np.array(alike)], axis=0)
        mixed[np.array(alike)] = generator.permuted(table, axis=1)
    return mixed
