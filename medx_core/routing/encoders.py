"""Sentence encoders: a text becomes one vector of length 1.

The vector joins three depths of the network: the last layer says what a text is about, the ones at a third and two
thirds of the way say more about how it is put, which separates a question for a leaflet from one for a paper.

Any sentence-transformers model that pools by mean or by its first token can be read, from a folder, from a hub id, or
the MiniLM that comes in a wheel. It is read with transformers, with the linear layers packed, and not by
sentence-transformers 6.2: measured side by side on two cores with one thread, that takes 19 to 25 CPU seconds to
import, load and read one text where this takes 13 to 14, and reads 69 to 80 texts per CPU second where this reads 121
to 134, with the same embeddings to 2.4e-7. A test compares the last layer's part with it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, BatchEncoding, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from medx_core.errors import RouterUnavailable
from medx_core.models.packed_linear import pack_linear_layers
from medx_core.routing.encoder_files import (
    MAX_CHARACTERS,
    MAX_TOKENS,
    WHEEL_ENCODER,
    batches_by_length,
    encoder_folder,
    first_line,
    folder_sha256,
    joined_depths,
    pools_first_token,
)
from medx_core.routing.router import Floats

BATCH_TOKENS = {"cpu": 512, "cuda": 16_384}
"""With its padding. On a CPU larger batches leave the cache, and their memory is fetched and given back at each layer."""


def forward_rows(
    network: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    read: Callable[[BatchEncoding], Tensor],
    *,
    width: int,
) -> Floats:
    """Return what `read` makes of every text, float32 (n, width); a text that comes twice is read once.

    `read` takes a padded batch on the network's device and returns (batch, width); long texts are read up to
    MAX_TOKENS.
    """
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    rows: Floats = np.zeros((len(places), width), dtype=np.float32)
    if not places:
        return rows
    device = network.device
    token_ids = tokens_of(tokenizer, list(places))
    with torch.inference_mode():
        for batch in batches_by_length([len(ids) for ids in token_ids], BATCH_TOKENS[device.type]):
            rows[batch] = read(padded(tokenizer, [token_ids[i] for i in batch], device)).float().cpu().numpy()
    return rows[[places[text] for text in texts]]


def tokens_of(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Return every text's tokens, cut at what MedX reads and the tokenizer's network can read."""
    longest = min(MAX_TOKENS, tokenizer.model_max_length)
    cut = [text[:MAX_CHARACTERS] for text in texts]
    # "[SEP]" in a question is text
    encoded = tokenizer(cut, truncation=True, max_length=longest, split_special_tokens=True)
    rows: list[list[int]] = encoded["input_ids"]
    return rows


def padded(
    tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[list[int]], device: torch.device
) -> BatchEncoding:
    """Return tokens as one batch on `device`, with its attention mask."""
    return tokenizer.pad({"input_ids": list(token_ids)}, return_tensors="pt").to(device)


@dataclass(frozen=True)
class SentenceEncoder:
    """A transformer with a pooling on top, frozen, on one device."""

    name: str
    sha256: str
    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    pool_first_token: bool

    @property
    def layers(self) -> tuple[int, ...]:
        """The depths that are joined, as indices of hidden states: 0 is the input of the first layer."""
        return joined_depths(int(self.network.config.num_hidden_layers))

    @property
    def width(self) -> int:
        """The number of values in a row."""
        return int(self.network.config.hidden_size) * len(self.layers)

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return one row of length 1 per text, float32 (n, width); long texts are read up to MAX_TOKENS."""
        return forward_rows(self.network, self.tokenizer, texts, self._embed, width=self.width)

    def _embed(self, batch: BatchEncoding) -> Tensor:
        states = self.network(**batch, output_hidden_states=True).hidden_states
        mask = batch["attention_mask"].unsqueeze(-1).float()
        pooled = [self._pooled(states[layer].float(), mask) for layer in self.layers]
        return torch.nn.functional.normalize(torch.cat(pooled, dim=1), dim=1)  # (batch, width)

    def _pooled(self, states: Tensor, mask: Tensor) -> Tensor:
        """Pool states (batch, tokens, hidden) into rows of length 1."""
        row = states[:, 0] if self.pool_first_token else (states * mask).sum(dim=1) / mask.sum(dim=1)
        return torch.nn.functional.normalize(row, dim=1)


def load_encoder(name: str = WHEEL_ENCODER, *, device: str = "cpu") -> SentenceEncoder:
    """Load the encoder called `name`: the wheel's, a folder, or a hub id. `device` is `cpu` or `cuda:N`.

    Raises:
        RouterUnavailable: it is not there, or is not a sentence encoder that MedX can read.
    """
    folder = encoder_folder(name)
    sha256 = folder_sha256(folder)
    first_token = pools_first_token(folder)
    network, tokenizer = load_network(AutoModel, folder, device, f"The router's encoder {name}")
    freeze(network)
    pack_linear_layers(network)
    return SentenceEncoder(name, sha256, network, tokenizer, first_token)


def load_network(
    auto_class: Any, folder: Path, device: str, purpose: str, **options: Any
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a float32 network and its tokenizer from a folder by one of transformers' Auto classes.

    `purpose` begins the message of an error; `options` are handed to the class.

    Raises:
        RouterUnavailable: it cannot be loaded or does not fit.
    """
    local = {"trust_remote_code": False, "local_files_only": True}
    try:
        with quiet_loading():
            tokenizer = AutoTokenizer.from_pretrained(folder, clean_up_tokenization_spaces=False, **local)
            network: PreTrainedModel = auto_class.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, **local, **options
            )
            # Moves in place; transformers types its own `to` away.
            torch.nn.Module.to(network, torch.device(device))
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = first_line(error)
        raise RouterUnavailable(
            f"{purpose} cannot be loaded from {folder} onto {device}: {reason}"
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
