"""Steering vectors on disk: safetensors whose metadata says everything about where the vector came from.

Loading refuses what does not fit: another model, another layer convention, a zero or non-finite vector, a file that
is not safetensors. Nothing is ever unpickled.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from medx_core.categories import Category
from medx_core.errors import VectorRefused
from medx_core.steering.layers import CONVENTION

FORMAT = "medx-steering-vector-1"
TENSOR = "direction"


@dataclass(frozen=True)
class SteeringVector:
    """A direction in one model's residual stream, with its provenance.

    `direction` is (hidden_size,) in float32; steering adds `alpha * direction`. `reading` names how the contrast
    traces were read, `pairs` how many contrast pairs went in, `data_sha256` which data.
    """

    category: Category
    direction: Tensor
    layer: int
    model: str
    model_sha256: str
    strategy: str
    alpha: float
    reading: str
    pairs: int
    data_sha256: str
    prompt_version: str
    created_at: str
    version: str = ""
    diagnostics: Mapping[str, Any] = field(default_factory=dict)

    @property
    def norm(self) -> float:
        """The direction's length."""
        return float(self.direction.norm())


def save_vector(vector: SteeringVector, path: Path) -> None:
    """Write a vector; the file appears whole or not at all.

    Raises:
        VectorRefused: the direction is zero, not finite or not one row.
    """
    _check_direction(vector.direction, str(path))
    metadata = {
        "format": FORMAT,
        "convention": CONVENTION,
        "category": vector.category.value,
        "layer": str(vector.layer),
        "model": vector.model,
        "model_sha256": vector.model_sha256,
        "strategy": vector.strategy,
        "alpha": repr(vector.alpha),
        "reading": vector.reading,
        "pairs": str(vector.pairs),
        "data_sha256": vector.data_sha256,
        "prompt_version": vector.prompt_version,
        "created_at": vector.created_at,
        "version": vector.version,
        "diagnostics": json.dumps(dict(vector.diagnostics)),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    save_file({TENSOR: vector.direction.detach().float().cpu().contiguous()}, fresh, metadata=metadata)
    fresh.replace(path)


def load_vector(path: Path, *, model_sha256: str | None = None) -> SteeringVector:
    """Read a vector, refusing one that was made for other weights than `model_sha256`.

    Raises:
        VectorRefused: the file is missing, is no MedX vector, does not fit, or holds no usable direction.
    """
    metadata, direction = _read(path)
    if metadata.get("format") != FORMAT:
        raise VectorRefused(
            f"{path.name} is no MedX steering vector (format {metadata.get('format', 'not named')!r})."
        )
    if metadata.get("convention") != CONVENTION:
        raise VectorRefused(
            f"{path.name} counts layers in another way ({metadata.get('convention')!r}) than MedX ({CONVENTION!r})."
        )
    if model_sha256 and metadata.get("model_sha256") != model_sha256:
        raise VectorRefused(
            f"{path.name} was made for other weights ({metadata.get('model')}); build vectors for this model."
        )
    _check_direction(direction, path.name)
    try:
        return _from_metadata(metadata, direction)
    except (KeyError, ValueError) as error:
        raise VectorRefused(f"{path.name} lacks part of its provenance ({error}); build it anew.") from error


def _read(path: Path) -> tuple[dict[str, str], Tensor]:
    try:
        with safe_open(path, framework="pt", device="cpu") as stored:
            return dict(stored.metadata() or {}), stored.get_tensor(TENSOR)
    except FileNotFoundError as error:
        raise VectorRefused(f"There is no steering vector at {path}; run `medx vectors build`.") from error
    except (SafetensorError, OSError) as error:
        raise VectorRefused(f"{path.name} is not a readable safetensors file with a direction.") from error


def _from_metadata(metadata: Mapping[str, str], direction: Tensor) -> SteeringVector:
    return SteeringVector(
        category=Category(metadata["category"]),
        direction=direction.float(),
        layer=int(metadata["layer"]),
        model=metadata["model"],
        model_sha256=metadata["model_sha256"],
        strategy=metadata["strategy"],
        alpha=float(metadata["alpha"]),
        reading=metadata["reading"],
        pairs=int(metadata["pairs"]),
        data_sha256=metadata["data_sha256"],
        prompt_version=metadata["prompt_version"],
        created_at=metadata["created_at"],
        version=metadata["version"],
        diagnostics=json.loads(metadata["diagnostics"]),
    )


def _check_direction(direction: Tensor, name: str) -> None:
    if direction.ndim != 1:
        raise VectorRefused(f"{name} holds a tensor of shape {tuple(direction.shape)}, not one direction.")
    if not torch.isfinite(direction).all():
        raise VectorRefused(f"{name} holds values that are not finite.")
    if not direction.float().norm() > 0:
        raise VectorRefused(f"{name} holds a zero vector, which would steer nothing.")
