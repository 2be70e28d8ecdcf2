"""The default router: a linear head on sentence embeddings and terms. At run time: one encoder pass, two products."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from medx_core.categories import Category, Route
from medx_core.data.routing_texts import RoutingText
from medx_core.errors import RouterUnavailable
from medx_core.routing.emergencies import Detection, EmergencyHead, detect, find_emergency_head
from medx_core.routing.encoder_files import encoder_folder, folder_sha256
from medx_core.routing.heads import TRAIN_IT, RouterHead, find_head
from medx_core.routing.router import LABELS, Floats, ScoringRouter, category_probabilities, in_scope_scores
from medx_core.routing.tfidf import Vocabulary

NEAREST = 5
CANDIDATES = 40
"""Texts that are compared by meaning; reading them is most of the time that an explanation takes."""
TERMS_SHOWN = 6


class Encoder(Protocol):
    """Turns texts into vectors."""

    @property
    def name(self) -> str:
        """The encoder as the settings name it."""

    @property
    def sha256(self) -> str:
        """The hash of everything that decides an embedding."""

    @property
    def width(self) -> int:
        """The number of values in a row."""

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return one row of length 1 per text, float32 (n, width)."""


@dataclass(frozen=True)
class EmbeddingRouter(ScoringRouter):
    """An encoder and the heads that were trained on it. `own_threshold` None uses the head's.

    Without an `emergency` head the rules for red flags decide alone.
    """

    encoder: Encoder
    head: RouterHead
    own_threshold: float | None = None
    emergency: EmergencyHead | None = None

    @property
    def name(self) -> str:
        """What is stored with every route."""
        return f"embedding/{self.head.version}"

    @property
    def threshold(self) -> float:
        """The in-scope score below which the router abstains."""
        return self.head.threshold if self.own_threshold is None else self.own_threshold

    def route(self, texts: Sequence[str]) -> tuple[Route, ...]:
        """Route every text and look for emergencies: one pass of the encoder, more for the windows of longer texts."""
        embeddings = self.encoder.encode(texts)
        flags = [
            detection.flag for detection in detect(texts, embeddings, self.emergency, self.encoder.encode)
        ]
        return self.routes_from(*self.scores_of(texts, embeddings), flags)

    def scores(self, texts: Sequence[str]) -> tuple[Floats, Floats]:
        """Return probabilities (n, 3) in the order of CATEGORIES, and in-scope scores (n,) from 0 to 1."""
        return self.scores_of(texts, self.encoder.encode(texts))

    def scores_of(self, texts: Sequence[str], embeddings: Floats) -> tuple[Floats, Floats]:
        """Return the same for texts whose embeddings (n, width) are known."""
        meaning = self.head.meaning.logits(embeddings)
        both = meaning + self.head.terms.logits(self.head.vocabulary.features(texts))
        return category_probabilities(both, self.head.temperature), in_scope_scores(meaning)


def load_embedding_router(
    encoder_name: str,
    routers_folder: Path,
    *,
    device: str = "cpu",
    threshold: float = 0.0,
    few_texts: bool = False,
) -> EmbeddingRouter:
    """Load the head in use and its encoder, the head first: it is quick to find missing.

    Args:
        encoder_name: the wheel's, a folder or a hub id.
        routers_folder: where heads that were trained here are.
        device: `cpu` or `cuda:N`.
        threshold: 0 leaves the head's own.
        few_texts: read texts with NumPy where the encoder allows it: slower per text, but ready without torch.

    Raises:
        RouterUnavailable: the encoder cannot be loaded, or no head was trained for it.
    """
    folder = encoder_folder(encoder_name)
    sha256 = folder_sha256(folder)
    head, _ = find_head(routers_folder, sha256)
    encoder = _load_encoder(encoder_name, folder, sha256, device=device, few_texts=few_texts)
    width = head.meaning.weights.shape[1]
    if width != encoder.width:
        raise RouterUnavailable(f"The router head is {width} wide, not {encoder.width}; {TRAIN_IT}.")
    return EmbeddingRouter(encoder, head, threshold or None, find_emergency_head(routers_folder, sha256))


def _load_encoder(name: str, folder: Path, sha256: str, *, device: str, few_texts: bool) -> Encoder:
    if few_texts:
        from medx_core.routing.numpy_encoder import can_read, load_numpy_encoder

        if can_read(folder):
            return load_numpy_encoder(name, folder, sha256)
    from medx_core.routing.encoders import load_encoder  # imports torch and transformers

    return load_encoder(name, device=device)


@dataclass(frozen=True)
class NearText:
    """A training text and the cosine of its embedding with the text explained."""

    text: str
    category: Category | None
    likeness: float


@dataclass(frozen=True)
class Explanation:
    """Why a text was routed as it was.

    `nearest` are the most similar of the training texts that share terms with it; `terms` are, per label, its words
    and word pairs that added most to that label's logit, strongest first.
    """

    route: Route
    in_scope: float
    emergency: Detection
    nearest: tuple[NearText, ...]
    terms: dict[str, tuple[str, ...]]


def explain(router: EmbeddingRouter, text: str, training: Sequence[RoutingText]) -> Explanation:
    """Route one text and say what speaks for its route."""
    candidates = _sharing_terms(router.head.vocabulary, text, training)
    rows = router.encoder.encode([text, *(candidate.text for candidate in candidates)])
    probabilities, in_scope = router.scores_of([text], rows[:1])
    (emergency,) = detect([text], rows[:1], router.emergency, router.encoder.encode)
    (route,) = router.routes_from(probabilities, in_scope, [emergency.flag])
    likeness = rows[1:] @ rows[0]
    nearest = tuple(
        NearText(candidates[place].text, candidates[place].category, float(likeness[place]))
        for place in np.argsort(-likeness, kind="stable")[:NEAREST].tolist()
    )
    return Explanation(route, float(in_scope[0]), emergency, nearest, _strongest_terms(router.head, text))


def _sharing_terms(vocabulary: Vocabulary, text: str, training: Sequence[RoutingText]) -> list[RoutingText]:
    """Return the training texts with the most similar terms: embedding all takes half a minute on two cores."""
    shared = vocabulary.features([known.text for known in training]) @ vocabulary.features([text]).T
    order = np.argsort(-shared.toarray().ravel(), kind="stable")[:CANDIDATES]
    return [training[place] for place in order.tolist()]


def _strongest_terms(head: RouterHead, text: str) -> dict[str, tuple[str, ...]]:
    row = head.vocabulary.features([text])
    shares = head.terms.weights[:, row.indices] * row.data  # (labels, terms of the text)
    return {
        label: tuple(
            head.vocabulary.terms[row.indices[place]]
            for place in np.argsort(-share, kind="stable")[:TERMS_SHOWN].tolist()
            if share[place] > 0
        )
        for label, share in zip(LABELS, shares, strict=True)
    }
