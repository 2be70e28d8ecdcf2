"""Loading any causal language model of transformers: by catalogue name, folder or hub id.

Weights are safetensors only, and code that comes with a model is never run (`trust_remote_code` stays off).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from medx_core.errors import ModelUnavailable
from medx_core.models.catalog import ModelSource, model_source, refuse_missing
from medx_core.models.devices import Placement, memory_faults_in_words
from medx_core.models.model_files import local_folder, weight_sha256
from medx_core.models.packed_linear import pack_linear_layers
from medx_core.models.padding import PaddedBatch, left_padded


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

    def padded(self, rows: Sequence[Sequence[int]], prefix_length: int = 0) -> PaddedBatch:
        """Make one batch of rows of token ids, on the device; `prefix_length` tokens are in the cache already."""
        pad_id = int(self.tokenizer.pad_token_id or 0)
        return left_padded(rows, pad_id=pad_id, device=self.device, prefix_length=prefix_length)


def load_model(name: str, *, models_folder: Path, placement: Placement) -> LoadedModel:
    """Load the model called `name` onto a device.

    Raises:
        ModelUnavailable: it has not been pulled, cannot be reached, is not a causal language model, or does not fit.
    """
    refuse_missing(name, models_folder)
    source = model_source(name, models_folder)
    folder = local_folder(source)
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
