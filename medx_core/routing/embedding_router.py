"""The default router: a linear head on sentence embeddings and wording. At run time: one encoder pass, two products."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from medx_core.categories import Route
from medx_core.errors import RouterUnavailable
from medx_core.routing.encoders import Encoder, load_encoder
from medx_core.routing.heads import LABELS, TRAIN_IT, LinearPart, RouterHead, head_path, load_head
from medx_core.routing.router import NONE, Floats, routes_from

NONE_ROW = LABELS.index(NONE)


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
        return head_scores(self.head, self.encoder.encode(texts), self.head.wording.features(texts))


def head_scores(head: RouterHead, embeddings: Floats, words: csr_matrix) -> tuple[Floats, Floats]:
    """Return probabilities (n, 3) given that a text is in scope, and in-scope scores (n,)."""
    meaning = part_logits(head.meaning, embeddings)
    both = meaning + part_logits(head.wording_part, words)
    within: Floats = (np.delete(both, NONE_ROW, axis=1) / head.temperature).astype(np.float32)
    return softmax(within), in_scope_scores(meaning)


def part_logits(part: LinearPart, features: Floats | csr_matrix) -> Floats:
    """Return one part's logits (n, 4) for features (n, width), dense or sparse."""
    scored: Floats = (features @ part.weights.T + part.bias).astype(np.float32)
    return scored


def in_scope_scores(meaning: Floats) -> Floats:
    """Return from logits (n, 4) of the meaning part how likely each text is no `none`, (n,)."""
    scores: Floats = (1.0 - softmax(meaning)[:, NONE_ROW]).astype(np.float32)
    return scores


def softmax(scaled: Floats) -> Floats:
    """Return the softmax of every row."""
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True)) if scaled.size else scaled
    shares: Floats = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares


def load_embedding_router(
    encoder_name: str, routers_folder: Path, *, device: str = "cpu", threshold: float = 0.0
) -> EmbeddingRouter:
    """Load encoder and head. A `threshold` of 0 leaves the head's own.

    Raises:
        RouterUnavailable: the encoder cannot be loaded, or no head was trained for it.
    """
    encoder = load_encoder(encoder_name, device=device)
    head = load_head(head_path(routers_folder, encoder.sha256), encoder_sha256=encoder.sha256)
    width = head.meaning.weights.shape[1]
    if width != encoder.width:
        raise RouterUnavailable(f"The router head is {width} wide, not {encoder.width}; {TRAIN_IT}.")
    return EmbeddingRouter(encoder, head, threshold or None)
