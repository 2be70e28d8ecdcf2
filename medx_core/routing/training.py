"""Training the default router's head: seconds on a CPU, and the same numbers every time.

The temperature and the figures come from held-out folds, never from the texts a fold was trained on.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from medx_core.categories import Category
from medx_core.clock import iso, utc_now
from medx_core.errors import BadInput
from medx_core.routing.encoders import Encoder
from medx_core.routing.heads import LABELS, RouterHead
from medx_core.routing.router import NONE, Floats

FOLDS = 5
INVERSE_PENALTY = 3.0
THRESHOLD = 0.5

Labels = NDArray[np.int64]


class LabelledText(Protocol):
    """A text and its category; None for a text that belongs to no category."""

    @property
    def text(self) -> str:
        """The text as a user may type it."""
        ...

    @property
    def category(self) -> Category | None:
        """Its category, or None."""
        ...


def train_embedding_router(texts: Sequence[LabelledText], encoder: Encoder, *, seed: int = 1) -> RouterHead:
    """Fit a head for `encoder`.

    Raises:
        BadInput: a category, or `none`, has too few texts.
    """
    labels = label_indices(texts)
    embeddings = encoder.encode([text.text for text in texts])
    held_out = _cross_fitted_logits(embeddings, labels, seed)
    temperature = fitted_temperature(held_out, labels)
    weights, bias = _fit(embeddings, labels, seed)
    in_scope = labels != LABELS.index(NONE)
    right = held_out[in_scope, : len(LABELS) - 1].argmax(axis=1) == labels[in_scope]
    return RouterHead(
        weights=weights,
        bias=bias,
        temperature=temperature,
        threshold=THRESHOLD,
        encoder=encoder.name,
        encoder_sha256=encoder.sha256,
        data_sha256=texts_sha256(texts),
        texts=len(texts),
        seed=seed,
        created_at=iso(utc_now()) or "",
        figures={"accuracy_in_cross_validation": float(right.mean()), "folds": FOLDS},
    )


def label_indices(texts: Sequence[LabelledText]) -> Labels:
    """Return every text's place in LABELS.

    Raises:
        BadInput: a label has fewer than FOLDS texts.
    """
    labels = np.array([LABELS.index(text.category or NONE) for text in texts], dtype=np.int64)
    counts = np.bincount(labels, minlength=len(LABELS))
    if counts.min() < FOLDS:
        raise BadInput(
            f"Training the router needs {FOLDS} texts or more of {LABELS[int(counts.argmin())]}; there are {counts.min()}."
        )
    return labels


def texts_sha256(texts: Sequence[LabelledText]) -> str:
    """Return the hash of texts and labels, whatever their order."""
    rows = sorted((text.text, text.category or NONE) for text in texts)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def fitted_temperature(held_out: Floats, labels: Labels) -> float:
    """Return the temperature under which held-out logits (n, 4) give the labels the greatest likelihood."""
    grid = np.geomspace(0.2, 5.0, 200)
    losses = [_log_loss(held_out / temperature, labels) for temperature in grid]
    return float(grid[int(np.argmin(losses))])


def _log_loss(scaled: Floats, labels: Labels) -> float:
    top = scaled.max(axis=1)
    total = np.log(np.exp(scaled - top[:, None]).sum(axis=1)) + top
    return float((total - scaled[np.arange(len(labels)), labels]).mean())


def _fit(embeddings: Floats, labels: Labels, seed: int) -> tuple[Floats, Floats]:
    model = LogisticRegression(
        C=INVERSE_PENALTY, class_weight="balanced", max_iter=3_000, tol=1e-6, random_state=seed
    )
    model.fit(embeddings.astype(np.float64), labels)
    return model.coef_.astype(np.float32), model.intercept_.astype(np.float32)


def _cross_fitted_logits(embeddings: Floats, labels: Labels, seed: int) -> Floats:
    logits: Floats = np.zeros((len(labels), len(LABELS)), dtype=np.float32)
    for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(embeddings, labels):
        weights, bias = _fit(embeddings[train], labels[train], seed)
        logits[test] = embeddings[test] @ weights.T + bias
    return logits
