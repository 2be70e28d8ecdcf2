"""Training the default router's head: the same numbers every time, most of the time spent reading the texts.

Temperature, threshold and figures come from held-out folds, never from the texts a fold was trained on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no stubs

from medx_core import __version__
from medx_core.categories import Category
from medx_core.clock import iso, utc_now
from medx_core.errors import BadInput
from medx_core.routing.embedding_router import EmbeddingRouter, Encoder, part_logits
from medx_core.routing.evaluation import Labelled, expected_calibration_error, fitted_temperature
from medx_core.routing.heads import LinearPart, Provenance, RouterHead
from medx_core.routing.router import (
    CATEGORIES,
    LABELS,
    NONE,
    NONE_ROW,
    Floats,
    LabelledText,
    in_scope_scores,
    softmax,
    texts_sha256,
    with_added,
)
from medx_core.routing.tfidf import MIN_TEXTS, learn_vocabulary

FOLDS = 5
MEANING_INVERSE_PENALTY = 9.0
TERMS_INVERSE_PENALTY = 3.0
TOLERANCE = 1e-5
"""Looser, the fit stops early at a place that shifts with every text added, which costs accuracy."""
OWN_TEXTS_LOST = 0.03
"""The share of held-out texts that do belong to a category and may be abstained from: it sets the threshold."""
READ_AT_A_TIME = 256

Labels = NDArray[np.int64]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class _HeldOut:
    """Logits (n, 4) of texts under heads that were not trained on them."""

    meaning: Floats
    both: Floats


def train_embedding_router(
    bundled: Sequence[LabelledText],
    encoder: Encoder,
    *,
    added: Sequence[LabelledText] = (),
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
    embeddings = _read(encoder, words, say)
    held_out = _cross_fitted(words, embeddings, labels, seed, say)
    in_scope = labels != NONE_ROW
    logits = np.delete(held_out.both[in_scope], NONE_ROW, axis=1)
    temperature = fitted_temperature(logits, labels[in_scope])
    vocabulary = learn_vocabulary(words)
    return RouterHead(
        meaning=_fit(embeddings, labels, MEANING_INVERSE_PENALTY, seed),
        terms=_fit(vocabulary.features(words), labels, TERMS_INVERSE_PENALTY, seed),
        vocabulary=vocabulary,
        temperature=temperature,
        threshold=float(np.quantile(in_scope_scores(held_out.meaning)[in_scope], OWN_TEXTS_LOST)),
        provenance=Provenance(
            encoder=encoder.name,
            encoder_sha256=encoder.sha256,
            data_sha256=texts_sha256(texts),
            texts=len(texts),
            seed=seed,
            created_at=iso(utc_now()) or "",
            bundled_sha256=texts_sha256(bundled),
            added_texts=len(added),
            figures=_figures(logits / temperature, labels[in_scope]),
            training=_training_settings(),
            versions=_versions(),
        ),
    )


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


def _read(encoder: Encoder, words: Sequence[str], say: Progress) -> Floats:
    """Return the embeddings (n, width), saying every few seconds how many texts were read."""
    parts = []
    for start in range(0, len(words), READ_AT_A_TIME):
        say(f"reading the texts: {start} of {len(words)}")
        parts.append(encoder.encode(words[start : start + READ_AT_A_TIME]))
    return np.concatenate(parts)


def _figures(scaled: Floats, labels: Labels) -> dict[str, float]:
    probabilities = softmax(scaled)
    return {
        "folds": FOLDS,
        "accuracy_in_cross_validation": float((probabilities.argmax(axis=1) == labels).mean()),
        "calibration_error_in_cross_validation": expected_calibration_error(probabilities, labels),
    }


def _training_settings() -> dict[str, float | str]:
    return {
        "classifier": "logistic regression, classes weighted equally",
        "meaning_inverse_penalty": MEANING_INVERSE_PENALTY,
        "terms_inverse_penalty": TERMS_INVERSE_PENALTY,
        "tolerance": TOLERANCE,
        "fewest_texts_of_a_term": MIN_TEXTS,
        "own_texts_lost": OWN_TEXTS_LOST,
    }


def _versions() -> dict[str, str]:
    packages = ("numpy", "scikit-learn", "torch", "transformers")
    return {"medx": __version__, **{package: version(package) for package in packages}}


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
) -> _HeldOut:
    meaning: Floats = np.zeros((len(labels), len(LABELS)), dtype=np.float32)
    both: Floats = np.zeros_like(meaning)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(embeddings, labels)
    for number, (train, test) in enumerate(folds, start=1):
        say(f"fitting, fold {number} of {FOLDS}")
        train_words, test_words = [words[index] for index in train], [words[index] for index in test]
        vocabulary = learn_vocabulary(train_words)
        by_meaning = _fit(embeddings[train], labels[train], MEANING_INVERSE_PENALTY, seed)
        by_terms = _fit(vocabulary.features(train_words), labels[train], TERMS_INVERSE_PENALTY, seed)
        meaning[test] = part_logits(by_meaning, embeddings[test])
        both[test] = meaning[test] + part_logits(by_terms, vocabulary.features(test_words))
    return _HeldOut(meaning, both)


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
        others = [_Text(text, category) for text, category, origin in rows if origin != source]
        held_out = [(text, category) for text, category, origin in rows if origin == source]
        router = EmbeddingRouter(remembering, train_embedding_router([*own, *others], remembering, seed=seed))
        best = router.scores([text for text, _ in held_out])[0].argmax(axis=1)
        right = [CATEGORIES[place] is category for place, (_, category) in zip(best, held_out, strict=True)]
        figures[source] = {"n": len(held_out), "accuracy": float(np.mean(right))}
    return figures
