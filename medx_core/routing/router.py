"""The interface of all routers, and how their scores become routes."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medx_core.categories import Category, Route, RouteSource
from medx_core.data.routing_texts import RoutingText
from medx_core.errors import BadInput
from medx_core.routing.red_flags import has_red_flag

CATEGORIES: tuple[Category, ...] = (Category.TRIAGE, Category.LITERATURE, Category.PATIENT_FACING)
"""The order of the categories in every array of this package."""

NONE = "none"
"""The label of texts that belong to no category."""

LABELS: tuple[str, ...] = (*(category.value for category in CATEGORIES), NONE)
"""The order of logits: the three categories, then `none`."""

NONE_ROW = LABELS.index(NONE)
FEWEST_TEXTS = 5
"""The texts of each label without which no router is trained; as many as there are folds."""

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]


class Router(Protocol):
    """Decides the category of questions. Holds no state that a call changes, so threads may share it."""

    @property
    def name(self) -> str:
        """What is stored with every route: the kind of router and which weights."""

    def route(self, texts: Sequence[str]) -> tuple[Route, ...]:
        """Route every text; the category is None where the router abstains."""


class ScoringRouter(Router, ABC):
    """A router that abstains from texts whose in-scope score is below its threshold."""

    @property
    @abstractmethod
    def threshold(self) -> float:
        """The in-scope score below which the router abstains."""

    @abstractmethod
    def scores(self, texts: Sequence[str]) -> tuple[Floats, Floats]:
        """Return probabilities (n, 3) in the order of CATEGORIES, and in-scope scores (n,) from 0 to 1."""

    def route(self, texts: Sequence[str]) -> tuple[Route, ...]:
        """Route every text; the category is None where the router abstains."""
        return self.routes_from(*self.scores(texts), [has_red_flag(text) for text in texts])

    def routes_from(
        self, probabilities: Floats, in_scope: Floats, red_flags: Sequence[bool]
    ) -> tuple[Route, ...]:
        """Turn the scores of texts, and whether each tells of an emergency, into their routes."""
        return tuple(
            Route(
                category=CATEGORIES[int(row.argmax())] if scope >= self.threshold else None,
                probabilities=MappingProxyType(
                    {category: float(value) for category, value in zip(CATEGORIES, row, strict=True)}
                ),
                source=RouteSource.ROUTER,
                red_flag=red_flag,
                router=self.name,
            )
            for row, scope, red_flag in zip(probabilities, in_scope, red_flags, strict=True)
        )


def texts_sha256(texts: Sequence[RoutingText]) -> str:
    """Return the hash of texts and labels, whatever their order."""
    rows = sorted((text.text, str(text.category or NONE)) for text in texts)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def with_added(bundled: Sequence[RoutingText], added: Sequence[RoutingText]) -> tuple[RoutingText, ...]:
    """Return both without repetitions: of texts that differ in case and spaces only, the last one's category counts."""
    last = {" ".join(text.text.casefold().split()): text for text in (*bundled, *added)}
    return tuple(last.values())


def label_indices(texts: Sequence[RoutingText]) -> Labels:
    """Return every text's place in LABELS.

    Raises:
        BadInput: a label has fewer than FEWEST_TEXTS texts.
    """
    labels = np.array([LABELS.index(text.category or NONE) for text in texts], dtype=np.int64)
    counts = np.bincount(labels, minlength=len(LABELS))
    if counts.min() < FEWEST_TEXTS:
        label = LABELS[int(counts.argmin())]
        raise BadInput(
            f"Training the router needs {FEWEST_TEXTS} texts or more of {label}; there are {counts.min()}."
        )
    return labels


def category_probabilities(logits: Floats, temperature: float) -> Floats:
    """Return from logits (n, 4) the probabilities (n, 3) of the categories, `none` left out."""
    return softmax(np.delete(logits, NONE_ROW, axis=1) / np.float32(temperature))


def in_scope_scores(logits: Floats) -> Floats:
    """Return from logits (n, 4) how likely each text belongs to a category, that is not to `none`: (n,)."""
    scores: Floats = (1.0 - softmax(logits)[:, NONE_ROW]).astype(np.float32)
    return scores


def softmax(logits: Floats) -> Floats:
    """Return the softmax of every row."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True)) if logits.size else logits
    shares: Floats = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares
