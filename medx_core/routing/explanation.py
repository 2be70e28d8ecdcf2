"""Why a text was routed as it was: the training texts it lies nearest to, and the words that weighed most."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medx_core.categories import Category
from medx_core.routing.embedding_router import EmbeddingRouter
from medx_core.routing.heads import LABELS
from medx_core.routing.router import LabelledText

NEAREST = 5
CANDIDATES = 150
WORDS = 6


@dataclass(frozen=True)
class NearText:
    """A training text and how alike it is, from -1 to 1."""

    text: str
    category: Category | None
    likeness: float


@dataclass(frozen=True)
class Explanation:
    """The nearest of the training texts that share words with it, and the words that spoke for each category, strongest first."""

    nearest: tuple[NearText, ...]
    words: dict[str, tuple[str, ...]]


def explain(router: EmbeddingRouter, text: str, training: Sequence[LabelledText]) -> Explanation:
    """Say what speaks for the route of one text."""
    near_words = _most_alike_in_wording(router, text, training)
    rows = router.encoder.encode([text, *(known.text for known in near_words)])
    likeness = rows[1:] @ rows[0]
    nearest = tuple(
        NearText(near_words[index].text, near_words[index].category, float(likeness[index]))
        for index in np.argsort(-likeness, kind="stable")[:NEAREST].tolist()
    )
    return Explanation(nearest, _weighty_words(router, text))


def _most_alike_in_wording(
    router: EmbeddingRouter, text: str, training: Sequence[LabelledText]
) -> list[LabelledText]:
    """Return the texts that share most words: embedding all of them would take half a minute on two cores."""
    wording = router.head.wording
    shared = wording.features([known.text for known in training]) @ wording.features([text]).T
    alike = np.argsort(-shared.toarray().ravel(), kind="stable")[:CANDIDATES]
    return [training[index] for index in alike.tolist()]


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
