"""Gated steering: how far a state is moved depends on the state itself.

A logistic read-out s of the state says how much it looks like those of TRUE statements; the state is then pushed along
the answer's own gradient G by k * tanh(s) logits, with the unsteered bias b0 taken away:

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
from medx_core.steering.hooks import Shift

Floats = NDArray[np.float64]

BOUND_STEPS = 100
NEWTON_STEPS = 100
GRADIENT_A_ROW = 1e-7


def logistic_weights(
    features: Floats, targets: Floats, *, c: float, intercept: bool = True
) -> tuple[Floats, Floats]:
    """Fit every column of `targets` (rows, labellings; 0 or 1) on the same `features` (rows, width).

    Returns:
        Weights (labellings, width) and intercepts (labellings,), zero where `intercept` is False.

    Raises:
        VectorRefused: a value is not finite, `c` is not above 0, or the weights do not settle.
    """
    if not (np.isfinite(features).all() and c > 0):
        raise VectorRefused("A read-out needs finite states and a penalty c above 0.")
    rows, width = features.shape
    inputs = np.hstack([features, np.ones((rows, 1))]) if intercept else features
    penalty = np.full(inputs.shape[1], 1 / c)
    start = np.zeros((inputs.shape[1], targets.shape[1]))
    if intercept:
        penalty[-1] = 0.0
        start[-1] = logit(np.clip(targets.mean(axis=0), 0.5 / rows, 1 - 0.5 / rows))
    weights = _settled(inputs, targets, penalty, start)
    return weights[:width].T.copy(), weights[width] if intercept else np.zeros(targets.shape[1])


def _settled(inputs: Floats, targets: Floats, penalty: Floats, weights: Floats) -> Floats:
    bound = inputs.T @ inputs / 4  # no logistic loss curves more than a quarter
    bound[np.diag_indices_from(bound)] += penalty
    factor = cho_factor(bound, overwrite_a=True, check_finite=False)
    tolerance = GRADIENT_A_ROW * len(inputs) * max(1.0, float(np.abs(inputs).max()))
    for _ in range(BOUND_STEPS):
        gradient = inputs.T @ (expit(inputs @ weights) - targets) + penalty[:, None] * weights
        if np.abs(gradient).max() <= tolerance:
            return weights
        weights = weights - cho_solve(factor, gradient, check_finite=False)
    # A weak penalty: the bound is far from the curvature, so finish each labelling by Newton's method.
    finished = [
        _newton(inputs, targets[:, i], penalty, weights[:, i], tolerance) for i in range(weights.shape[1])
    ]
    return np.stack(finished, axis=1)


def _newton(inputs: Floats, target: Floats, penalty: Floats, weights: Floats, tolerance: float) -> Floats:
    loss = _loss(inputs, target, penalty, weights)
    for _ in range(NEWTON_STEPS):
        shares = expit(inputs @ weights)
        gradient = inputs.T @ (shares - target) + penalty * weights
        if np.abs(gradient).max() <= tolerance:
            return weights
        curvature = (inputs * (shares * (1 - shares))[:, None]).T @ inputs
        curvature[np.diag_indices_from(curvature)] += np.maximum(penalty, 1e-9)
        step = cho_solve(cho_factor(curvature, check_finite=False), gradient, check_finite=False)
        weights, loss = _descended(inputs, target, penalty, (weights, step, loss))
    raise VectorRefused("The read-out does not settle; use a stronger penalty (a smaller c).")


def _descended(
    inputs: Floats, target: Floats, penalty: Floats, at: tuple[Floats, Floats, float]
) -> tuple[Floats, float]:
    """Halve the step until the loss goes down."""
    weights, step, before = at
    for _ in range(40):
        after = _loss(inputs, target, penalty, weights - step)
        if after <= before:
            break
        step = step / 2
    return weights - step, after


def _loss(inputs: Floats, target: Floats, penalty: Floats, weights: Floats) -> float:
    margins = inputs @ weights
    losses = np.logaddexp(0.0, margins) - target * margins
    return float(losses.sum() + (penalty * weights**2).sum() / 2)


DEFAULT_C = 0.003

Groups = Sequence[str] | NDArray[np.generic]


@dataclass(frozen=True)
class Gate:
    """A linear read-out of a state: s = weight . h + bias, with standard deviation 1 on the states it was fitted on."""

    weight: Tensor  # (hidden_size,) float32
    bias: float

    def values(self, states: Tensor) -> Tensor:
        """Return s for `states` (..., hidden_size): shape (...), float32, on the states' device."""
        return states.float() @ self.weight.to(states.device) + self.bias


@dataclass(frozen=True)
class GatedShift:
    """The shift (k * tanh(s) - b0) * push, where adding `push` once raises TRUE against FALSE by one logit."""

    gate: Gate
    push: Tensor  # (hidden_size,): G / |G|^2
    k: float
    b0: float

    def __call__(self, states: Tensor) -> Tensor:
        """Return each state's own shift, in the states' device and number type."""
        logits = self.k * torch.tanh(self.gate.values(states)) - self.b0
        return (logits[..., None] * self.push.to(states.device)).to(states.dtype)


def gated_shift(gate: Gate, gradient: Tensor, k: float, b0: float) -> Shift:
    """Make the shift of a gate along `gradient` (hidden_size,), the mean gradient of logit(TRUE) - logit(FALSE).

    `k` is the strength in logits; `b0` the median unsteered logit difference over the training statements.

    Raises:
        VectorRefused: the gradient is zero, not finite, or of another length than the gate.
    """
    direction = gradient.detach().float().cpu()
    if direction.shape != gate.weight.shape:
        raise VectorRefused(
            f"A gate over {tuple(gate.weight.shape)} values cannot push along a gradient of shape {tuple(direction.shape)}."
        )
    squared = float(direction.double().square().sum())
    if not 0 < squared < float("inf"):
        raise VectorRefused("The answer's gradient is zero or not finite, so there is nothing to push along.")
    return GatedShift(gate, direction / squared, k, b0)


def fit_gate(
    states: Tensor,
    gold: ArrayLike,
    *,
    c: float = DEFAULT_C,
    groups: Groups | None = None,
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
    if differences:
        return _fit_on_differences(states, labels, groups, c)
    return fit_gates(states, labels[None], c=c)[0]


def fit_gates(states: Tensor, golds: ArrayLike, *, c: float = DEFAULT_C) -> tuple[Gate, ...]:
    """Fit one read-out for every labelling in `golds` (labellings, n) of the same states: much faster than one by one.

    Raises:
        VectorRefused: a labelling holds one kind only, or a state is not finite.
    """
    labellings = np.asarray(golds, dtype=bool)
    values = _values(states, labellings.shape[1])
    if labellings.all(axis=1).any() or not labellings.any(axis=1).all():
        raise VectorRefused("A gate needs both TRUE and FALSE statements; the data holds one kind only.")
    mean, deviation = values.mean(axis=0), _deviation(values)
    weights, intercepts = logistic_weights((values - mean) / deviation, labellings.T.astype(float), c=c)
    weights = weights / deviation
    biases = intercepts - weights @ mean
    return tuple(_scaled(values, weight, bias) for weight, bias in zip(weights, biases, strict=True))


def _fit_on_differences(states: Tensor, labels: NDArray[np.bool_], groups: Groups | None, c: float) -> Gate:
    values = _values(states, len(labels))
    rows = twin_differences(values, labels, groups)
    deviation = _deviation(values)
    weights, _ = logistic_weights(rows / deviation, np.ones((len(rows), 1)), c=c, intercept=False)
    weight = weights[0] / deviation
    return _scaled(values, weight, -float(np.median(values @ weight)))


def twin_differences(values: Floats, labels: NDArray[np.bool_], groups: Groups | None) -> Floats:
    """Return mean TRUE minus mean FALSE of `values` (n, width) within each group that holds both: (groups, width).

    Raises:
        VectorRefused: there are no groups, or none holds both kinds.
    """
    if groups is None or len(groups) != len(labels):
        raise VectorRefused(
            "Fitting on twins needs to know which statements belong together, one group a row."
        )
    number = np.unique(np.asarray(groups), return_inverse=True)[1]
    count = int(number.max()) + 1 if len(number) else 0
    trues = np.bincount(number[labels], minlength=count)
    falses = np.bincount(number[~labels], minlength=count)
    share = np.where(labels, 1 / np.maximum(trues, 1)[number], -1 / np.maximum(falses, 1)[number])
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, number, values * share[:, None])
    both = (trues > 0) & (falses > 0)
    if not both.any():
        raise VectorRefused("No group holds both a TRUE and a FALSE statement; fit on statements instead.")
    return sums[both]


def _values(states: Tensor, rows: int) -> Floats:
    values = states.detach().cpu().double().numpy()
    if values.ndim != 2 or len(values) != rows:
        raise VectorRefused(f"{rows} labels do not fit states of shape {tuple(values.shape)}.")
    return np.asarray(values, dtype=np.float64)


def _deviation(values: Floats) -> Floats:
    deviation = values.std(axis=0)
    return np.where(deviation > 0, deviation, 1.0)


def _scaled(values: Floats, weight: Floats, bias: float) -> Gate:
    spread = float((values @ weight).std())
    if not 0 < spread < float("inf"):
        raise VectorRefused("The states do not differ along the read-out, so it cannot tell them apart.")
    return Gate(torch.tensor(weight / spread, dtype=torch.float32), float(bias / spread))
