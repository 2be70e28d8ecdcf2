"""Steering vectors on disk: safetensors whose metadata says everything about where the vector came from.

Loading refuses what does not fit: another model, another layer convention, a zero or non-finite vector, an unknown
strategy, a file that is not safetensors. Nothing is ever unpickled. Format 1 knew constant vectors at one layer only;
its files still load.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from medx_core.categories import Category
from medx_core.errors import VectorRefused
from medx_core.steering.gate import Gate
from medx_core.steering.hooks import Positions
from medx_core.steering.layers import CONVENTION
from medx_core.steering.steering_vector import ON_STATEMENTS, SteeringVector, check_direction, check_vector

__all__ = ["SteeringVector", "load_vector", "save_vector"]

FORMAT = "medx-steering-vector-2"
READABLE = ("medx-steering-vector-1", FORMAT)
TENSOR = "direction"
GATE_TENSOR = "gate_weight"
FURTHER = "direction."


def save_vector(vector: SteeringVector, path: Path) -> None:
    """Write a vector; the file appears whole or not at all.

    Raises:
        VectorRefused: the vector is not sound, see `check_vector`.
    """
    check_vector(vector, str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    tensors = {TENSOR: vector.direction}
    tensors |= {f"{FURTHER}{layer}": direction for layer, direction in vector.further.items()}
    if vector.gate is not None:
        tensors[GATE_TENSOR] = vector.gate.weight
    # Tensors may share memory, which safetensors refuses to write.
    own = {name: tensor.detach().float().cpu().clone().contiguous() for name, tensor in tensors.items()}
    save_file(own, fresh, metadata=_metadata(vector))
    fresh.replace(path)


def load_vector(path: Path, *, model_sha256: str | None = None) -> SteeringVector:
    """Read a vector, refusing one that was made for other weights than `model_sha256`.

    Raises:
        VectorRefused: the file is missing, is no MedX vector, does not fit, or holds no usable direction.
    """
    metadata, tensors = _read(path)
    if metadata.get("format") not in READABLE:
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
    check_direction(tensors[TENSOR], path.name)
    try:
        vector = _from_metadata(metadata, tensors)
    except (KeyError, ValueError) as error:
        raise VectorRefused(f"{path.name} lacks part of its provenance ({error}); build it anew.") from error
    check_vector(vector, path.name)
    return vector


def _metadata(vector: SteeringVector) -> dict[str, str]:
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
        "positions": vector.positions.value,
        "fitted_on": vector.fitted_on,
        "centre": repr(vector.centre),
        "model_type": vector.model_type,
    }
    if vector.gate is not None:
        metadata |= {
            "gate_bias": repr(vector.gate.bias),
            "b0": repr(vector.b0),
            "k": repr(vector.alpha),
        }
    return metadata


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a mapping
            metadata = dict(stored.metadata() or {})
    except FileNotFoundError as error:
        raise VectorRefused(f"There is no steering vector at {path}; run `medx vectors build`.") from error
    except (SafetensorError, OSError) as error:
        raise VectorRefused(f"{path.name} is not a readable safetensors file with a direction.") from error
    if TENSOR not in tensors:
        raise VectorRefused(f"{path.name} is not a readable safetensors file with a direction.")
    return metadata, tensors


def _from_metadata(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> SteeringVector:
    gate = None
    if GATE_TENSOR in tensors:
        gate = Gate(tensors[GATE_TENSOR].float(), float(metadata["gate_bias"]))
    return SteeringVector(
        category=Category(metadata["category"]),
        direction=tensors[TENSOR].float(),
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
        positions=Positions(metadata.get("positions", Positions.LAST)),
        fitted_on=metadata.get("fitted_on", ON_STATEMENTS),
        gate=gate,
        b0=0.0 if gate is None else float(metadata["b0"]),
        centre=float(metadata.get("centre", 0.0)),
        model_type=metadata.get("model_type", ""),
        further=_further(tensors),
    )


def _further(tensors: Mapping[str, Tensor]) -> dict[int, Tensor]:
    return {
        int(name.removeprefix(FURTHER)): tensor.float()
        for name, tensor in tensors.items()
        if name.startswith(FURTHER)
    }
