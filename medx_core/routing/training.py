"""Training the default router's head: seconds on a CPU, and the same numbers every time.

Temperature, threshold and figures come from held-out folds, never from the texts a fold was trained on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no stubs

from medx_core.categories import Category
from medx_core.clock import iso, utc_now
from medx_core.errors import BadInput
from medx_core.routing.embedding_router import (
    NONE_ROW,
    EmbeddingRouter,
    in_scope_scores,
    part_logits,
    softmax,
)
from medx_core.routing.encoders import Encoder
from medx_core.routing.evaluation import Labelled
from medx_core.routing.heads import (
    LABELS,
    LinearPart,
    RouterHead,
    expected_calibration_error,
    fitted_temperature,
)
from medx_core.routing.router import CATEGORIES, NONE, Floats, LabelledText, texts_sha256
from medx_core.routing.wording import learn_wording


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


FOLDS = 5
MEANING_INVERSE_PENALTY = 9.0
WORDING_INVERSE_PENALTY = 3.0
TOLERANCE = 1e-5
"""Looser, the fit stops early at a place that shifts with every text added, which costs accuracy."""
OWN_TEXTS_LOST = 0.03
"""The share of held-out texts that do belong to a category and may be abstained from: it sets the threshold."""

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class _HeldOut:
    """Logits (n, 4) of texts under heads that were not trained on them."""

    meaning: Floats
    both: Floats


def train_embedding_router(
    bundled: Sequence[LabelledText], encoder: Encoder, *, added: Sequence[LabelledText] = (), seed: int = 1
) -> RouterHead:
    """Fit a head for `encoder` on the bundled texts and those that were added to them.

    Raises:
        BadInput: a category, or `none`, has too few texts.
    """
    texts = with_added(bundled, added)
    labels = label_indices(texts)
    words = [text.text for text in texts]
    embeddings = encoder.encode(words)
    wording = learn_wording(words)
    features = wording.features(words)
    held_out = _cross_fitted(words, embeddings, labels, seed)
    in_scope = labels != NONE_ROW
    logits = np.delete(held_out.both[in_scope], NONE_ROW, axis=1)
    temperature = fitted_temperature(logits, labels[in_scope])
    threshold = float(np.quantile(in_scope_scores(held_out.meaning)[in_scope], OWN_TEXTS_LOST))
    return RouterHead(
        meaning=_fit(embeddings, labels, MEANING_INVERSE_PENALTY, seed),
        wording_part=_fit(features, labels, WORDING_INVERSE_PENALTY, seed),
        wording=wording,
        temperature=temperature,
        threshold=threshold,
        encoder=encoder.name,
        encoder_sha256=encoder.sha256,
        data_sha256=texts_sha256(texts),
        texts=len(texts),
        seed=seed,
        created_at=iso(utc_now()) or "",
        bundled_sha256=texts_sha256(bundled),
        added_texts=len(added),
        figures=_figures(logits / temperature, labels[in_scope]),
    )


def with_added(bundled: Sequence[LabelledText], added: Sequence[LabelledText]) -> tuple[LabelledText, ...]:
    """Return both without repetitions: of texts that differ in case and spaces only, the last one's category counts."""
    last = {" ".join(text.text.casefold().split()): text for text in (*bundled, *added)}
    return tuple(last.values())


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


def _figures(scaled: Floats, labels: Labels) -> dict[str, float]:
    probabilities = softmax(scaled)
    return {
        "folds": FOLDS,
        "accuracy_in_cross_validation": float((probabilities.argmax(axis=1) == labels).mean()),
        "calibration_error_in_cross_validation": expected_calibration_error(probabilities, labels),
    }


def _fit(features: Floats | csr_matrix, labels: Labels, inverse_penalty: float, seed: int) -> LinearPart:
    model = LogisticRegression(
        C=inverse_penalty, class_weight="balanced", max_iter=1_000, tol=TOLERANCE, random_state=seed
    )
    # Products this small gain nothing from a second thread, which on a busy machine waits long for its turn each time.
    with threadpool_limits(1, user_api="blas"):
        model.fit(features, labels)
    return LinearPart(model.coef_.astype(np.float32), model.intercept_.astype(np.float32))


def _cross_fitted(words: Sequence[str], embeddings: Floats, labels: Labels, seed: int) -> _HeldOut:
    meaning: Floats = np.zeros((len(labels), len(LABELS)), dtype=np.float32)
    both: Floats = np.zeros_like(meaning)
    for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(embeddings, labels):
        wording = learn_wording([words[index] for index in train])
        known = _fit(embeddings[train], labels[train], MEANING_INVERSE_PENALTY, seed)
        phrased = _fit(
            wording.features([words[index] for index in train]), labels[train], WORDING_INVERSE_PENALTY, seed
        )
        meaning[test] = part_logits(known, embeddings[test])
        both[test] = meaning[test] + part_logits(phrased, wording.features([words[index] for index in test]))
    return _HeldOut(meaning, both)
