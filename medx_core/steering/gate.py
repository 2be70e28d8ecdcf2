"""The gate of gated steering: a logistic read-out of the state, which decides how far that state is moved.

The read-out s says how much a state looks like those of TRUE statements; the state is then pushed along the answer's
own gradient G by k * tanh(s) logits, with the unsteered bias b0 taken away (see `strategies.GatedShift`):

    h' = h + (k * tanh(s) - b0) / |G| * G / |G|

k and b0 are in answer-logit units, because a share of the state's norm does not carry over between models. What the
read-out finds in the data may be the wording as well as the medicine: only an evaluation with controls can say.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit, logit
from torch import Tensor

from medx_core.errors import VectorRefused

Floats = NDArray[np.float64]

BOUND_STEPS = 100
NEWTON_STEPS = 100
GRADIENT_PER_ROW = 1e-7
DEFAULT_C = 0.003


def logistic_weights(
    features: Floats, target: Floats, *, c: float, intercept: bool = True
) -> tuple[Floats, float]:
    """Fit `target` (rows,), 0 or 1, on `features` (rows, width) with the L2 penalty |weights|^2 / 2c.

    Returns:
        Weights (width,) and the intercept, zero where `intercept` is False.

    Raises:
        VectorRefused: a value is not finite, `c` is not above 0, or the weights do not settle.
    """
    if not (np.isfinite(features).all() and c > 0):
        raise VectorRefused("A read-out needs finite states and a penalty c above 0.")
    rows, width = features.shape
    inputs = np.hstack([features, np.ones((rows, 1))]) if intercept else features
    penalty = np.full(inputs.shape[1], 1 / c)
    weights = np.zeros(inputs.shape[1])
    if intercept:
        penalty[-1] = 0.0
        weights[-1] = logit(np.clip(target.mean(), 0.5 / rows, 1 - 0.5 / rows))
    weights = _settled(inputs, target, penalty, weights)
    return weights[:width], float(weights[width]) if intercept else 0.0


def _settled(inputs: Floats, target: Floats, penalty: Floats, weights: Floats) -> Floats:
    bound = inputs.T @ inputs / 4  # no logistic loss curves more than a quarter
    bound[np.diag_indices_from(bound)] += penalty
    factor = cho_factor(bound, overwrite_a=True, check_finite=False)
    tolerance = GRADIENT_PER_ROW * len(inputs) * max(1.0, float(np.abs(inputs).max()))
    for _ in range(BOUND_STEPS):
        gradient = inputs.T @ (expit(inputs @ weights) - target) + penalty * weights
        if np.abs(gradient).max() <= tolerance:
            return weights
        weights = weights - cho_solve(factor, gradient, check_finite=False)
    # A weak penalty: the bound is far from the curvature, so finish by Newton's method, halving steps that climb.
    loss = _loss(inputs, target, penalty, weights)
    for _ in range(NEWTON_STEPS):
        shares = expit(inputs @ weights)
        gradient = inputs.T @ (shares - target) + penalty * weights
        if np.abs(gradient).max() <= tolerance:
            return weights
        curvature = (inputs * (shares * (1 - shares))[:, None]).T @ inputs
        curvature[np.diag_indices_from(curvature)] += np.maximum(penalty, 1e-9)
        step = cho_solve(cho_factor(curvature, check_finite=False), gradient, check_finite=False)
        before = loss
        for _ in range(40):
            loss = _loss(inputs, target, penalty, weights - step)
            if loss <= before:
                break
            step = step / 2
        weights = weights - step
    raise VectorRefused("The read-out does not settle; use a stronger penalty (a smaller c).")


def _loss(inputs: Floats, target: Floats, penalty: Floats, weights: Floats) -> float:
    margins = inputs @ weights
    losses = np.logaddexp(0.0, margins) - target * margins
    return float(losses.sum() + (penalty * weights**2).sum() / 2)


@dataclass(frozen=True)
class Gate:
    """A linear read-out of a state: s = weight . h + bias, with standard deviation 1 on the states it was fitted on."""

    weight: Tensor  # (hidden_size,) float32
    bias: float

    def values(self, states: Tensor) -> Tensor:
        """Return s for `states` (..., hidden_size): shape (...), float32, on the states' device."""
        return states.float() @ self.weight.to(states.device) + self.bias


def fit_gate(
    states: Tensor,
    gold: ArrayLike,
    *,
    c: float = DEFAULT_C,
    groups: Sequence[str] | None = None,
    differences: bool = False,
) -> Gate:
    """Fit a read-out of `gold` (n,) from `states` (n, hidden_size): L2 logistic regression on z-scored states.

    With `differences`, it is fitted on true minus false within each of `groups` (twins), which takes away whatever
    the two share; groups that hold one kind only are left out, and s gets median 0 on `states`, since differences
    say nothing about where zero is.

    Raises:
        VectorRefused: one kind of statement is missing, no group holds both kinds, or a state is not finite.
    """
    labels = np.asarray(gold, dtype=bool)
    values = states.detach().cpu().double().numpy()
    if values.ndim != 2 or len(values) != len(labels):
        raise VectorRefused(f"{len(labels)} labels do not fit states of shape {tuple(values.shape)}.")
    deviation = values.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    if differences:
        rows = twin_differences(values, labels, groups)
        weight, _ = logistic_weights(rows / deviation, np.ones(len(rows)), c=c, intercept=False)
        weight = weight / deviation
        bias = -float(np.median(values @ weight))
    else:
        if labels.all() or not labels.any():
            raise VectorRefused("A gate needs both TRUE and FALSE statements; the data holds one kind only.")
        mean = values.mean(axis=0)
        weight, intercept = logistic_weights((values - mean) / deviation, labels.astype(float), c=c)
        weight = weight / deviation
        bias = intercept - float(weight @ mean)
    spread = float((values @ weight).std())
    if not 0 < spread < float("inf"):
        raise VectorRefused("The states do not differ along the read-out, so it cannot tell them apart.")
    return Gate(torch.tensor(weight / spread, dtype=torch.float32), float(bias / spread))


def twin_differences(values: Floats, labels: NDArray[np.bool_], groups: Sequence[str] | None) -> Floats:
    """Return mean TRUE minus mean FALSE of `values` (n, width) within each group that holds both: (groups, width).

    Raises:
        VectorRefused: there are no groups, or none holds both kinds.
    """
    if groups is None or len(groups) != len(labels):
        raise VectorRefused(
            "Fitting on twins needs to know which statements belong together, one group per statement."
        )
    names, number = np.unique(np.asarray(groups), return_inverse=True)
    trues, falses = (np.bincount(number[kind], minlength=len(names)) for kind in (labels, ~labels))
    share = np.where(labels, 1 / np.maximum(trues, 1)[number], -1 / np.maximum(falses, 1)[number])
    sums = np.zeros((len(names), values.shape[1]))
    np.add.at(sums, number, values * share[:, None])
    both = (trues > 0) & (falses > 0)
    if not both.any():
        raise VectorRefused("No group holds both a TRUE and a FALSE statement; fit on statements instead.")
    return sums[both]
