"""Where the files of a model lie, and the hash that names its weights.

Without torch: a command compares the hash with that of a running worker before it loads anything.
"""

import hashlib
import json
from pathlib import Path

from medx_core.errors import ModelUnavailable
from medx_core.models.catalog import ModelSource, model_source

HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]

MEMORY = ".weight-hashes.json"


def local_folder(source: ModelSource, *, fetch: bool = True) -> Path:
    """Return the folder with the files of a model; `fetch` lets them be downloaded from the hub.

    Raises:
        ModelUnavailable: the model is neither here nor, with `fetch`, on the hub.
    """
    if source.is_folder:
        return Path(source.location)
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(source.location, allow_patterns=HUB_FILES, local_files_only=not fetch)
    except Exception as error:  # the hub client's many faults have no common root
        raise ModelUnavailable(
            f"The model {source.location!r} is not a folder here and cannot be fetched from the hub; check the name and the network."
        ) from error
    return Path(folder)


def model_weight_sha256(name: str, models_folder: Path) -> str:
    """Return the hash of the weights that the name stands for on this machine; downloads nothing.

    Raises:
        ModelUnavailable: the model is not on this machine.
    """
    folder = local_folder(model_source(name, models_folder), fetch=False)
    return weight_sha256(folder, memory_folder=models_folder)


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a model folder in name order.

    Raises:
        ModelUnavailable: there are none.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelUnavailable(
            f"The folder {folder} holds no .safetensors file; MedX loads no other kind of weights."
        )
    return files


def weight_sha256(folder: Path, *, memory_folder: Path) -> str:
    """Return the sha256 over all weight files of `folder`; remembered in `memory_folder` while no file changes.

    Raises:
        ModelUnavailable: the folder holds no weights.
    """
    files = weight_files(folder)
    stamp = [[str(file), (stat := file.stat()).st_size, stat.st_mtime_ns] for file in files]
    memory = memory_folder / MEMORY
    known = _read_memory(memory)
    remembered = known.get(str(folder))
    if remembered and remembered["stamp"] == stamp:
        return str(remembered["sha256"])
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as source:
            while block := source.read(1 << 22):
                digest.update(block)
    known[str(folder)] = {"stamp": stamp, "sha256": digest.hexdigest()}
    memory_folder.mkdir(parents=True, exist_ok=True)
    fresh = memory.with_suffix(".new")
    fresh.write_text(json.dumps(known, indent=1), encoding="utf-8")
    fresh.replace(memory)
    return digest.hexdigest()


def _read_memory(memory: Path) -> dict[str, dict[str, object]]:
    try:
        known: dict[str, dict[str, object]] = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return {}
    return known
