"""Training the head that recognises emergencies: the same numbers every time.

Scale, the weight of the rules and the threshold come from messages that the fitted part never saw: neither the message,
nor its kind of emergency, nor, where there are several writers, anything by its writer. So does every figure.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from medx_core.routing.emergencies import (
    EmergencyHead,
    Logits,
    MessageParts,
    detect,
    windows,
)
from medx_core.routing.heads import LinearPart, Provenance
from medx_core.routing.red_flags import WRONG_DOSE, red_flags, rules
from medx_core.routing.router import Floats
from medx_core.routing.tfidf import learn_vocabulary
from medx_core.routing.training import TOLERANCE, Progress, read_texts

RECALL = 0.92
"""The share of emergencies by unseen writers and of unseen kinds that the threshold lets through.

With .90, two writers kept aside had .875 of theirs recognised and 5 % false alarms: half of what is allowed."""
KIND_FOLDS = 4
MEANING_INVERSE_PENALTY = 9.0
TERMS_INVERSE_PENALTY = 10.0
SUM_INVERSE_PENALTY = 0.3
"""For the weights of whole, window and rules: strong, as some rules fire on few messages."""
JOINED_EACH = 4
"""Of so many messages one is measured once more beside harmless sentences of another message."""
ALONE_PRECISION, ALONE_HITS = 0.95, 15
"""A rule that fires on so many messages, of which this share are emergencies, decides alone."""

Indices = NDArray[np.int64]
Labels = NDArray[np.bool_]
_SENTENCE_END = re.compile(r"(?<=[.?!])\s+")


@dataclass(frozen=True)
class _Read:
    """Labelled messages as the head reads them: a row of each array per message, `read` has every window's embedding.

    `joined` are messages beside harmless sentences of others: no part is fitted on them.
    """

    texts: tuple[str, ...]
    embeddings: Floats
    window_rows: dict[str, Floats]
    fired: tuple[tuple[str, ...], ...]
    labels: Labels
    joined: Labels
    kinds: tuple[str, ...]
    writers: tuple[str, ...]

    def only(self, places: Indices) -> "_Read":
        """Return the messages at these places."""
        texts, kinds, writers = (
            tuple(values[place] for place in places) for values in (self.texts, self.kinds, self.writers)
        )
        return replace(
            self,
            texts=texts,
            embeddings=self.embeddings[places],
            fired=tuple(self.fired[place] for place in places),
            labels=self.labels[places],
            joined=self.joined[places],
            kinds=kinds,
            writers=writers,
        )

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return the embeddings (n, width) of windows, which were read before."""
        return np.stack([self.window_rows[text] for text in texts])


def rules_sha256() -> str:
    """Return the hash of the rules for red flags, whose weight the head learns."""
    return hashlib.sha256((files("medx_core.routing") / "red_flags.toml").read_bytes()).hexdigest()


def train_emergency_head(
    messages: Sequence[EmergencyMessage], encoder: Encoder, *, seed: int = 1, progress: Progress | None = None
) -> EmergencyHead:
    """Fit a head for `encoder` on labelled messages, and measure it on each writer by the messages of the others."""
    say = progress or (lambda _: None)
    read = _read(messages, encoder, seed, say)
    figures: dict[str, Any] = {"unseen_writers": {}, "unseen_writers_joined": {}}
    for writer in sorted(set(read.writers)) if len(set(read.writers)) > 1 else ():
        say(f"fitting without writer {writer}")
        inside = np.array([name != writer for name in read.writers])
        provisional = _fitted(read.only(np.flatnonzero(inside)), seed)
        for name, chosen in (("unseen_writers", ~read.joined), ("unseen_writers_joined", read.joined)):
            figures[name][writer] = _shares(provisional, read.only(np.flatnonzero(~inside & chosen)))
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
            "sum_inverse_penalty": SUM_INVERSE_PENALTY,
            "tolerance": TOLERANCE,
            "recall_out_of_fold": RECALL,
            "kind_folds": KIND_FOLDS,
            "joined_each": JOINED_EACH,
            "alone": {"precision": ALONE_PRECISION, "hits": ALONE_HITS},
            "rules_sha256": rules_sha256(),
        },
        versions={
            "medx": __version__,
            **{name: version(name) for name in ("numpy", "scikit-learn", "torch", "transformers")},
        },
    )
    return _fitted(read, seed, provenance)


def _read(messages: Sequence[EmergencyMessage], encoder: Encoder, seed: int, say: Progress) -> _Read:
    joined = _joined(messages, seed)
    every = (*messages, *joined)
    texts = tuple(message.text for message in every)
    pieces = list(dict.fromkeys(piece for text in texts for piece in windows(text)))
    rows = read_texts(encoder, (*texts, *pieces), say)
    return _Read(
        texts,
        rows[: len(texts)],
        dict(zip(pieces, rows[len(texts) :], strict=True)),
        tuple(red_flags(text) for text in texts),
        np.array([bool(message.emergency) for message in every]),
        np.arange(len(every)) >= len(messages),
        tuple(message.kind for message in every),
        tuple(message.writer for message in every),
    )


def _joined(messages: Sequence[EmergencyMessage], seed: int) -> list[EmergencyMessage]:
    """Return one in JOINED_EACH messages beside one to three harmless sentences of look-alikes by the same writer."""
    random = np.random.default_rng(seed)
    harmless: dict[str, list[str]] = {}
    for message in messages:
        if not message.emergency:
            sentences = _SENTENCE_END.split(message.text)
            harmless.setdefault(message.writer, []).extend(s for s in sentences if len(s.split()) > 3)
    joined = []
    for number, message in enumerate(messages[::JOINED_EACH]):
        choice = harmless.get(message.writer)
        if choice:
            others = [choice[place] for place in random.integers(len(choice), size=1 + number % 3)]
            parts = [message.text, *others] if number % 2 else [*others, message.text]
            text = " ".join(part if part.endswith((".", "?", "!")) else f"{part}." for part in parts)
            joined.append(replace(message, text=text))
    return joined


def _fitted(read: _Read, seed: int, provenance: Provenance | None = None) -> EmergencyHead:
    """Fit a head: its two linear parts on all messages that are not joined, the rest on logits of held-out ones."""
    names = [*(rule.name for rule in rules()), WRONG_DOSE]
    by_rule = np.array([[name in fired for name in names] for fired in read.fired], dtype=float)
    evidence = np.column_stack([_held_out_logits(read, seed), by_rule.any(axis=1), by_rule])
    both = LogisticRegression(C=SUM_INVERSE_PENALTY, max_iter=1_000, random_state=seed).fit(
        evidence, read.labels
    )
    whole, window, rule, *weights = both.coef_[0].tolist()
    held_out = both.predict_proba(evidence)[:, 1]
    own = read.only(np.flatnonzero(~read.joined))
    hits = by_rule[~read.joined]
    right, fired = hits[own.labels].sum(axis=0), hits.sum(axis=0)
    unknown = Provenance("", "", "", len(own.texts), seed, "")
    return EmergencyHead(
        _parts(own, seed),
        whole,
        window,
        rule,
        dict(zip(names, weights, strict=True)),
        float(both.intercept_[0]),
        threshold=float(np.quantile(held_out[read.labels], 1 - RECALL)),
        alone=tuple(
            name
            for name, share, count in zip(names, right / np.maximum(fired, 1), fired, strict=True)
            if count >= ALONE_HITS and share >= ALONE_PRECISION
        ),
        provenance=provenance or unknown,
    )


def _held_out_logits(read: _Read, seed: int) -> Logits:
    """Return each message's logits (n, 2), whole and highest window, by parts fitted on other kinds and writers."""
    names = sorted(set(read.kinds))
    order = np.random.default_rng(seed).permutation(len(names))
    fold_of = {names[place]: number % KIND_FOLDS for number, place in enumerate(order.tolist())}
    folds = np.array([fold_of[kind] for kind in read.kinds])
    writers = np.array(read.writers)
    several = len(set(read.writers)) > 1
    logits = np.zeros((len(folds), 2))
    for fold in range(KIND_FOLDS):
        for writer in sorted(set(read.writers)):
            test = (folds == fold) & (writers == writer)
            train = (folds != fold) & ((writers != writer) | (not several)) & ~read.joined
            if test.any():
                parts = _parts(read.only(np.flatnonzero(train)), seed)
                held_out = read.only(np.flatnonzero(test))
                logits[test] = parts.logits(held_out.texts, held_out.embeddings, read.encode)
    return logits


def _parts(read: _Read, seed: int) -> MessageParts:
    vocabulary = learn_vocabulary(read.texts)
    features = vocabulary.features(read.texts)
    return MessageParts(
        _part(read.embeddings, read.labels, MEANING_INVERSE_PENALTY, seed),
        _part(features, read.labels, TERMS_INVERSE_PENALTY, seed),
        vocabulary,
    )


def _part(features: Any, labels: Labels, inverse_penalty: float, seed: int) -> LinearPart:
    model = LogisticRegression(
        C=inverse_penalty, class_weight="balanced", max_iter=1_000, tol=TOLERANCE, random_state=seed
    )
    with threadpool_limits(1, user_api="blas"):
        model.fit(features, labels)
    return LinearPart(model.coef_.astype(np.float32), model.intercept_.astype(np.float32))


def _shares(head: EmergencyHead, read: _Read) -> dict[str, int]:
    """Return how a head that never saw these messages judges them."""
    flags = np.array(
        [detection.flag for detection in detect(read.texts, read.embeddings, head, read.encode)], dtype=bool
    )
    return {
        "emergencies": int(read.labels.sum()),
        "recognised": int((flags & read.labels).sum()),
        "look_alikes": int((~read.labels).sum()),
        "false_alarms": int((flags & ~read.labels).sum()),
    }
