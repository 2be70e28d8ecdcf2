"""The default router: a linear head on sentence embeddings. At run time it is one encoder pass and one product."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medx_core.categories import Route
from medx_core.errors import RouterUnavailable
from medx_core.routing.encoders import Encoder, load_encoder
from medx_core.routing.heads import LABELS, TRAIN_IT, RouterHead, head_path, load_head
from medx_core.routing.router import NONE, Floats, routes_from

_NONE_ROW = LABELS.index(NONE)


@dataclass(frozen=True)
class EmbeddingRouter:
    """An encoder and the head that was trained on it. `own_threshold` None uses the head's."""

    encoder: Encoder
    head: RouterHead
    own_threshold: float | None = None

    @property
    def name(self) -> str:
        """What is stored with every route."""
        return f"embedding/{self.head.version}"

    @property
    def threshold(self) -> float:
        """The in-scope score below which the router abstains."""
        return self.head.threshold if self.own_threshold is None else self.own_threshold

    def route(self, texts: Sequence[str]) -> tuple[Route, ...]:
        """Route every text; the category is None where the router abstains."""
        probabilities, in_scope = self.scores(texts)
        return routes_from(texts, probabilities, in_scope, threshold=self.threshold, router=self.name)

    def scores(self, texts: Sequence[str]) -> tuple[Floats, Floats]:
        """Return probabilities (n, 3) in the order of CATEGORIES, and in-scope scores (n,) from 0 to 1."""
        return scores_from_logits(logits(self.head, self.encoder.encode(texts)) / self.head.temperature)


def logits(head: RouterHead, embeddings: Floats) -> Floats:
    """Return the head's logits (n, 4) for embeddings (n, width), before the temperature."""
    scored: Floats = embeddings @ head.weights.T + head.bias
    return scored


def scores_from_logits(scaled: Floats) -> tuple[Floats, Floats]:
    """Turn logits (n, 4) into probabilities (n, 3) given that the text is in scope, and in-scope scores (n,)."""
    shares = softmax(scaled)
    in_scope: Floats = (1.0 - shares[:, _NONE_ROW]).astype(np.float32)
    return softmax(np.delete(scaled, _NONE_ROW, axis=1)), in_scope


def softmax(scaled: Floats) -> Floats:
    """Return the softmax of every row."""
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True)) if scaled.size else scaled
    shares: Floats = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares


def load_router(
    encoder_name: str, routers_folder: Path, *, device: str = "cpu", threshold: float = 0.0
) -> EmbeddingRouter:
    """Load encoder and head. A `threshold` of 0 leaves the head's own.

    Raises:
        RouterUnavailable: the encoder cannot be loaded, or no head was trained for it.
    """
    encoder = load_encoder(encoder_name, device=device)
    head = load_head(head_path(routers_folder, encoder.sha256), encoder_sha256=encoder.sha256)
    width = encoder.network.config.hidden_size
    if head.weights.shape[1] != width:
        raise RouterUnavailable(f"The router head is {head.weights.shape[1]} wide, not {width}; {TRAIN_IT}.")
    return EmbeddingRouter(encoder, head, threshold or None)
