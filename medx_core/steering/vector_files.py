"""Steering vectors on disk: safetensors whose metadata says everything about where the vector came from.

Loading refuses what does not fit: another model, another layer convention, a zero or non-finite vector, an unknown
strategy, a file that is not safetensors. Nothing is ever unpickled. Format 1 knew constant vectors at one layer only;
its files still load.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from medx_core.categories import as_category
from medx_core.errors import VectorRefused
from medx_core.steering.gate import Gate
from medx_core.steering.layers import CONVENTION
from medx_core.steering.positions import Positions
from medx_core.steering.steering_vector import SteeringVector, check_direction, check_vector

FORMAT = "medx-steering-vector-2"
READABLE = ("medx-steering-vector-1", FORMAT)
TENSOR = "direction"
GATE_TENSOR = "gate_weight"
FURTHER = "direction."
# The fields of a vector that are metadata, and how their text is read. The second table came with format 2.
FIELDS: Mapping[str, Callable[[str], Any]] = {
    "category": as_category, "layer": int, "model": str, "model_sha256": str, "strategy": str, "alpha": float,
    "reading": str, "pairs": int, "data_sha256": str, "prompt_version": str, "created_at": str, "version": str,
    "diagnostics": json.loads,
}  # fmt: skip
LATER_FIELDS: Mapping[str, Callable[[str], Any]] = {
    "positions": Positions.parse, "verdict_positions": Positions.parse, "fitted_on": str, "centre": float, "model_type": str,
}  # fmt: skip


def save_vector(vector: SteeringVector, path: Path) -> None:
    """Write a vector; the file appears whole or not at all.

    Raises:
        VectorRefused: the vector is not sound, see `check_vector`.
    """
    check_vector(vector, str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    metadata = {name: str(getattr(vector, name)) for name in (*FIELDS, *LATER_FIELDS)}
    metadata |= {
        "category": vector.category or "",
        "format": FORMAT,
        "convention": CONVENTION,
        "diagnostics": json.dumps(dict(vector.diagnostics)),
    }
    tensors = {TENSOR: vector.direction}
    tensors |= {f"{FURTHER}{layer}": direction for layer, direction in vector.further.items()}
    if vector.gate is not None:
        tensors[GATE_TENSOR] = vector.gate.weight
        metadata |= {"gate_bias": str(vector.gate.bias), "b0": str(vector.b0), "k": str(vector.alpha)}
    # Tensors may share memory, which safetensors refuses to write.
    own = {name: tensor.detach().float().cpu().clone().contiguous() for name, tensor in tensors.items()}
    save_file(own, fresh, metadata=metadata)
    fresh.replace(path)


def load_vector(path: Path, *, model_sha256: str | None = None) -> SteeringVector:
    """Read a vector, refusing one that was made for other weights than `model_sha256`.

    Raises:
        VectorRefused: the file is missing, is not a MedX vector, does not fit, or holds no usable direction.
    """
    metadata, tensors = _read(path)
    if metadata.get("format") not in READABLE:
        raise VectorRefused(
            f"{path.name} is not a MedX steering vector (format {metadata.get('format', 'not named')!r})."
        )
    if metadata.get("convention") != CONVENTION:
        raise VectorRefused(
            f"{path.name} counts layers in another way ({metadata.get('convention')!r}) than MedX ({CONVENTION!r})."
        )
    if model_sha256 and metadata.get("model_sha256") != model_sha256:
        raise VectorRefused(
            f"{path.name} was made for other weights ({metadata.get('model')}); build vectors for this model."
        )
    check_direction(tensors[TENSOR], path.name)
    try:
        vector = _from_file(metadata, tensors)
    except (KeyError, ValueError) as error:
        raise VectorRefused(f"{path.name} lacks part of its provenance ({error}); build it anew.") from error
    check_vector(vector, path.name)
    return vector


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as stored:
            tensors = {name: stored.get_tensor(name).float() for name in stored.keys()}  # noqa: SIM118 - not a mapping
            metadata = dict(stored.metadata() or {})
    except FileNotFoundError as error:
        raise VectorRefused(f"There is no steering vector at {path}; run `medx vectors build`.") from error
    except (SafetensorError, OSError) as error:
        raise VectorRefused(f"{path.name} is not a readable safetensors file with a direction.") from error
    if TENSOR not in tensors:
        raise VectorRefused(f"{path.name} is not a readable safetensors file with a direction.")
    return metadata, tensors


def _from_file(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> SteeringVector:
    fields = {name: read(metadata[name]) for name, read in FIELDS.items()}
    fields |= {name: read(metadata[name]) for name, read in LATER_FIELDS.items() if name in metadata}
    if GATE_TENSOR in tensors:
        gate = Gate(tensors[GATE_TENSOR], float(metadata["gate_bias"]))
        fields |= {"gate": gate, "b0": float(metadata["b0"])}
    further = {
        int(name.removeprefix(FURTHER)): tensor
        for name, tensor in tensors.items()
        if name.startswith(FURTHER)
    }
    return SteeringVector(direction=tensors[TENSOR], further=further, **fields)
