"""The identity of a model: one hash over its weight files.

Vectors, router heads and answers name the weights they belong to by this hash. Hashing half a gigabyte takes a
second or two, so it is remembered beside the models, keyed by each file's size and modification time.
"""

import hashlib
import json
from pathlib import Path

from medx_core.errors import ModelUnavailable

MEMORY = ".weight-hashes.json"


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
    """Return the sha256 over all weight files of `folder`, from memory when they did not change since."""
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
