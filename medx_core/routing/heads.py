"""A trained router head, and how it lies on disk.

It is safetensors whose metadata says everything about where it came from. Loading refuses another encoder, another
order of categories and numbers that are not finite. Nothing is ever unpickled.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from medx_core.errors import RouterUnavailable
from medx_core.routing.router import CATEGORIES, NONE, Floats
from medx_core.routing.wording import Wording

BINS = 15
_TEMPERATURES = np.geomspace(0.2, 10.0, 300)


def fitted_temperature(logits: Floats, labels: NDArray[np.int64]) -> float:
    """Return the temperature under which held-out logits (n, classes) give the labels the greatest likelihood."""
    losses = [log_loss(logits / temperature, labels) for temperature in _TEMPERATURES]
    return float(_TEMPERATURES[int(np.argmin(losses))])


def log_loss(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """Return the mean negative log-likelihood of labels (n,) under logits (n, classes)."""
    top = logits.max(axis=1)
    total = np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top
    return float((total - logits[np.arange(len(labels)), labels]).mean())


def expected_calibration_error(probabilities: Floats, labels: NDArray[np.int64], bins: int = BINS) -> float:
    """Return how far confidence and accuracy lie apart, averaged over equally wide bins by their share of texts."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(float(confidence[places == place].mean()) - float(right[places == place].mean()))
        * float((places == place).mean())
        for place in np.unique(places)
    ]
    return float(sum(gaps))


FORMAT = "medx-router-head-2"
LABELS: tuple[str, ...] = (*(category.value for category in CATEGORIES), NONE)
"""The rows of a head: the three categories, then `none`."""
TRAIN_IT = "run `medx router train`"


@dataclass(frozen=True)
class LinearPart:
    """Logits for one kind of feature: `weights` is (4, features), `bias` (4,), rows in the order of LABELS."""

    weights: Floats
    bias: Floats


@dataclass(frozen=True)
class RouterHead:
    """A linear classifier on a text's meaning (its embedding) and its wording, with its provenance.

    The logits of both parts are added and divided by `temperature`. Whether a text is in scope is judged by its
    meaning alone; below `threshold` the router abstains. `data_sha256` covers all texts it was trained on,
    `bundled_sha256` those that come with MedX; `added_texts` counts the others.
    """

    meaning: LinearPart
    wording_part: LinearPart
    wording: Wording
    temperature: float
    threshold: float
    encoder: str
    encoder_sha256: str
    data_sha256: str
    texts: int
    seed: int
    created_at: str
    bundled_sha256: str = ""
    added_texts: int = 0
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """A short name of this head: its encoder, and the first digits of its training data's hash."""
        return f"{self.encoder}/{self.data_sha256[:8]}"


def head_path(routers_folder: Path, encoder_sha256: str) -> Path:
    """Return where the head for that encoder lies."""
    return routers_folder / f"{encoder_sha256[:12]}.safetensors"


def save_head(head: RouterHead, path: Path) -> None:
    """Write a head; the file appears whole or not at all."""
    metadata = {
        "format": FORMAT,
        "labels": json.dumps(LABELS),
        "terms": json.dumps(head.wording.terms),
        "temperature": repr(head.temperature),
        "threshold": repr(head.threshold),
        "encoder": head.encoder,
        "encoder_sha256": head.encoder_sha256,
        "data_sha256": head.data_sha256,
        "texts": str(head.texts),
        "seed": str(head.seed),
        "created_at": head.created_at,
        "bundled_sha256": head.bundled_sha256,
        "added_texts": str(head.added_texts),
        "figures": json.dumps(dict(head.figures)),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    tensors = {
        "meaning.weights": head.meaning.weights,
        "meaning.bias": head.meaning.bias,
        "wording.weights": head.wording_part.weights,
        "wording.bias": head.wording_part.bias,
        "wording.idf": head.wording.idf,
    }
    rows = {name: np.ascontiguousarray(tensor, dtype=np.float32) for name, tensor in tensors.items()}
    save_file(rows, fresh, metadata=metadata)
    fresh.replace(path)


def load_head(path: Path, *, encoder_sha256: str | None = None) -> RouterHead:
    """Read a head, refusing one that was trained on another encoder than `encoder_sha256`.

    Raises:
        RouterUnavailable: it is missing, is no router head, does not fit, or holds numbers that cannot be used.
    """
    metadata, tensors = _read(path)
    if metadata.get("format") != FORMAT or json.loads(metadata.get("labels", "[]")) != list(LABELS):
        raise RouterUnavailable(f"{path.name} is no router head of this version of MedX; {TRAIN_IT}.")
    if encoder_sha256 and metadata.get("encoder_sha256") != encoder_sha256:
        raise RouterUnavailable(
            f"{path.name} was trained on another encoder ({metadata.get('encoder')}); {TRAIN_IT}."
        )
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        raise RouterUnavailable(f"{path.name} holds values that are not finite; {TRAIN_IT}.")
    try:
        return _from_metadata(metadata, tensors)
    except (KeyError, ValueError) as error:
        raise RouterUnavailable(f"{path.name} lacks part of its provenance ({error}); {TRAIN_IT}.") from error


def _read(path: Path) -> tuple[dict[str, str], dict[str, Floats]]:
    try:
        with safe_open(path, framework="np") as stored:
            return dict(stored.metadata() or {}), {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - safe_open is no mapping
    except FileNotFoundError as error:
        raise RouterUnavailable(f"There is no trained router at {path}; {TRAIN_IT}.") from error
    except (SafetensorError, OSError) as error:
        raise RouterUnavailable(f"{path.name} is not a readable safetensors file; {TRAIN_IT}.") from error


def _from_metadata(metadata: Mapping[str, str], tensors: Mapping[str, Floats]) -> RouterHead:
    terms = tuple(json.loads(metadata["terms"]))
    idf = tensors["wording.idf"]
    wording_part = _part(tensors, "wording")
    if idf.shape != (len(terms),) or wording_part.weights.shape[1] != len(terms):
        raise ValueError(f"{len(terms)} terms, idf {idf.shape}")
    return RouterHead(
        meaning=_part(tensors, "meaning"),
        wording_part=wording_part,
        wording=Wording(terms, idf),
        temperature=float(metadata["temperature"]),
        threshold=float(metadata["threshold"]),
        encoder=metadata["encoder"],
        encoder_sha256=metadata["encoder_sha256"],
        data_sha256=metadata["data_sha256"],
        texts=int(metadata["texts"]),
        seed=int(metadata["seed"]),
        created_at=metadata["created_at"],
        bundled_sha256=metadata.get("bundled_sha256") or metadata["data_sha256"],
        added_texts=int(metadata.get("added_texts", "0")),
        figures=json.loads(metadata["figures"]),
    )


def _part(tensors: Mapping[str, Floats], name: str) -> LinearPart:
    weights, bias = tensors[f"{name}.weights"], tensors[f"{name}.bias"]
    if weights.ndim != 2 or bias.shape != (len(LABELS),) or weights.shape[0] != len(LABELS):
        raise ValueError(f"{name}: weights {weights.shape}, bias {bias.shape}")
    return LinearPart(weights, bias)
