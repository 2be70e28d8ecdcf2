"""A trained router head: what it is, how it is stored, and which head is in use.

A head is safetensors whose metadata says everything about where it came from. Loading refuses another encoder, another
order of categories and numbers that are not finite. Nothing is ever unpickled.

A head for the default encoder ships with MedX; a head that was trained here comes before it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from medx_core.errors import RouterUnavailable
from medx_core.routing.router import LABELS, Floats
from medx_core.routing.tfidf import Vocabulary

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

FORMAT = "medx-router-head-2"
CONTENT_SHA256 = "content_sha256"
TRAIN_IT = "run `medx router train`"


@dataclass(frozen=True)
class LinearPart:
    """Logits for one kind of feature: `weights` is (rows, features), `bias` (rows,).

    A router has a row for each of LABELS in their order, the recognition of emergencies a single one.
    """

    weights: Floats
    bias: Floats

    def logits(self, features: "Floats | csr_matrix") -> Floats:
        """Return the logits (n, rows) of features (n, width), dense or sparse."""
        scored: Floats = (features @ self.weights.T + self.bias).astype(np.float32)
        return scored


@dataclass(frozen=True)
class TrainedOn:
    """What a router was trained on and when; `data_sha256` covers all its texts with their labels."""

    encoder: str
    encoder_sha256: str
    data_sha256: str
    texts: int
    seed: int
    created_at: str


@dataclass(frozen=True)
class Provenance(TrainedOn):
    """Where a head comes from.

    `bundled_sha256` covers the texts that come with MedX; `added_texts` counts the others. `figures` are those of
    cross-validation, `validation` those on questions it was never trained on.
    """

    bundled_sha256: str = ""
    added_texts: int = 0
    figures: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    validation: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RouterHead:
    """A linear classifier on a text's meaning (its embedding) and its terms.

    The logits of both parts are added and divided by `temperature`. Whether a text is in scope is judged by its
    meaning alone; below `threshold` the router abstains.
    """

    meaning: LinearPart
    terms: LinearPart
    vocabulary: Vocabulary
    temperature: float
    threshold: float
    provenance: Provenance

    @property
    def version(self) -> str:
        """A short name of this head: its encoder, and the first digits of its training data's hash."""
        return f"{self.provenance.encoder}/{self.provenance.data_sha256[:8]}"


def head_path(routers_folder: Path, encoder_sha256: str) -> Path:
    """Return where the head for that encoder is stored in a folder."""
    return routers_folder / f"{encoder_sha256[:12]}.safetensors"


def shipped_heads() -> Path:
    """Return the folder of the heads that ship with MedX."""
    return Path(str(files("medx_core.routing"))) / "trained"


def find_head(routers_folder: Path, encoder_sha256: str) -> tuple[RouterHead, Path]:
    """Return the head in use for an encoder and its file: the head trained here, else the one that ships with MedX.

    Raises:
        RouterUnavailable: there is neither, or the head cannot be used.
    """
    trained_here = head_path(routers_folder, encoder_sha256)
    for path in (trained_here, head_path(shipped_heads(), encoder_sha256)):
        if path.is_file():
            return load_head(path, encoder_sha256=encoder_sha256), path
    raise RouterUnavailable(f"There is no trained router at {trained_here}; {TRAIN_IT}.")


def save_head(head: RouterHead, path: Path) -> None:
    """Write a head; the file appears whole or not at all."""
    metadata = {
        "format": FORMAT,
        "labels": json.dumps(LABELS),
        "terms": json.dumps(head.vocabulary.terms),
        "temperature": repr(head.temperature),
        "threshold": repr(head.threshold),
    }
    save_with_provenance(
        path, tensors_of(head.meaning, head.terms, head.vocabulary), metadata, head.provenance
    )


def tensors_of(meaning: LinearPart, terms: LinearPart, vocabulary: Vocabulary) -> dict[str, Floats]:
    """Return the two linear parts of a head and its vocabulary's weights under the names that they are stored by."""
    return {
        "meaning.weights": meaning.weights,
        "meaning.bias": meaning.bias,
        "wording.weights": terms.weights,
        "wording.bias": terms.bias,
        "wording.idf": vocabulary.idf,
    }


def save_with_provenance(
    path: Path, tensors: Mapping[str, Floats], metadata: Mapping[str, str], provenance: Provenance
) -> None:
    """Write tensors with what they are and where they come from; the file appears whole or not at all."""
    about = dict(metadata)
    for name, value in asdict(provenance).items():
        about[name] = value if isinstance(value, str) else json.dumps(value)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    rows = {name: np.ascontiguousarray(tensor, dtype=np.float32) for name, tensor in tensors.items()}
    about[CONTENT_SHA256] = content_sha256(about, rows)
    save_file(rows, fresh, metadata=about)
    fresh.replace(path)


def content_sha256(metadata: Mapping[str, str], tensors: Mapping[str, Floats]) -> str:
    """Return the sha256 over everything that a file says and holds, but for this hash itself."""
    digest = hashlib.sha256()
    for name, value in sorted(metadata.items()):
        if name != CONTENT_SHA256:
            digest.update(json.dumps([name, value]).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, tensor.shape]).encode())
        digest.update(np.ascontiguousarray(tensor).tobytes())
    return digest.hexdigest()


def load_head(path: Path, *, encoder_sha256: str | None = None) -> RouterHead:
    """Read a head, refusing one that was trained on another encoder than `encoder_sha256`.

    Raises:
        RouterUnavailable: it is missing, is not a router head, does not fit, or has numbers that cannot be used.
    """
    metadata, tensors = load_with_provenance(path, encoder_sha256=encoder_sha256)
    if metadata.get("format") != FORMAT or json.loads(metadata.get("labels", "[]")) != list(LABELS):
        raise RouterUnavailable(f"{path.name} is not a router head of this version of MedX; {TRAIN_IT}.")
    try:
        return _head(metadata, tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise RouterUnavailable(f"{path.name} lacks part of its provenance ({error}); {TRAIN_IT}.") from error


def load_with_provenance(
    path: Path, *, encoder_sha256: str | None = None
) -> tuple[dict[str, str], dict[str, Floats]]:
    """Return the metadata and the tensors of a file, refusing another encoder and values that are not finite.

    Raises:
        RouterUnavailable: it is missing, is not safetensors, or cannot be used.
    """
    try:
        with safe_open(path, framework="np") as stored:
            metadata = dict(stored.metadata() or {})
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - safe_open is not a mapping
    except (SafetensorError, OSError) as error:
        raise RouterUnavailable(f"{path.name} is not a readable safetensors file; {TRAIN_IT}.") from error
    if encoder_sha256 and metadata.get("encoder_sha256", encoder_sha256) != encoder_sha256:
        raise RouterUnavailable(
            f"{path.name} was trained on another encoder ({metadata.get('encoder')}); {TRAIN_IT}."
        )
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        raise RouterUnavailable(f"{path.name} contains values that are not finite; {TRAIN_IT}.")
    # A head of an earlier version has no such hash.
    if metadata.get(CONTENT_SHA256, "") not in ("", content_sha256(metadata, tensors)):
        raise RouterUnavailable(f"{path.name} is damaged: its content is not what was written; {TRAIN_IT}.")
    return metadata, tensors


def _head(metadata: Mapping[str, str], tensors: Mapping[str, Floats]) -> RouterHead:
    terms, vocabulary = stored_terms(metadata, tensors, rows=len(LABELS))
    return RouterHead(
        stored_part(tensors, "meaning", rows=len(LABELS)),
        terms,
        vocabulary,
        temperature=float(metadata["temperature"]),
        threshold=float(metadata["threshold"]),
        provenance=stored_provenance(metadata),
    )


def stored_provenance(metadata: Mapping[str, str]) -> Provenance:
    """Read where a head comes from; a KeyError names what is missing."""
    # Every head has figures; that of an earlier version has no hash of the bundled texts, its only ones.
    about: dict[str, Any] = {"figures": metadata["figures"], "bundled_sha256": metadata["data_sha256"]}
    about |= {
        known.name: metadata[known.name] if known.type is str else json.loads(metadata[known.name])
        for known in fields(Provenance)
        if known.name in metadata
    }
    return Provenance(**about)


def stored_part(tensors: Mapping[str, Floats], name: str, *, rows: int) -> LinearPart:
    """Read a linear part of `rows` rows; a ValueError or KeyError says what does not fit."""
    weights, bias = tensors[f"{name}.weights"], tensors[f"{name}.bias"]
    if weights.ndim != 2 or bias.shape != (rows,) or weights.shape[0] != rows:
        raise ValueError(f"{name}: weights {weights.shape}, bias {bias.shape}")
    return LinearPart(weights, bias)


def stored_terms(
    metadata: Mapping[str, str], tensors: Mapping[str, Floats], *, rows: int
) -> tuple[LinearPart, Vocabulary]:
    """Read the linear part on terms and its vocabulary; a ValueError or KeyError says what does not fit."""
    vocabulary = Vocabulary(tuple(json.loads(metadata["terms"])), tensors["wording.idf"])
    terms = stored_part(tensors, "wording", rows=rows)
    if vocabulary.idf.shape != (len(vocabulary.terms),) or terms.weights.shape[1] != len(vocabulary.terms):
        raise ValueError(f"{len(vocabulary.terms)} terms, idf {vocabulary.idf.shape}")
    return terms, vocabulary
