"""Sentence encoders: a text becomes one vector of length 1.

The vector joins three depths of the network: the last layer says what a text is about, the ones at a third and two
thirds of the way say more about how it is put, which is what tells a question for a leaflet from one for a paper.

Any sentence-transformers model that pools by mean or by its first token can be read, from a folder, from a hub id, or
the MiniLM that comes in a wheel. The folder is read with transformers, which the language model needs anyway:
importing sentence-transformers itself would add seconds to every start of a worker. A test holds the last layer's part
against what sentence-transformers gives.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModel, BatchEncoding, PreTrainedModel, PreTrainedTokenizerBase

from medx_core.models.packed_linear import pack_linear_layers
from medx_core.routing.encoder_files import (
    WHEEL_ENCODER,
    encoder_folder,
    folder_sha256,
    freeze,
    load_network,
    pools_first_token,
)
from medx_core.routing.router import Floats

MAX_TOKENS = 256
MAX_CHARACTERS = 2_000
"""More than MAX_TOKENS of English; what lies beyond is never read."""
BATCH_TOKENS = {"cpu": 512, "cuda": 16_384}
"""With its padding. On a CPU larger batches leave the cache, and their memory is fetched and given back at each layer."""


def forward_rows(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    read: Callable[[BatchEncoding], Tensor],
    *,
    width: int,
    device: torch.device,
) -> Floats:
    """Return what `read` makes of every text, float32 (n, width); a text that comes twice is read once.

    Args:
        texts: any texts; long ones are read up to MAX_TOKENS.
        tokenizer: the network's.
        read: takes a padded batch on `device`, returns (batch, width).
        width: the number of values in a row.
        device: where the network is.
    """
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    rows: Floats = np.zeros((len(places), width), dtype=np.float32)
    if not places:
        return rows
    token_ids = tokens_of(tokenizer, list(places))
    with torch.inference_mode():
        for batch in batches_by_length([len(ids) for ids in token_ids], BATCH_TOKENS[device.type]):
            rows[batch] = read(padded(tokenizer, [token_ids[i] for i in batch], device)).float().cpu().numpy()
    return rows[[places[text] for text in texts]]


def tokens_of(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Return every text's tokens, cut at what MedX reads and the tokenizer's network can read."""
    longest = min(MAX_TOKENS, tokenizer.model_max_length)
    cut = [text[:MAX_CHARACTERS] for text in texts]
    rows: list[list[int]] = tokenizer(cut, truncation=True, max_length=longest)["input_ids"]
    return rows


def padded(
    tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[list[int]], device: torch.device
) -> BatchEncoding:
    """Return tokens as one batch on `device`, with its attention mask."""
    return tokenizer.pad({"input_ids": list(token_ids)}, return_tensors="pt").to(device)


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


class Encoder(Protocol):
    """Turns texts into vectors."""

    @property
    def name(self) -> str:
        """The encoder as the settings name it."""
        ...

    @property
    def sha256(self) -> str:
        """The hash of everything that decides an embedding."""
        ...

    @property
    def width(self) -> int:
        """The number of values in a row."""
        ...

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return one row of length 1 a text, float32 (n, width)."""
        ...


@dataclass(frozen=True)
class SentenceEncoder:
    """A transformer with a pooling on top, frozen, on one device."""

    name: str
    sha256: str
    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    pool_first_token: bool
    device: torch.device

    @property
    def layers(self) -> tuple[int, ...]:
        """The depths that are joined, as indices of hidden states: 0 is the input of the first layer."""
        depth = int(self.network.config.num_hidden_layers)
        return tuple(sorted({max(1, round(depth / 3)), max(1, round(depth * 2 / 3)), depth}))

    @property
    def width(self) -> int:
        """The number of values in a row."""
        return int(self.network.config.hidden_size) * len(self.layers)

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return one row of length 1 a text, float32 (n, width); long texts are read up to MAX_TOKENS."""
        return forward_rows(texts, self.tokenizer, self._embed, width=self.width, device=self.device)

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
        RouterUnavailable: it is not there, or is no sentence encoder that MedX can read.
    """
    folder = encoder_folder(name)
    sha256 = folder_sha256(folder)
    first_token = pools_first_token(folder)
    network, tokenizer = load_network(AutoModel, folder, device=device, what=f"The router's encoder {name}")
    freeze(network)
    pack_linear_layers(network)
    return SentenceEncoder(name, sha256, network, tokenizer, first_token, torch.device(device))
