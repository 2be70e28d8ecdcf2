"""Loading any causal language model of transformers: by catalogue name, folder or hub id.

Weights are safetensors only, and code that comes with a model is never run (`trust_remote_code` stays off).
"""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.quantizers.auto import AutoHfQuantizer
from transformers.utils.logging import disable_progress_bar

from medx_core.errors import BadInput, ModelUnavailable
from medx_core.model_check import Ability, Can, ModelCheck
from medx_core.models.catalog import ModelSource, model_source, refuse_missing
from medx_core.models.devices import Placement, memory_faults_in_words
from medx_core.models.model_files import (
    CONFIGURATION,
    identity_sha256,
    local_folder,
    refuse_incomplete,
    verified_weight_sha256,
    weight_sha256,
)
from medx_core.models.packed_linear import pack_linear_layers, parameter_count
from medx_core.models.padding import PaddedBatch, left_padded
from medx_core.recipes import ModelIdentity

CONTEXT_LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len")
"""What configurations call the most tokens that a network reads; most map their own name to the first."""


@dataclass(frozen=True)
class LoadedModel:
    """A frozen network with its tokenizer, ready on one device.

    `weight_sha256` names the weights, `identity_sha256` all that changes an answer. `check` is what the model was found
    to do; None where it was not checked, and then it is trusted.
    """

    name: str
    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    placement: Placement
    weight_sha256: str
    identity_sha256: str = ""
    check: ModelCheck | None = None

    @property
    def identity(self) -> ModelIdentity:
        """The model as recipes are made for it."""
        number_type = str(self.placement.dtype).removeprefix("torch.")
        return ModelIdentity(self.name, self.weight_sha256, number_type, self.identity_sha256)

    @property
    def parameters(self) -> int:
        """The number of the network's weights; those that two layers share count once."""
        return parameter_count(self.network)

    @property
    def longest(self) -> int | None:
        """The most tokens that the network reads at once here; None where its architecture has no such limit.

        That is what it was made for; with longrope (Phi-3 128k) it is the length of its first training: one row beyond that
        and transformers 5.23 turns every row of the batch otherwise, but not the keys that are kept already.
        """
        config = self.network.config.get_text_config()
        lengths = (getattr(config, name, None) for name in CONTEXT_LENGTHS)
        made_for = next((int(length) for length in lengths if length), None)
        return min([*_where_longrope_switches(config), *([made_for] if made_for else [])], default=None)

    def refuse_unread(self, ids: Sequence[int], *, more: int = 0) -> None:
        """Refuse a row of tokens that the network cannot read: with `more` behind them too many, or one without weights.

        Raises:
            BadInput: it cannot.
        """
        self.refuse_longer(len(ids) + more)
        if (strange := self._without_weights(ids)) is not None:
            raise BadInput(self._strange(strange))

    def _without_weights(self, ids: Iterable[int]) -> int | None:
        """Return the first token that the tokenizer knows and the network does not."""
        table: Any = self.network.get_input_embeddings()
        known = int(table.num_embeddings)
        return next((token for token in ids if token >= known), None)

    def _strange(self, token: int) -> str:
        # Gemma 3's tokenizer has one for pictures, which the text network has no row for.
        return (
            f"The text holds {self.tokenizer.convert_ids_to_tokens(token)!r}, a token that the model {self.name} has no "
            "weights for; leave it out."
        )

    def refuse_longer(self, tokens: int) -> None:
        """Refuse so many tokens where they are more than the network reads: it would crash, or go on as nobody trained it.

        Raises:
            BadInput: they are more.
        """
        if self.longest is not None and tokens > self.longest:
            raise BadInput(
                f"The text is longer than the model {self.name} reads: {tokens:,} tokens of {self.longest:,}, with all that is "
                "asked around it; shorten it."
            )

    @property
    def can(self) -> Can:
        """What the model can do here."""
        return self.check.can if self.check else Can()

    def require(self, ability: Ability) -> None:
        """Refuse what the model was found unable to do.

        Raises:
            ModelUnavailable: the message names the model and what is wrong with it.
        """
        if self.check:
            self.check.require(ability)

    @property
    def device(self) -> torch.device:
        """Where tensors handed to the network must lie."""
        return self.placement.device

    def padded(self, rows: Sequence[Sequence[int]], prefix_length: int = 0) -> PaddedBatch:
        """Make one batch of rows of token ids, on the device; `prefix_length` tokens are in the cache already.

        Raises:
            ModelUnavailable: the rows are of unequal length, and the check found that this model gets padded rows wrong; or
                a row has a token that the tokenizer knows and the network does not.
        """
        if not self.can.batch and len({len(row) for row in rows}) > 1:
            raise ModelUnavailable(
                f"The model {self.name} answers rows of unequal length only apart, which this work cannot do."
            )
        if (strange := self._without_weights(token for row in rows for token in row)) is not None:
            raise ModelUnavailable(self._strange(strange))
        pad_id = int(self.tokenizer.pad_token_id or 0)
        return left_padded(rows, pad_id=pad_id, device=self.device, prefix_length=prefix_length)


def load_model(name: str, *, models_folder: Path, placement: Placement) -> LoadedModel:
    """Load the model called `name` onto a device; every weight of it comes from its files.

    Raises:
        ModelUnavailable: it has not been pulled, cannot be reached, is not a whole causal language model, does not fit, or
            was replaced while it was read.
    """
    refuse_missing(name, models_folder)
    source = model_source(name, models_folder)
    folder = local_folder(source)
    refuse_incomplete(folder)
    verified_weight_sha256(folder, memory_folder=models_folder)  # by content: what is loaded answers for long
    identity = identity_sha256(folder, memory_folder=models_folder)
    network, tokenizer = _read(source, folder, placement)
    if identity_sha256(folder, memory_folder=models_folder) != identity:
        raise ModelUnavailable(
            f"The files of the model {source.name} in {folder} changed while they were read, so that what was loaded is no one "
            "model; load it again once they are whole."
        )
    return LoadedModel(
        name=source.name,
        network=network,
        tokenizer=tokenizer,
        placement=placement,
        weight_sha256=weight_sha256(folder, memory_folder=models_folder),
        identity_sha256=identity,
    )


def _where_longrope_switches(config: PreTrainedConfig) -> list[int]:
    """Return the lengths in tokens at which rotary embeddings of the kind longrope go over to their long factors."""
    rotary: Any = getattr(config, "rope_parameters", None) or {}
    kinds = [rotary, *(by_layer for by_layer in rotary.values() if isinstance(by_layer, dict))]
    return [
        int(kind["original_max_position_embeddings"]) for kind in kinds if kind.get("rope_type") == "longrope"
    ]


def prepared(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Set what MedX relies on everywhere: frozen weights, packed on the CPU, inference mode, padding on the left.

    A tokenizer that was saved as it was trained may still draw (BPE dropout): the same text gets the same tokens here.
    """
    network.train(mode=False)
    network.requires_grad_(requires_grad=False)
    pack_linear_layers(network)
    tokenizer.padding_side = "left"
    merges: Any = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    if getattr(merges, "dropout", None):
        merges.dropout = None
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token


def _read(
    source: ModelSource, folder: Path, placement: Placement
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    disable_progress_bar()  # type: ignore[no-untyped-call]
    _refuse_unknown_quantisation(source, folder)
    try:
        with memory_faults_in_words(f"The model {source.name}"):
            tokenizer = AutoTokenizer.from_pretrained(
                folder, trust_remote_code=False, clean_up_tokenization_spaces=False
            )
            # Left to the library, attention is torch's own where the architecture has it, else written out ("eager").
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=placement.dtype,
                trust_remote_code=False,
                use_safetensors=True,
                device_map={"": placement.device},
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # so that they are reported by name; they are refused below
            )
            network: PreTrainedModel = loaded[0]
            info: dict[str, Any] = loaded[1]
            _refuse_unread_weights(source, info)
            prepared(network, tokenizer)
    except ModelUnavailable:
        raise
    except (
        Exception
    ) as error:  # the library's faults have no common root: ImportError, SafetensorError, RuntimeError ...
        raise ModelUnavailable(_why_not_loaded(source, folder, error)) from error
    return network, tokenizer


def _refuse_unread_weights(source: ModelSource, info: dict[str, Any]) -> None:
    """Refuse a network of which some weights were not in the files: transformers 5.23 only logs it and draws them at random.

    Weights that the files hold and the network does not know are refused too: they belong to another architecture.

    Raises:
        ModelUnavailable: names are missing, left over or of another shape; the message counts them and names some.
    """
    missing, left_over = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    another_shape = sorted(str(mismatch[0]) for mismatch in info["mismatched_keys"])
    faults = [
        f"{len(names)} {words} ({_some(names)})"
        for names, words in (
            (missing, "weights that the network needs are not in its files"),
            (left_over, "weights in its files belong to no part of the network"),
            (another_shape, "weights have another shape than its configuration says"),
        )
        if names
    ]
    if faults:
        raise ModelUnavailable(
            f"The model {source.name} is not used, for it would answer with weights that nobody trained: {'; '.join(faults)}."
        )


def _some(names: Collection[str], most: int = 3) -> str:
    shown = ", ".join(list(names)[:most])
    return f"{shown}, ..." if len(names) > most else shown


def _why_not_loaded(source: ModelSource, folder: Path, error: Exception) -> str:
    if stated := _quantisation(folder):
        return _quantised_sentence(source, stated, _first_line(error))
    return f"The model {source.name} cannot be loaded from {folder}: {_first_line(error)}"


def _refuse_unknown_quantisation(source: ModelSource, folder: Path) -> None:
    """Refuse quantised weights of a kind that transformers does not know: 5.23 logs it and reads them as plain ones."""
    stated = _quantisation(folder)
    if stated.get("quant_method") and not _is_known_quantisation(stated):
        raise ModelUnavailable(_quantised_sentence(source, stated, "transformers does not know it"))


def _is_known_quantisation(stated: dict[str, Any]) -> bool:
    known: bool = AutoHfQuantizer.supports_quant_method(stated)  # type: ignore[no-untyped-call]  # left untyped there
    return known


def _quantisation(folder: Path) -> dict[str, Any]:
    """Return what the configuration says of the weights' quantisation; empty where they are plain."""
    try:
        stated = json.loads((folder / CONFIGURATION).read_text(encoding="utf-8")).get("quantization_config")
    except (OSError, ValueError, AttributeError):
        return {}
    return stated if isinstance(stated, dict) else {}


def _quantised_sentence(source: ModelSource, stated: dict[str, Any], why: str) -> str:
    return (
        f"The weights of the model {source.name} are quantised ({stated.get('quant_method', 'of a kind not named')}), and "
        f"this kind cannot be run here ({why}); name the unquantised model."
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0]
