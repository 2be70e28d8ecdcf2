"""The default encoder in NumPy: for a command that reads a few texts and ends.

Importing torch and transformers takes ten CPU seconds or more; reading one text takes a twentieth of one. This module
reads BERT-type sentence encoders (the MiniLM that comes in a wheel) without them. It is half as fast per text as
`encoders.SentenceEncoder`, which workers and training use; a test checks that both give the same embeddings.

Texts are not padded: the tokens of all texts lie one after the other, and each text attends to its own tokens.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from medx_core.routing.encoder_files import (
    MAX_CHARACTERS,
    MAX_TOKENS,
    batches_by_length,
    joined_depths,
    pools_first_token,
)
from medx_core.routing.router import Floats

_BATCH_TOKENS = 512


def can_read(folder: Path) -> bool:
    """Whether the encoder in a folder is one that this module reads: BERT with GELU, pooled by mean."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    known = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
    files = (folder / "model.safetensors", folder / "tokenizer.json")
    return (
        all(config.get(name, value) == value for name, value in known.items())
        and all(file.is_file() for file in files)
        and not pools_first_token(folder)
    )


@dataclass(frozen=True)
class NumpyEncoder:
    """A BERT encoder as plain arrays; `weights` by their names in the file."""

    name: str
    sha256: str
    weights: Mapping[str, Floats]
    tokenizer: Tokenizer
    layers: int
    heads: int
    epsilon: float

    @property
    def width(self) -> int:
        """The number of values in a row."""
        return self.weights["embeddings.LayerNorm.bias"].size * len(joined_depths(self.layers))

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return one row of length 1 per text, float32 (n, width); long texts are read up to MAX_TOKENS."""
        token_ids = [
            row.ids for row in self.tokenizer.encode_batch([text[:MAX_CHARACTERS] for text in texts])
        ]
        rows: Floats = np.zeros((len(texts), self.width), dtype=np.float32)
        for batch in batches_by_length([len(ids) for ids in token_ids], _BATCH_TOKENS):
            rows[batch] = self._embed([token_ids[place] for place in batch])
        return rows

    def _embed(self, token_ids: Sequence[Sequence[int]]) -> Floats:
        ends = np.cumsum([0, *map(len, token_ids)])
        lengths = np.diff(ends)[:, None].astype(np.float32)
        pooled = []
        for depth, states in enumerate(self._states(np.concatenate(token_ids), ends), start=1):
            if depth in joined_depths(self.layers):
                sums: Floats = np.add.reduceat(states, ends[:-1], axis=0)
                pooled.append(_unit(sums / lengths))
        return _unit(np.concatenate(pooled, axis=1))

    def _states(self, token_ids: np.ndarray, ends: np.ndarray) -> Iterator[Floats]:
        """Yield the states (tokens, hidden) after each layer."""
        weights = self.weights
        positions = np.concatenate([np.arange(end - start) for start, end in pairwise(ends)])
        states = weights["embeddings.word_embeddings.weight"][token_ids]
        states = states + weights["embeddings.position_embeddings.weight"][positions]
        states = self._norm(states + weights["embeddings.token_type_embeddings.weight"][0], "embeddings")
        for layer in range(self.layers):
            part = f"encoder.layer.{layer}"
            attended = self._linear(self._attend(states, ends, part), f"{part}.attention.output.dense")
            states = self._norm(states + attended, f"{part}.attention.output")
            inner = _gelu(self._linear(states, f"{part}.intermediate.dense"))
            states = self._norm(states + self._linear(inner, f"{part}.output.dense"), f"{part}.output")
            yield states

    def _attend(self, states: Floats, ends: np.ndarray, part: str) -> Floats:
        """Return each token's mixture (tokens, hidden) of its own text's values."""
        queries, keys, values = (
            self._linear(states, f"{part}.attention.self.{name}").reshape(len(states), self.heads, -1)
            for name in ("query", "key", "value")
        )
        mixed = np.empty_like(values)
        for start, end in pairwise(ends):
            q, k, v = (each[start:end].transpose(1, 0, 2) for each in (queries, keys, values))
            scores = q @ k.transpose(0, 2, 1) / np.float32(np.sqrt(q.shape[-1]))  # (heads, tokens, tokens)
            scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
            mixed[start:end] = (scores / scores.sum(axis=-1, keepdims=True) @ v).transpose(1, 0, 2)
        return mixed.reshape(states.shape)

    def _linear(self, states: Floats, name: str) -> Floats:
        product: Floats = states @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]
        return product

    def _norm(self, states: Floats, part: str) -> Floats:
        centred = states - states.mean(axis=1, keepdims=True)
        scale = np.sqrt((centred * centred).mean(axis=1, keepdims=True) + np.float32(self.epsilon))
        normed: Floats = centred / scale * self.weights[f"{part}.LayerNorm.weight"]
        return normed + self.weights[f"{part}.LayerNorm.bias"]


def load_numpy_encoder(name: str, folder: Path, sha256: str) -> NumpyEncoder:
    """Load an encoder that `can_read` accepts; `sha256` is that of its folder."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # "[SEP]" in a question is text
    tokenizer.enable_truncation(min(MAX_TOKENS, config["max_position_embeddings"]))
    weights = load_file(folder / "model.safetensors")
    return NumpyEncoder(
        name,
        sha256,
        {key.removeprefix("bert."): tensor for key, tensor in weights.items()},
        tokenizer,
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        epsilon=config["layer_norm_eps"],
    )


def _unit(rows: Floats) -> Floats:
    scaled: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return scaled


def _gelu(states: Floats) -> Floats:
    """Return x * Phi(x), the error function by Abramowitz and Stegun 7.1.26 (largest error 1.5e-7)."""
    size = np.abs(states) * np.float32(np.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * size)
    tail = t * np.float32(1.061405429) - np.float32(1.453152027)
    for coefficient in (1.421413741, -0.284496736, 0.254829592):
        tail = tail * t + np.float32(coefficient)
    tail *= t * np.exp(-size * size) / 2
    activated: Floats = states * np.where(states >= 0, 1 - tail, tail)
    return activated
