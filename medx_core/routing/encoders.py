"""Sentence encoders: a text becomes one vector of length 1.

The vector joins three depths of the network: the last layer says what a text is about, the ones at a third and two
thirds of the way say more about how it is put, which is what tells a question for a leaflet from one for a paper.

Any sentence-transformers model that pools by mean or by its first token can be read, from a folder, from a hub id, or
the MiniLM that comes in a wheel. The folder is read with transformers, which the language model needs anyway:
importing sentence-transformers itself would add seconds to every start of a worker.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from medx_core.errors import RouterUnavailable
from medx_core.routing.encoder_files import (
    WHEEL_ENCODER,
    encoder_folder,
    first_line,
    folder_sha256,
    pools_first_token,
)
from medx_core.routing.router import Floats

MAX_TOKENS = 256
MAX_CHARACTERS = 2_000
"""More than MAX_TOKENS of English; what lies beyond is never read."""
BATCH_TOKENS = 4_096


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
        rows: Floats = np.zeros((len(texts), self.width), dtype=np.float32)
        if not texts:
            return rows
        token_ids: list[list[int]] = self.tokenizer(
            [text[:MAX_CHARACTERS] for text in texts], truncation=True, max_length=MAX_TOKENS
        )["input_ids"]
        for batch in batches_by_length([len(ids) for ids in token_ids]):
            rows[batch] = self._embed([token_ids[index] for index in batch])
        return rows

    @torch.inference_mode()
    def _embed(self, token_ids: list[list[int]]) -> Floats:
        padded = self.tokenizer.pad({"input_ids": token_ids}, return_tensors="pt").to(self.device)
        states = self.network(**padded, output_hidden_states=True).hidden_states
        mask = padded["attention_mask"].unsqueeze(-1).float()
        pooled = [self._pooled(states[layer].float(), mask) for layer in self.layers]
        joined = torch.nn.functional.normalize(torch.cat(pooled, dim=1), dim=1)  # (batch, width)
        rows: Floats = joined.cpu().numpy()
        return rows

    def _pooled(self, states: Tensor, mask: Tensor) -> Tensor:
        """Pool states (batch, tokens, hidden) into rows of length 1."""
        row = states[:, 0] if self.pool_first_token else (states * mask).sum(dim=1) / mask.sum(dim=1)
        return torch.nn.functional.normalize(row, dim=1)


def batches_by_length(lengths: Sequence[int], batch_tokens: int = BATCH_TOKENS) -> Iterator[list[int]]:
    """Yield indices in batches of like length, none of more than `batch_tokens` tokens with its padding."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batch and lengths[index] * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def load_encoder(name: str = WHEEL_ENCODER, *, device: str = "cpu") -> SentenceEncoder:
    """Load the encoder called `name`: the wheel's, a folder, or a hub id. `device` is `cpu` or `cuda:N`.

    Raises:
        RouterUnavailable: it is not there, or is no sentence encoder that MedX can read.
    """
    folder = encoder_folder(name)
    sha256 = folder_sha256(folder)
    first_token = pools_first_token(folder)
    try:
        with quiet_loading():
            tokenizer = AutoTokenizer.from_pretrained(
                folder, trust_remote_code=False, local_files_only=True, clean_up_tokenization_spaces=False
            )
            network: PreTrainedModel = AutoModel.from_pretrained(
                folder,
                dtype=torch.float32,
                trust_remote_code=False,
                local_files_only=True,
                use_safetensors=True,
            )
            torch.nn.Module.to(
                network, torch.device(device)
            )  # moves in place; transformers types its own `to` away
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise RouterUnavailable(
            f"The router's encoder {name} cannot be loaded from {folder} onto {device}: {first_line(error)}"
        ) from error
    network.train(mode=False)
    network.requires_grad_(requires_grad=False)
    return SentenceEncoder(name, sha256, network, tokenizer, first_token, torch.device(device))


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
