"""The one interface of all routers, and how probabilities become a `Route`."""

import hashlib
import json
from collections.abc import Sequence
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medx_core.categories import Category, Route, RouteSource
from medx_core.routing.red_flags import has_red_flag

CATEGORIES: tuple[Category, ...] = (Category.TRIAGE, Category.LITERATURE, Category.PATIENT_FACING)
"""The order of the categories in every array of this package."""

NONE = "none"
"""The label of texts that belong to no category."""

LABELS: tuple[str, ...] = (*(category.value for category in CATEGORIES), NONE)
"""The order of logits: the three categories, then `none`."""

NONE_ROW = LABELS.index(NONE)

Floats = NDArray[np.float32]


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


class Router(Protocol):
    """Decides the category of questions. Holds no state that a call changes, so threads may share one."""

    @property
    def name(self) -> str:
        """What is stored with every route it decides: the kind of router and which weights."""
        ...

    def route(self, texts: Sequence[str]) -> tuple[Route, ...]:
        """Route every text; the category is None where the router abstains."""
        ...


class ScoringRouter(Router, Protocol):
    """A router that also says how far a text lies inside its field; what evaluation measures."""

    def scores(self, texts: Sequence[str]) -> tuple[Floats, Floats]:
        """Return probabilities (n, 3) in the order of CATEGORIES, and in-scope scores (n,) from 0 to 1."""
        ...

    @property
    def threshold(self) -> float:
        """The in-scope score below which the router abstains."""
        ...


def routes_from(
    texts: Sequence[str], probabilities: Floats, in_scope: Floats, *, threshold: float, router: str
) -> tuple[Route, ...]:
    """Turn probabilities (n, 3) and in-scope scores (n,) into routes."""
    return tuple(
        Route(
            category=CATEGORIES[int(row.argmax())] if scope >= threshold else None,
            probabilities=MappingProxyType(
                {category: float(value) for category, value in zip(CATEGORIES, row, strict=True)}
            ),
            source=RouteSource.ROUTER,
            red_flag=has_red_flag(text),
            router=router,
        )
        for text, row, scope in zip(texts, probabilities, in_scope, strict=True)
    )


def texts_sha256(texts: Sequence[LabelledText]) -> str:
    """Return the hash of texts and labels, whatever their order."""
    rows = sorted((text.text, str(text.category or NONE)) for text in texts)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def with_added(bundled: Sequence[LabelledText], added: Sequence[LabelledText]) -> tuple[LabelledText, ...]:
    """Return both without repetitions: of texts that differ in case and spaces only, the last one's category counts."""
    last = {" ".join(text.text.casefold().split()): text for text in (*bundled, *added)}
    return tuple(last.values())


def in_scope_scores(logits: Floats) -> Floats:
    """Return from logits (n, 4) how likely each text belongs to a category, that is not to `none`: (n,)."""
    scores: Floats = (1.0 - softmax(logits)[:, NONE_ROW]).astype(np.float32)
    return scores


def softmax(logits: Floats) -> Floats:
    """Return the softmax of every row."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True)) if logits.size else logits
    shares: Floats = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares
