"""What accuracy on a source nobody has seen would be: each source is left out of training in its turn."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medx_core.categories import Category
from medx_core.routing.embedding_router import EmbeddingRouter
from medx_core.routing.encoders import Encoder
from medx_core.routing.evaluation import Labelled
from medx_core.routing.router import CATEGORIES, Floats, LabelledText
from medx_core.routing.training import train_embedding_router


@dataclass(frozen=True)
class _Text:
    text: str
    category: Category | None


class _Remembering:
    """An encoder that reads every text once."""

    def __init__(self, encoder: Encoder, texts: Sequence[str]) -> None:
        self.name, self.sha256, self.width = encoder.name, encoder.sha256, encoder.width
        distinct = list(dict.fromkeys(texts))
        self._rows = dict(zip(distinct, encoder.encode(distinct), strict=True))

    def encode(self, texts: Sequence[str]) -> Floats:
        return np.stack([self._rows[text] for text in texts])


def leave_one_source_out(
    encoder: Encoder, own: Sequence[LabelledText], data: Labelled, *, seed: int = 1
) -> dict[str, dict[str, float | int]]:
    """Return per source `n` and the accuracy of a router trained on our own texts and all other sources."""
    remembering = _Remembering(encoder, [*(text.text for text in own), *data.texts])
    rows = list(zip(data.texts, data.categories, data.sources, strict=True))
    figures: dict[str, dict[str, float | int]] = {}
    for source in sorted(set(data.sources)):
        others = [_Text(text, category) for text, category, where in rows if where != source]
        asked = [(text, category) for text, category, where in rows if where == source]
        router = EmbeddingRouter(remembering, train_embedding_router([*own, *others], remembering, seed=seed))
        best = router.scores([text for text, _ in asked])[0].argmax(axis=1)
        right = [CATEGORIES[place] is category for place, (_, category) in zip(best, asked, strict=True)]
        figures[source] = {"n": len(asked), "accuracy": float(np.mean(right))}
    return figures
