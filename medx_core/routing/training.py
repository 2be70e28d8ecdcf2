"""Training the default router's head: the same numbers every time, most of the time spent reading the texts.

Temperature, threshold and figures come from held-out folds, never from the texts a fold was trained on.
"""

from collections.abc import Callable, Sequence
from importlib.metadata import version

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no stubs

from medx_core import __version__
from medx_core.clock import iso, utc_now
from medx_core.data.routing_texts import RoutingText
from medx_core.routing.embedding_router import EmbeddingRouter, Encoder
from medx_core.routing.evaluation import OWN_TEXTS_LOST, calibrated
from medx_core.routing.heads import LinearPart, Provenance, RouterHead
from medx_core.routing.router import (
    CATEGORIES,
    FEWEST_TEXTS,
    LABELS,
    Floats,
    Labels,
    label_indices,
    texts_sha256,
    with_added,
)
from medx_core.routing.tfidf import MIN_TEXTS, learn_vocabulary

FOLDS = FEWEST_TEXTS
MEANING_INVERSE_PENALTY = 9.0
TERMS_INVERSE_PENALTY = 3.0
TOLERANCE = 1e-5
"""Looser, the fit stops early at a place that shifts with every text added, which costs accuracy."""
READ_AT_A_TIME = 256

Progress = Callable[[str], None]


def train_embedding_router(
    bundled: Sequence[RoutingText],
    encoder: Encoder,
    *,
    added: Sequence[RoutingText] = (),
    seed: int = 1,
    progress: Progress | None = None,
) -> RouterHead:
    """Fit a head for `encoder` on the bundled texts and those that were added to them.

    Raises:
        BadInput: a category, or `none`, has too few texts.
    """
    say = progress or (lambda _: None)
    texts = with_added(bundled, added)
    labels = label_indices(texts)
    words = [text.text for text in texts]
    embeddings = read_texts(encoder, words, say)
    calibration = calibrated(*_cross_fitted(words, embeddings, labels, seed, say), labels)
    vocabulary = learn_vocabulary(words)
    return RouterHead(
        meaning=_fit(embeddings, labels, MEANING_INVERSE_PENALTY, seed),
        terms=_fit(vocabulary.features(words), labels, TERMS_INVERSE_PENALTY, seed),
        vocabulary=vocabulary,
        temperature=calibration.temperature,
        threshold=calibration.threshold,
        provenance=Provenance(
            encoder=encoder.name,
            encoder_sha256=encoder.sha256,
            data_sha256=texts_sha256(texts),
            texts=len(texts),
            seed=seed,
            created_at=iso(utc_now()) or "",
            bundled_sha256=texts_sha256(bundled),
            added_texts=len(added),
            figures={
                "folds": FOLDS,
                "accuracy_in_cross_validation": calibration.accuracy,
                "calibration_error_in_cross_validation": calibration.error,
            },
            training={
                "classifier": "logistic regression, classes weighted equally",
                "meaning_inverse_penalty": MEANING_INVERSE_PENALTY,
                "terms_inverse_penalty": TERMS_INVERSE_PENALTY,
                "tolerance": TOLERANCE,
                "fewest_texts_of_a_term": MIN_TEXTS,
                "own_texts_lost": OWN_TEXTS_LOST,
            },
            versions={
                "medx": __version__,
                **{name: version(name) for name in ("numpy", "scikit-learn", "torch", "transformers")},
            },
        ),
    )


def read_texts(encoder: Encoder, words: Sequence[str], say: Progress) -> Floats:
    """Return the embeddings (n, width), saying every few seconds how many texts were read."""
    parts = []
    for start in range(0, len(words), READ_AT_A_TIME):
        say(f"reading the texts: {start} of {len(words)}")
        parts.append(encoder.encode(words[start : start + READ_AT_A_TIME]))
    return np.concatenate(parts)


def _fit(features: Floats | csr_matrix, labels: Labels, inverse_penalty: float, seed: int) -> LinearPart:
    model = LogisticRegression(
        C=inverse_penalty, class_weight="balanced", max_iter=1_000, tol=TOLERANCE, random_state=seed
    )
    # Products this small gain nothing from a second thread, which on a busy machine waits long for its turn each time.
    with threadpool_limits(1, user_api="blas"):
        model.fit(features, labels)
    return LinearPart(model.coef_.astype(np.float32), model.intercept_.astype(np.float32))


def _cross_fitted(
    words: Sequence[str], embeddings: Floats, labels: Labels, seed: int, say: Progress
) -> tuple[Floats, Floats]:
    """Return logits (n, 4) under heads that were not trained on the text: of both parts, and of meaning alone."""
    meaning: Floats = np.zeros((len(labels), len(LABELS)), dtype=np.float32)
    both: Floats = np.zeros_like(meaning)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(embeddings, labels)
    for number, (train, test) in enumerate(folds, start=1):
        say(f"fitting, fold {number} of {FOLDS}")
        train_words, test_words = [words[index] for index in train], [words[index] for index in test]
        vocabulary = learn_vocabulary(train_words)
        by_meaning = _fit(embeddings[train], labels[train], MEANING_INVERSE_PENALTY, seed)
        by_terms = _fit(vocabulary.features(train_words), labels[train], TERMS_INVERSE_PENALTY, seed)
        meaning[test] = by_meaning.logits(embeddings[test])
        both[test] = meaning[test] + by_terms.logits(vocabulary.features(test_words))
    return both, meaning


class _Remembering:
    """An encoder that reads every text once."""

    def __init__(self, encoder: Encoder, texts: Sequence[str]) -> None:
        self.name, self.sha256, self.width = encoder.name, encoder.sha256, encoder.width
        distinct = list(dict.fromkeys(texts))
        self._rows = dict(zip(distinct, encoder.encode(distinct), strict=True))

    def encode(self, texts: Sequence[str]) -> Floats:
        return np.stack([self._rows[text] for text in texts])


def leave_one_source_out(
    encoder: Encoder, own: Sequence[RoutingText], texts: Sequence[RoutingText], *, seed: int = 1
) -> dict[str, dict[str, float | int]]:
    """Return per source `n` and the accuracy of a router trained on our own texts and all other sources."""
    inside = [text for text in texts if text.category is not None]
    remembering = _Remembering(encoder, [text.text for text in (*own, *inside)])
    figures: dict[str, dict[str, float | int]] = {}
    for source in sorted({text.source for text in inside}):
        others = [text for text in inside if text.source != source]
        held_out = [text for text in inside if text.source == source]
        router = EmbeddingRouter(remembering, train_embedding_router([*own, *others], remembering, seed=seed))
        best = router.scores([text.text for text in held_out])[0].argmax(axis=1)
        right = [CATEGORIES[place] is text.category for place, text in zip(best, held_out, strict=True)]
        figures[source] = {"n": len(held_out), "accuracy": float(np.mean(right))}
    return figures
