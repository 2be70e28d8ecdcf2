"""Recognising messages that tell of an emergency: the rules for red flags together with a learned part.

The learned part is one small head on what the router computes anyway: the text's embedding and its terms. It reads lay
words, slang and shorthand, which rules miss; rules read what an embedding cannot see (negation, doses, numbers). The
head adds both: a rule that fires raises the score, and none of the two can silence the other's clear sign.

Without a head for the encoder in use, or without an encoder, the rules decide alone, and `Detection.why` says so. It is
no triage: where nothing is flagged, nothing is said.
"""

import json
from collections.abc import Sequence
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
from medx_core.routing.red_flags import red_flags, rules
from medx_core.routing.router import Floats
from medx_core.routing.tfidf import Vocabulary

FORMAT = "medx-emergency-head-1"
WHOLLY_READ = 1_000
"""Characters of a text that an encoder surely reads (256 tokens); beyond them a rule that fires decides alone."""

Fired = NDArray[np.bool_]


@dataclass(frozen=True)
class EmergencyHead:
    """A linear classifier: the logits of meaning and terms, scaled, plus `rule` where a rule fires, plus `bias`.

    A text is flagged where its probability reaches `threshold`.
    """

    meaning: LinearPart
    terms: LinearPart
    vocabulary: Vocabulary
    scale: float
    rule: float
    bias: float
    threshold: float
    provenance: Provenance

    @property
    def version(self) -> str:
        """A short name of this head: its encoder, and the first digits of its training data's hash."""
        return f"{self.provenance.encoder}/{self.provenance.data_sha256[:8]}"

    def probabilities(self, texts: Sequence[str], embeddings: Floats, fired: Fired) -> Floats:
        """Return how probable an emergency is (n,); embeddings are (n, width), `fired` (n,) says where a rule fires."""
        wording = self.terms.logits(self.vocabulary.features(texts))
        logits = (
            (self.meaning.logits(embeddings) + wording)[:, 0] * self.scale + fired * self.rule + self.bias
        )
        shares: Floats = (1.0 / (1.0 + np.exp(-logits))).astype(np.float32)
        return shares


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


def detect(
    texts: Sequence[str], embeddings: Floats | None, head: EmergencyHead | None
) -> tuple[Detection, ...]:
    """Judge every text, by rules alone where there is no head or no embeddings (n, width)."""
    fired = [red_flags(text) for text in texts]
    if head is None or embeddings is None:
        return tuple(Detection(bool(names), names, None, None) for names in fired)
    shares = head.probabilities(texts, embeddings, np.array([bool(names) for names in fired]))
    alone = {rule.name for rule in rules() if rule.decides_alone}
    return tuple(
        Detection(
            share >= head.threshold
            or not alone.isdisjoint(names)
            or (bool(names) and len(text) > WHOLLY_READ),
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
    numbers = {name: repr(getattr(head, name)) for name in ("scale", "rule", "bias", "threshold")}
    metadata = {"format": FORMAT, "terms": json.dumps(head.vocabulary.terms), **numbers}
    save_with_provenance(
        path, tensors_of(head.meaning, head.terms, head.vocabulary), metadata, head.provenance
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
            stored_part(tensors, "meaning", rows=1),
            terms,
            vocabulary,
            scale=float(metadata["scale"]),
            rule=float(metadata["rule"]),
            bias=float(metadata["bias"]),
            threshold=float(metadata["threshold"]),
            provenance=stored_provenance(metadata),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RouterUnavailable(f"{path.name} lacks part of its provenance ({error}); {TRAIN_IT}.") from error
