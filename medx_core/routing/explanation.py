"""Why a text was routed as it was: the training texts it lies nearest to, and the words that weighed most."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medx_core.categories import Category
from medx_core.routing.embedding_router import EmbeddingRouter
from medx_core.routing.heads import LABELS
from medx_core.routing.router import LabelledText

NEAREST = 5
WORDS = 6


@dataclass(frozen=True)
class NearText:
    """A training text and how alike it is, from -1 to 1."""

    text: str
    category: Category | None
    likeness: float


@dataclass(frozen=True)
class Explanation:
    """The nearest training texts, and the words that spoke for each category, strongest first."""

    nearest: tuple[NearText, ...]
    words: dict[str, tuple[str, ...]]


def explain(router: EmbeddingRouter, text: str, training: Sequence[LabelledText]) -> Explanation:
    """Say what speaks for the route of one text."""
    rows = router.encoder.encode([text, *(known.text for known in training)])
    likeness = rows[1:] @ rows[0]
    nearest = tuple(
        NearText(training[index].text, training[index].category, float(likeness[index]))
        for index in np.argsort(-likeness, kind="stable")[:NEAREST].tolist()
    )
    return Explanation(nearest, _weighty_words(router, text))


def _weighty_words(router: EmbeddingRouter, text: str) -> dict[str, tuple[str, ...]]:
    wording, part = router.head.wording, router.head.wording_part
    row = wording.features([text])
    columns, values = row.indices, row.data
    shares = part.weights[:, columns] * values
    spoken = {}
    for place, label in enumerate(LABELS):
        strongest = np.argsort(-shares[place], kind="stable")[:WORDS]
        spoken[label] = tuple(wording.terms[columns[i]] for i in strongest.tolist() if shares[place, i] > 0)
    return spoken
