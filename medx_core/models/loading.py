"""Loading any causal language model of transformers: by catalogue name, folder or hub id.

Weights are safetensors only, and code that comes with a model is never run (`trust_remote_code` stays off).
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from medx_core.errors import ModelUnavailable
from medx_core.models.catalog import ModelSource, model_source, refuse_missing
from medx_core.models.devices import Placement, memory_faults_in_words
from medx_core.models.packed_linear import pack_linear_layers

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


HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]


@dataclass(frozen=True)
class LoadedModel:
    """A frozen network with its tokenizer, ready on one device."""

    name: str
    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    placement: Placement
    weight_sha256: str

    @property
    def device(self) -> torch.device:
        """Where tensors handed to the network must lie."""
        return self.placement.device


def load_model(name: str, *, models_folder: Path, placement: Placement) -> LoadedModel:
    """Load the model called `name` onto a device.

    Raises:
        ModelUnavailable: it has not been pulled, cannot be reached, is no causal language model, or does not fit.
    """
    refuse_missing(name, models_folder)
    source = model_source(name, models_folder)
    folder = _local_folder(source)
    network, tokenizer = _read(source, folder, placement)
    return LoadedModel(
        name=source.name,
        network=network,
        tokenizer=tokenizer,
        placement=placement,
        weight_sha256=weight_sha256(folder, memory_folder=models_folder),
    )


def prepared(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Set what MedX relies on everywhere: frozen weights, packed on the CPU, inference mode, padding on the left."""
    network.train(mode=False)
    network.requires_grad_(requires_grad=False)
    pack_linear_layers(network)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token


def _local_folder(source: ModelSource) -> Path:
    if source.is_folder:
        return Path(source.location)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source.location, allow_patterns=HUB_FILES))
    except Exception as error:  # the hub client's many faults have no common root
        raise ModelUnavailable(
            f"The model {source.location!r} is no folder here and cannot be fetched from the hub; check the name and the network."
        ) from error


def _read(
    source: ModelSource, folder: Path, placement: Placement
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with memory_faults_in_words(f"The model {source.name}"):
            tokenizer = AutoTokenizer.from_pretrained(
                folder, trust_remote_code=False, clean_up_tokenization_spaces=False
            )
            network: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=placement.dtype,
                attn_implementation="sdpa",
                trust_remote_code=False,
                use_safetensors=True,
                device_map={"": placement.device},
            )
    except (OSError, ValueError, KeyError) as error:
        raise ModelUnavailable(
            f"The model {source.name} cannot be loaded from {folder}: {_first_line(error)}"
        ) from error
    prepared(network, tokenizer)
    return network, tokenizer


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0]
