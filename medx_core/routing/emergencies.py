"""Recognising messages that tell of an emergency: the rules for red flags together with a learned part.

The learned part is one small head on what the router computes anyway: the text's embedding and its terms. It reads lay
words, slang and shorthand, which rules miss; rules read what an embedding cannot see (negation, doses, numbers). The
head adds both: a rule that fires raises the score by the weight that was learned for it.

One vector for a whole letter hides a sign that is told in passing. So a text of more than WINDOW sentences and
WHOLE_WORDS words is scored once more by its most alarming window of neighbouring sentences, with the same head; only
such texts cost more passes of the encoder.

Without a head for the encoder in use, or without an encoder, the rules decide alone, and `Detection.why` says so. It is
no triage: where nothing is flagged, nothing is said.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medx_core.errors import RouterUnavailable
from medx_core.routing.heads import (
    TRAIN_IT,
    LinearPart,
    Provenance,
    load_with_provenance,
    save_with_provenance,
    shipped_heads,
    stored_part,
    stored_provenance,
    stored_terms,
    tensors_of,
)
from medx_core.routing.red_flags import MAX_CHARACTERS, red_flags, rules
from medx_core.routing.router import Floats
from medx_core.routing.tfidf import Vocabulary

FORMAT = "medx-emergency-head-2"
WHOLLY_READ = 1_000
"""Characters of a text that an encoder surely reads (256 tokens); beyond them a rule that fires decides alone."""
FEW_WORDS = 10
"""In a text of up to so many words, too few to be told apart by meaning, a rule that fires decides alone as well."""
WHOLE_WORDS = 25
"""A text of up to so many words is scored as a whole only."""
WINDOW = 2
"""The sentences that are read together."""
_SENTENCE = re.compile(r"(?<=[.?!;])\s+|\n+")
_FEWEST_WORDS = 4
"""A shorter sentence is read with the one before it."""

_NUMBERS = ("whole", "window", "rule", "bias", "threshold")

Encode = Callable[[Sequence[str]], Floats]


Logits = NDArray[np.float64]


@dataclass(frozen=True)
class MessageParts:
    """What was fitted on messages: a logit by the meaning of a text, one by its terms, added."""

    meaning: LinearPart
    terms: LinearPart
    vocabulary: Vocabulary

    def logits(self, texts: Sequence[str], embeddings: Floats, encode: Encode) -> Logits:
        """Return two logits per text (n, 2): its own, and the highest of it and its windows.

        Args:
            texts: the texts.
            embeddings: theirs, (n, width).
            encode: reads the windows of longer texts.
        """
        whole = self._sums(texts, embeddings)
        pieces = [windows(text) for text in texts]
        distinct = list(dict.fromkeys(piece for own in pieces for piece in own))
        scored = dict(zip(distinct, self._sums(distinct, encode(distinct)), strict=True)) if distinct else {}
        highest = [
            max([logit, *(scored[piece] for piece in own)]) for logit, own in zip(whole, pieces, strict=True)
        ]
        return np.column_stack([whole, highest])

    def _sums(self, texts: Sequence[str], embeddings: Floats) -> Logits:
        both = self.meaning.logits(embeddings) + self.terms.logits(self.vocabulary.features(texts))
        return both[:, 0].astype(np.float64)


@dataclass(frozen=True)
class EmergencyHead:
    """A linear classifier of texts by their parts and by the rules that fire.

    The logit of an emergency is `whole` times the text's own, plus `window` times the highest of it and its windows,
    plus `rule` where any rule fires and the weight in `rules` of each that does, plus `bias`. A text is flagged where
    the probability reaches `threshold`, or where a rule fires that decides `alone`: those were right in nearly all the
    training messages they fired on.
    """

    parts: MessageParts
    whole: float
    window: float
    rule: float
    rules: Mapping[str, float]
    bias: float
    threshold: float
    alone: tuple[str, ...]
    provenance: Provenance

    @property
    def version(self) -> str:
        """A short name of this head: its encoder, and the first digits of its training data's hash."""
        return f"{self.provenance.encoder}/{self.provenance.data_sha256[:8]}"

    def probabilities(
        self, texts: Sequence[str], embeddings: Floats, fired: Sequence[Sequence[str]], encode: Encode
    ) -> Floats:
        """Return how probable an emergency is (n,); `fired` names the rules that fire on each text."""
        logits = self.parts.logits(texts, embeddings, encode) @ np.array([self.whole, self.window])
        by_rules = [
            bool(names) * self.rule + sum(self.rules.get(name, 0.0) for name in names) for names in fired
        ]
        shares: Floats = (1.0 / (1.0 + np.exp(-(logits + by_rules + self.bias)))).astype(np.float32)
        return shares


def windows(text: str) -> tuple[str, ...]:
    """Return each WINDOW neighbouring sentences of a text; none of a text that is scored as a whole only."""
    if len(text.split()) <= WHOLE_WORDS:
        return ()
    sentences: list[str] = []
    for sentence in filter(None, map(str.strip, _SENTENCE.split(text[:MAX_CHARACTERS]))):
        if sentences and len(sentence.split()) < _FEWEST_WORDS:
            sentences[-1] += f" {sentence}"
        else:
            sentences.append(sentence)
    if len(sentences) <= WINDOW:
        return ()
    return tuple(" ".join(sentences[i : i + WINDOW]) for i in range(len(sentences) - WINDOW + 1))


@dataclass(frozen=True)
class Detection:
    """Whether a text is flagged as an emergency, and what speaks for it; `probability` is None without a learned part."""

    flag: bool
    rules: tuple[str, ...]
    probability: float | None
    threshold: float | None

    @property
    def why(self) -> str:
        """The reasons in plain words."""
        named = f"Signs that rules know: {'; '.join(self.rules)}." if self.rules else "No rule fires."
        if self.probability is None or self.threshold is None:
            return f"{named} The rules decide alone: no learned part is available."
        side = "like" if self.probability >= self.threshold else "unlike"
        learned = f"Taken together, the text is {side} messages that tell of an emergency ({self.probability:.2f}; flagged from {self.threshold:.2f})."
        by_rule = " Here a rule decides alone." if self.flag and side == "unlike" else ""
        return f"{named} {learned}{by_rule}"


def detect_by_rules(texts: Sequence[str]) -> tuple[Detection, ...]:
    """Judge every text by rules alone."""
    return tuple(Detection(bool(names), names, None, None) for names in map(red_flags, texts))


def detect(
    texts: Sequence[str], embeddings: Floats, head: EmergencyHead | None, encode: Encode
) -> tuple[Detection, ...]:
    """Judge every text, by rules alone where there is no head; embeddings are (n, width), `encode` reads windows."""
    if head is None:
        return detect_by_rules(texts)
    fired = [red_flags(text) for text in texts]
    shares = head.probabilities(texts, embeddings, fired, encode)
    alone = {*head.alone, *(rule.name for rule in rules() if rule.decides_alone)}
    return tuple(
        Detection(
            share >= head.threshold
            or not alone.isdisjoint(names)
            or (bool(names) and (len(text) > WHOLLY_READ or len(text.split()) <= FEW_WORDS)),
            names,
            share,
            head.threshold,
        )
        for text, names, share in zip(texts, fired, shares.tolist(), strict=True)
    )


def emergency_head_path(routers_folder: Path, encoder_sha256: str) -> Path:
    """Return where the emergency head for that encoder is stored in a folder."""
    return routers_folder / f"{encoder_sha256[:12]}.emergency.safetensors"


def find_emergency_head(routers_folder: Path, encoder_sha256: str) -> EmergencyHead | None:
    """Return the emergency head for an encoder: the one trained here, else the one that ships; None if there is neither.

    Raises:
        RouterUnavailable: the file cannot be used.
    """
    for folder in (routers_folder, shipped_heads()):
        path = emergency_head_path(folder, encoder_sha256)
        if path.is_file():
            return load_emergency_head(path, encoder_sha256=encoder_sha256)
    return None


def save_emergency_head(head: EmergencyHead, path: Path) -> None:
    """Write a head; the file appears whole or not at all."""
    metadata = {
        "format": FORMAT,
        "terms": json.dumps(head.parts.vocabulary.terms),
        "rules": json.dumps(dict(head.rules)),
        "alone": json.dumps(head.alone),
        **{name: repr(getattr(head, name)) for name in _NUMBERS},
    }
    save_with_provenance(
        path,
        tensors_of(head.parts.meaning, head.parts.terms, head.parts.vocabulary),
        metadata,
        head.provenance,
    )


def load_emergency_head(path: Path, *, encoder_sha256: str | None = None) -> EmergencyHead:
    """Read a head, refusing one that was trained on another encoder than `encoder_sha256`.

    Raises:
        RouterUnavailable: it is missing, is no emergency head, does not fit, or has numbers that cannot be used.
    """
    metadata, tensors = load_with_provenance(path, encoder_sha256=encoder_sha256)
    if metadata.get("format") != FORMAT:
        raise RouterUnavailable(f"{path.name} is not an emergency head of this version of MedX; {TRAIN_IT}.")
    try:
        terms, vocabulary = stored_terms(metadata, tensors, rows=1)
        return EmergencyHead(
            MessageParts(stored_part(tensors, "meaning", rows=1), terms, vocabulary),
            rules={str(name): float(weight) for name, weight in json.loads(metadata["rules"]).items()},
            alone=tuple(json.loads(metadata["alone"])),
            provenance=stored_provenance(metadata),
            **{name: float(metadata[name]) for name in _NUMBERS},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RouterUnavailable(f"{path.name} lacks part of its provenance ({error}); {TRAIN_IT}.") from error
