"""Sentence encoders: a text becomes one vector of length 1.

The vector joins three depths of the network: the last layer says what a text is about, the ones at a third and two
thirds of the way say more about how it is put, which is what tells a question for a leaflet from one for a paper.

Any sentence-transformers model that pools by mean or by its first token can be read, from a folder, from a hub id, or
the MiniLM that comes in a wheel. The folder is read with transformers, which the language model needs anyway:
importing sentence-transformers itself would add seconds to every start of a worker. A test holds the last layer's part
against what sentence-transformers gives.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import AutoModel, BatchEncoding, PreTrainedModel, PreTrainedTokenizerBase

from medx_core.packed_linear import pack_linear_layers
from medx_core.routing.encoder_files import (
    WHEEL_ENCODER,
    encoder_folder,
    folder_sha256,
    pools_first_token,
)
from medx_core.routing.forward_pass import forward_rows
from medx_core.routing.networks import freeze, load_network
from medx_core.routing.router import Floats


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
