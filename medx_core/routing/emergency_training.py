"""Training the head that recognises emergencies: the same numbers every time.

Scale, the weight of the rules and the threshold come from messages that the fitted part never saw: neither the message,
nor its kind of emergency, nor, where there are several writers, anything by its writer. So does every figure.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no stubs

from medx_core import __version__
from medx_core.clock import iso, utc_now
from medx_core.data.emergency_messages import EmergencyMessage, messages_sha256
from medx_core.routing.embedding_router import Encoder
from medx_core.routing.emergencies import EmergencyHead, Fired
from medx_core.routing.heads import LinearPart, Provenance
from medx_core.routing.red_flags import has_red_flag
from medx_core.routing.router import Floats
from medx_core.routing.tfidf import Vocabulary, learn_vocabulary
from medx_core.routing.training import TOLERANCE, Progress, read_texts

RECALL = 0.91
"""The share of emergencies by unseen writers and of unseen kinds that the threshold lets through."""
KIND_FOLDS = 6
MEANING_INVERSE_PENALTY = 9.0
TERMS_INVERSE_PENALTY = 10.0

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class _Read:
    """Labelled messages as the head reads them: all arrays have a row per message."""

    texts: tuple[str, ...]
    embeddings: Floats
    fired: Fired
    labels: Fired
    kinds: tuple[str, ...]
    writers: tuple[str, ...]

    def only(self, places: Indices) -> "_Read":
        """Return the messages at these places."""
        texts, kinds, writers = (
            tuple(values[place] for place in places) for values in (self.texts, self.kinds, self.writers)
        )
        return _Read(texts, self.embeddings[places], self.fired[places], self.labels[places], kinds, writers)


def rules_sha256() -> str:
    """Return the hash of the rules for red flags, whose weight the head learns."""
    return hashlib.sha256((files("medx_core.routing") / "red_flags.toml").read_bytes()).hexdigest()


def train_emergency_head(
    messages: Sequence[EmergencyMessage], encoder: Encoder, *, seed: int = 1, progress: Progress | None = None
) -> EmergencyHead:
    """Fit a head for `encoder` on labelled messages, and measure it on each writer by the messages of the others."""
    say = progress or (lambda _: None)
    read = _read(messages, encoder, say)
    figures: dict[str, Any] = {"unseen_writers": {}}
    for writer in sorted(set(read.writers)) if len(set(read.writers)) > 1 else ():
        say(f"fitting without writer {writer}")
        inside = np.array([name != writer for name in read.writers])
        provisional = _fitted(read.only(np.flatnonzero(inside)), seed)
        figures["unseen_writers"][writer] = _shares(provisional, read.only(np.flatnonzero(~inside)))
    say("fitting on all messages")
    provenance = Provenance(
        encoder=encoder.name,
        encoder_sha256=encoder.sha256,
        data_sha256=messages_sha256(messages),
        texts=len(messages),
        seed=seed,
        created_at=iso(utc_now()) or "",
        bundled_sha256=messages_sha256(messages),
        figures=figures,
        training={
            "classifier": "logistic regression, classes weighted equally",
            "meaning_inverse_penalty": MEANING_INVERSE_PENALTY,
            "terms_inverse_penalty": TERMS_INVERSE_PENALTY,
            "tolerance": TOLERANCE,
            "recall_out_of_fold": RECALL,
            "kind_folds": KIND_FOLDS,
            "rules_sha256": rules_sha256(),
        },
        versions={
            "medx": __version__,
            **{name: version(name) for name in ("numpy", "scikit-learn", "torch", "transformers")},
        },
    )
    return _fitted(read, seed, provenance)


def _read(messages: Sequence[EmergencyMessage], encoder: Encoder, say: Callable[[str], None]) -> _Read:
    texts = tuple(message.text for message in messages)
    return _Read(
        texts,
        read_texts(encoder, texts, say),
        np.array([has_red_flag(text) for text in texts]),
        np.array([bool(message.emergency) for message in messages]),
        tuple(message.kind for message in messages),
        tuple(message.writer for message in messages),
    )


def _fitted(read: _Read, seed: int, provenance: Provenance | None = None) -> EmergencyHead:
    """Fit a head: its two linear parts on everything, the rest on logits of held-out messages."""
    logits = _held_out_logits(read, seed)
    both = LogisticRegression(C=10.0, random_state=seed).fit(
        np.column_stack([logits, read.fired]), read.labels
    )
    scale, rule = both.coef_[0].tolist()
    (bias,) = both.intercept_.tolist()
    held_out = 1.0 / (1.0 + np.exp(-(logits * scale + read.fired * rule + bias)))
    meaning, terms, vocabulary = _parts(read, seed)
    unknown = Provenance("", "", "", len(read.texts), seed, "")
    return EmergencyHead(
        meaning,
        terms,
        vocabulary,
        scale,
        rule,
        bias,
        threshold=float(np.quantile(held_out[read.labels], 1 - RECALL)),
        provenance=provenance or unknown,
    )


def _held_out_logits(read: _Read, seed: int) -> NDArray[np.float64]:
    """Return each message's logit (n,) by parts fitted on other kinds and, where there are several, other writers."""
    names = sorted(set(read.kinds))
    order = np.random.default_rng(seed).permutation(len(names))
    fold_of = {names[place]: number % KIND_FOLDS for number, place in enumerate(order.tolist())}
    folds = np.array([fold_of[kind] for kind in read.kinds])
    writers = np.array(read.writers)
    several = len(set(read.writers)) > 1
    logits = np.zeros(len(folds))
    for fold in range(KIND_FOLDS):
        for writer in sorted(set(read.writers)):
            test = (folds == fold) & (writers == writer)
            train = (folds != fold) & ((writers != writer) | (not several))
            if test.any():
                meaning, terms, vocabulary = _parts(read.only(np.flatnonzero(train)), seed)
                held_out = read.only(np.flatnonzero(test))
                both = meaning.logits(held_out.embeddings) + terms.logits(vocabulary.features(held_out.texts))
                logits[test] = both[:, 0]
    return logits


def _parts(read: _Read, seed: int) -> tuple[LinearPart, LinearPart, Vocabulary]:
    vocabulary = learn_vocabulary(read.texts)
    features = vocabulary.features(read.texts)
    return (
        _part(read.embeddings, read.labels, MEANING_INVERSE_PENALTY, seed),
        _part(features, read.labels, TERMS_INVERSE_PENALTY, seed),
        vocabulary,
    )


def _part(features: Any, labels: Fired, inverse_penalty: float, seed: int) -> LinearPart:
    model = LogisticRegression(
        C=inverse_penalty, class_weight="balanced", max_iter=1_000, tol=TOLERANCE, random_state=seed
    )
    with threadpool_limits(1, user_api="blas"):
        model.fit(features, labels)
    return LinearPart(model.coef_.astype(np.float32), model.intercept_.astype(np.float32))


def _shares(head: EmergencyHead, read: _Read) -> dict[str, float | int]:
    """Return how a head that never saw these messages judges them."""
    flags = head.probabilities(read.texts, read.embeddings, read.fired) >= head.threshold
    return {
        "emergencies": int(read.labels.sum()),
        "recognised": int((flags & read.labels).sum()),
        "look_alikes": int((~read.labels).sum()),
        "false_alarms": int((flags & ~read.labels).sum()),
    }
