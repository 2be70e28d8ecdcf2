"""A trained router head: what it is, how it is stored, and which one is in use.

A head is safetensors whose metadata says everything about where it came from. Loading refuses another encoder, another
order of categories and numbers that are not finite. Nothing is ever unpickled.

A head for the default encoder ships with MedX; one that was trained here comes before it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from medx_core.errors import RouterUnavailable
from medx_core.routing.router import LABELS, Floats
from medx_core.routing.tfidf import Vocabulary

FORMAT = "medx-router-head-2"
TRAIN_IT = "run `medx router train`"


@dataclass(frozen=True)
class LinearPart:
    """Logits for one kind of feature: `weights` is (4, features), `bias` (4,), rows in the order of LABELS."""

    weights: Floats
    bias: Floats


@dataclass(frozen=True)
class Provenance:
    """Where a head comes from.

    `data_sha256` covers all texts it was trained on, `bundled_sha256` those that come with MedX; `added_texts` counts
    the others. `figures` are those of cross-validation, `validation` those on questions it was never trained on.
    """

    encoder: str
    encoder_sha256: str
    data_sha256: str
    texts: int
    seed: int
    created_at: str
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


def find_head(routers_folder: Path, encoder_sha256: str) -> Path:
    """Return the head in use for an encoder: the one that was trained here, else the one that ships with MedX.

    Raises:
        RouterUnavailable: there is neither.
    """
    trained_here = head_path(routers_folder, encoder_sha256)
    for path in (trained_here, head_path(shipped_heads(), encoder_sha256)):
        if path.is_file():
            return path
    raise RouterUnavailable(f"There is no trained router at {trained_here}; {TRAIN_IT}.")


def save_head(head: RouterHead, path: Path) -> None:
    """Write a head; the file appears whole or not at all."""
    provenance = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in asdict(head.provenance).items()
    }
    metadata = {
        "format": FORMAT,
        "labels": json.dumps(LABELS),
        "terms": json.dumps(head.vocabulary.terms),
        "temperature": repr(head.temperature),
        "threshold": repr(head.threshold),
        **provenance,
    }
    tensors = {
        "meaning.weights": head.meaning.weights,
        "meaning.bias": head.meaning.bias,
        "wording.weights": head.terms.weights,
        "wording.bias": head.terms.bias,
        "wording.idf": head.vocabulary.idf,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    rows = {name: np.ascontiguousarray(tensor, dtype=np.float32) for name, tensor in tensors.items()}
    save_file(rows, fresh, metadata=metadata)
    fresh.replace(path)


def load_head(path: Path, *, encoder_sha256: str | None = None) -> RouterHead:
    """Read a head, refusing one that was trained on another encoder than `encoder_sha256`.

    Raises:
        RouterUnavailable: it is missing, is not a router head, does not fit, or has numbers that cannot be used.
    """
    metadata, tensors = _read(path)
    if metadata.get("format") != FORMAT or json.loads(metadata.get("labels", "[]")) != list(LABELS):
        raise RouterUnavailable(f"{path.name} is not a router head of this version of MedX; {TRAIN_IT}.")
    if encoder_sha256 and metadata.get("encoder_sha256") != encoder_sha256:
        raise RouterUnavailable(
            f"{path.name} was trained on another encoder ({metadata.get('encoder')}); {TRAIN_IT}."
        )
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        raise RouterUnavailable(f"{path.name} contains values that are not finite; {TRAIN_IT}.")
    try:
        return _from_metadata(metadata, tensors)
    except (KeyError, ValueError) as error:
        raise RouterUnavailable(f"{path.name} lacks part of its provenance ({error}); {TRAIN_IT}.") from error


def _read(path: Path) -> tuple[dict[str, str], dict[str, Floats]]:
    try:
        with safe_open(path, framework="np") as stored:
            return dict(stored.metadata() or {}), {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - safe_open is not a mapping
    except (SafetensorError, OSError) as error:
        raise RouterUnavailable(f"{path.name} is not a readable safetensors file; {TRAIN_IT}.") from error


def _from_metadata(metadata: Mapping[str, str], tensors: Mapping[str, Floats]) -> RouterHead:
    vocabulary = Vocabulary(tuple(json.loads(metadata["terms"])), tensors["wording.idf"])
    terms = _part(tensors, "wording")
    if vocabulary.idf.shape != (len(vocabulary.terms),) or terms.weights.shape[1] != len(vocabulary.terms):
        raise ValueError(f"{len(vocabulary.terms)} terms, idf {vocabulary.idf.shape}")
    provenance = Provenance(
        encoder=metadata["encoder"],
        encoder_sha256=metadata["encoder_sha256"],
        data_sha256=metadata["data_sha256"],
        texts=int(metadata["texts"]),
        seed=int(metadata["seed"]),
        created_at=metadata["created_at"],
        bundled_sha256=metadata.get("bundled_sha256") or metadata["data_sha256"],
        added_texts=int(metadata.get("added_texts", "0")),
        figures=json.loads(metadata["figures"]),
        **{name: json.loads(metadata.get(name, "{}")) for name in ("training", "versions", "validation")},
    )
    temperature, threshold = float(metadata["temperature"]), float(metadata["threshold"])
    return RouterHead(_part(tensors, "meaning"), terms, vocabulary, temperature, threshold, provenance)


def _part(tensors: Mapping[str, Floats], name: str) -> LinearPart:
    weights, bias = tensors[f"{name}.weights"], tensors[f"{name}.bias"]
    if weights.ndim != 2 or bias.shape != (len(LABELS),) or weights.shape[0] != len(LABELS):
        raise ValueError(f"{name}: weights {weights.shape}, bias {bias.shape}")
    return LinearPart(weights, bias)
