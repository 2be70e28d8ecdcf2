"""Where the files of a model lie, whether they are whole, and the hashes that name its weights and the whole model.

Without torch: a command compares the hashes with those of a running worker before it loads anything.
"""

import hashlib
import json
import shlex
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medx_core.errors import ModelUnavailable
from medx_core.models.catalog import MARKER, ModelSource, model_source

HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]

MEMORY = ".weight-hashes.json"
ADAPTER, INDEX, CONFIGURATION = "adapter_config.json", "model.safetensors.index.json", "config.json"
SHARDS = "model-*-of-*.safetensors"
ONE_FILE = "model.safetensors"
PLAIN_TYPES = ("F64", "F32", "F16", "BF16")
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
MERGE = (
    "from peft import AutoPeftModelForCausalLM as M; from transformers import AutoTokenizer as T; "
    "m = M.from_pretrained({folder!r}); m.merge_and_unload().save_pretrained({merged!r}); "
    "T.from_pretrained({folder!r}).save_pretrained({merged!r})"
)
# Whatever else than weights decides an answer: configuration, tokenizer, chat template. Notes and licences do not.
DECIDING = (".json", ".jinja", ".model", ".txt", ".tiktoken", ".bpe", ".codes", ".spm")
NOT_DECIDING = ("readme", "license", "licence", "notice", "usage_policy", "requirements")


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


def model_identity_sha256(name: str, models_folder: Path) -> str:
    """Return the hash of the whole model that the name stands for on this machine; downloads nothing.

    Raises:
        ModelUnavailable: the model is not on this machine.
    """
    folder = local_folder(model_source(name, models_folder), fetch=False)
    return identity_sha256(folder, memory_folder=models_folder)


def identity_sha256(folder: Path, *, memory_folder: Path) -> str:
    """Return the sha256 over all that changes an answer: weights, tokenizer, chat template and configuration.

    Steering vectors are bound to the weights alone (`weight_sha256`): a better chat template does not part them from
    their model. What answered, and what was checked, is named by this hash.

    Raises:
        ModelUnavailable: the folder holds no weights.
    """
    digest = hashlib.sha256(weight_sha256(folder, memory_folder=memory_folder).encode())
    for file in deciding_files(folder):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"\n{file.relative_to(folder).as_posix()} {content}".encode())
    return digest.hexdigest()


def deciding_files(folder: Path) -> list[Path]:
    """Return the files beside the weights that decide what a model answers, in the order of their names.

    The index of shards is one where weights are read by it: it says which of two shards a weight comes from.
    """
    beside = [*folder.glob("*"), *folder.glob("additional_chat_templates/*")]
    return sorted(
        file
        for file in beside
        if file.suffix in DECIDING
        and file.name != MARKER
        and not file.name.startswith(".")
        and (
            not file.name.endswith(".index.json")
            or (file.name == INDEX and not (folder / ONE_FILE).is_file())
        )
        and not file.name.lower().startswith(NOT_DECIDING)
    )


def refuse_incomplete(folder: Path) -> None:
    """Refuse a folder that does not hold a whole model of its own, before anything is loaded from it.

    Raises:
        ModelUnavailable: it holds an adapter, pointers in place of files, too few shards, or a file that was cut off.
    """
    if not folder.is_dir():
        return  # the library says what it makes of it
    if (folder / ADAPTER).is_file():
        raise ModelUnavailable(_adapter_sentence(folder))
    if not (folder / CONFIGURATION).is_file():
        raise ModelUnavailable(
            f"The folder {folder} holds no {CONFIGURATION}, so it is not a model; name a folder of a model of transformers."
        )
    files = [*sorted(folder.glob("*.safetensors")), *deciding_files(folder)]
    if pointers := [file.name for file in files if _is_pointer(file)]:
        raise ModelUnavailable(
            f"In the folder {folder} {_listed(pointers)} hold git-lfs pointers instead of their content; run `git lfs pull` there."
        )
    _refuse_missing_shards(folder)
    packed = {name for file in weight_files(folder) for name in _packed_weights(_tensors(file))}
    if packed and "quantization_config" not in _json_object(folder / CONFIGURATION):
        raise ModelUnavailable(
            f"In the folder {folder} {len(packed)} weights are numbers of one byte or integers ({_listed(sorted(packed))}), and "
            f"{CONFIGURATION} does not say how they were quantised; name the unquantised model."
        )


def _adapter_sentence(folder: Path) -> str:
    merged = f"{folder.resolve()}-merged"
    program = MERGE.format(folder=str(folder.resolve()), merged=merged)
    return (
        f"The folder {folder} holds an adapter ({ADAPTER}), and its base model is not part of the folder; merge both into a "
        f"model of its own and name that: pip install peft; python -c {shlex.quote(program)}"
    )


def _refuse_missing_shards(folder: Path) -> None:
    index, is_in_one = folder / INDEX, (folder / ONE_FILE).is_file()
    if not index.is_file():
        if not is_in_one and (shards := sorted(file.name for file in folder.glob(SHARDS))):
            raise ModelUnavailable(
                f"The folder {folder} holds parts of the weights ({_listed(shards)}) without {INDEX}, which says what is in "
                "which; fetch the model again."
            )
        return
    places = _json_object(index).get("weight_map")
    if not isinstance(places, dict) or not (places or is_in_one):
        raise ModelUnavailable(
            f"The file {index} does not say which weight file each weight is in; fetch the model again."
        )
    shards = sorted({str(name) for name in places.values()})
    if missing := [name for name in shards if not (folder / name).is_file()]:
        raise ModelUnavailable(
            f"The folder {folder} lacks {len(missing)} of the {len(shards)} weight files that {INDEX} names: "
            f"{_listed(missing)}; fetch the model again."
        )


def _json_object(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"The file {file} is not JSON ({error}); fetch the model again.") from error
    if not isinstance(content, dict):
        raise ModelUnavailable(f"The file {file} holds no JSON object; fetch the model again.")
    return content


def _is_pointer(file: Path) -> bool:
    with file.open("rb") as source:
        return source.read(len(LFS_POINTER)) == LFS_POINTER


def _packed_weights(tensors: dict[str, Any]) -> list[str]:
    """Return the names of weights in a number type that needs scales: transformers 5.23 reads them as plain numbers."""
    return [
        name
        for name, tensor in tensors.items()
        if name.endswith(".weight") and tensor["dtype"] not in PLAIN_TYPES
    ]


def _tensors(file: Path) -> dict[str, Any]:
    """Return what the header of a safetensors file says of each tensor (the format: eight bytes, JSON, then data).

    Raises:
        ModelUnavailable: the file's size is not where its last tensor ends.
    """
    size = file.stat().st_size
    with file.open("rb") as source:
        length = int.from_bytes(source.read(struct.calcsize("<Q")), "little")
        header = source.read(min(length, size))
    try:
        tensors: dict[str, Any] = json.loads(header)
        tensors.pop("__metadata__", None)
        ends = [tensor["data_offsets"][1] for tensor in tensors.values()]
        expected = struct.calcsize("<Q") + length + max(ends, default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        expected = -1
    if expected != size:
        says = f"{size:,} bytes" if expected < size else f"{size:,} of {expected:,} bytes"
        raise ModelUnavailable(
            f"The weight file {file} is damaged or was cut off ({says}, which is no whole safetensors file); fetch it again."
        )
    return tensors


def _listed(names: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


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

    Two fine-tunes of one model have files of one size, and copying (`cp -p`, `rsync -t`, `tar`) keeps a file's time. So a
    file counts as unchanged only with the same inode and the same time of change (ctime), which no program can set.

    Raises:
        ModelUnavailable: the folder holds no weights.
    """
    return _remembered(folder, memory_folder) or _read_and_remember(folder, memory_folder)


def verified_weight_sha256(folder: Path, *, memory_folder: Path) -> str:
    """Return the sha256 over all weight files of `folder` as they are read now, whatever is remembered of them.

    Raises:
        ModelUnavailable: the folder holds no weights, or they are not what they were: their content changed while size and
            times did not, as on a failing disk, or it is not what a catalogued model was converted to.
    """
    marker = folder / MARKER
    converted = _json_object(marker).get("weights_sha256", "") if marker.is_file() else ""
    expected = (_remembered(folder, memory_folder), str(converted))
    return _read_and_remember(folder, memory_folder, expected=expected)


def _remembered(folder: Path, memory_folder: Path) -> str:
    """Return the hash that is remembered of weights that look unchanged; empty when there is none."""
    remembered = _read_memory(memory_folder / MEMORY).get(str(folder))
    unchanged = remembered and remembered["stamp"] == [_stamp(file) for file in weight_files(folder)]
    return str(remembered["sha256"]) if remembered and unchanged else ""


def _read_and_remember(folder: Path, memory_folder: Path, *, expected: Sequence[str] = ()) -> str:
    stamp = [_stamp(file) for file in weight_files(folder)]
    sha256 = sha256_of_weights(folder)
    if others := [other for other in expected if other not in ("", sha256)]:  # what was remembered stays
        raise ModelUnavailable(
            f"The weights in {folder} are not what they were (sha256 {sha256[:12]}, expected {others[0][:12]}): a file was "
            "damaged or replaced. Remove the folder and fetch the model again (`medx models pull` for a catalogued one)."
        )
    memory = memory_folder / MEMORY
    known = _read_memory(memory)
    known[str(folder)] = {"stamp": stamp, "sha256": sha256}
    memory_folder.mkdir(parents=True, exist_ok=True)
    fresh = memory.with_suffix(".new")
    fresh.write_text(json.dumps(known, indent=1), encoding="utf-8")
    fresh.replace(memory)
    return sha256


def sha256_of_weights(folder: Path) -> str:
    """Return the sha256 over the content of all weight files of `folder`, in the order of their names.

    Raises:
        ModelUnavailable: there are none.
    """
    digest = hashlib.sha256()
    for file in weight_files(folder):
        with file.open("rb") as source:
            while block := source.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def _stamp(file: Path) -> list[str | int]:
    stat = file.stat()
    return [str(file), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _read_memory(memory: Path) -> dict[str, dict[str, object]]:
    try:
        known: dict[str, dict[str, object]] = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return {}
    return known
