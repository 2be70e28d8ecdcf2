"""L2 logistic regression for many labellings of the same rows at once.

A self-test and the shuffled controls fit hundreds of read-outs on the same states, so the costly part (one Cholesky
factor of a bound on the curvature, Böhning and Lindsay 1988) is computed once and every step after that is cheap.
Each step goes down; with the strong penalties used here some ten to forty are enough. The objective is that of
scikit-learn: |w|^2 / 2 + c * sum of log losses, the intercept unpenalised.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit, logit

from medx_core.errors import VectorRefused

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
