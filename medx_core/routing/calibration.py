"""Calibration: making a probability of 0.8 mean right in eight cases of ten, and measuring whether it does."""

import numpy as np
from numpy.typing import NDArray

from medx_core.routing.router import Floats

BINS = 15
_TEMPERATURES = np.geomspace(0.2, 10.0, 300)


def fitted_temperature(logits: Floats, labels: NDArray[np.int64]) -> float:
    """Return the temperature under which held-out logits (n, classes) give the labels the greatest likelihood."""
    losses = [log_loss(logits / temperature, labels) for temperature in _TEMPERATURES]
    return float(_TEMPERATURES[int(np.argmin(losses))])


def log_loss(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """Return the mean negative log-likelihood of labels (n,) under logits (n, classes)."""
    top = logits.max(axis=1)
    total = np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top
    return float((total - logits[np.arange(len(labels)), labels]).mean())


def expected_calibration_error(probabilities: Floats, labels: NDArray[np.int64], bins: int = BINS) -> float:
    """Return how far confidence and accuracy lie apart, averaged over equally wide bins by their share of texts."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(float(confidence[places == place].mean()) - float(right[places == place].mean()))
        * float((places == place).mean())
        for place in np.unique(places)
    ]
    return float(sum(gaps))
