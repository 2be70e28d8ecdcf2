"""GGUF to safetensors, once: reading GGUF with transformers takes 45 CPU seconds, reading safetensors one.

Two architectures are known, those of the catalogue: `llama` and `gemma3`. The layout of a GGUF file is described in
ggml's docs/gguf.md. The file is parsed here because `gguf.GGUFReader` (0.19) makes a numpy view for every string: 6 CPU
seconds for a vocabulary of 49,152, 26 for one of 262,144. The quantised blocks are expanded by the `gguf` library.
"""

import json
import math
import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType
from gguf.quants import dequantize
from numpy.typing import NDArray
from safetensors.numpy import save_file

from medx_core.errors import ModelUnavailable

SCALARS = {
    GGUFValueType.UINT8: "B", GGUFValueType.INT8: "b", GGUFValueType.UINT16: "H", GGUFValueType.INT16: "h",
    GGUFValueType.UINT32: "I", GGUFValueType.INT32: "i", GGUFValueType.FLOAT32: "f", GGUFValueType.BOOL: "?",
    GGUFValueType.UINT64: "Q", GGUFValueType.INT64: "q", GGUFValueType.FLOAT64: "d",
}  # fmt: skip
DEFAULT_ALIGNMENT = 32
CONTROL_TOKEN = 3  # in tokenizer.ggml.token_type
# transformers' and GGUF's names of the special tokens
SPECIAL_TOKENS = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}
NO_LENGTH_LIMIT = int(1e30)  # what transformers writes where a tokenizer has no limit of its own

ATTENTION = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
# The names of a layer's tensors in GGUF and in transformers, by architecture.
LAYER_NAMES = {
    "llama": ATTENTION | {"ffn_norm": "post_attention_layernorm"},
    "gemma3": ATTENTION | {
        "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
        "post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm",
        "post_ffw_norm": "post_feedforward_layernorm",
    },
}  # fmt: skip
OUTER_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


@dataclass(frozen=True)
class GgufTensor:
    """Where one tensor lies: `offset` in bytes from the beginning of the data, `shape` with the rows first."""

    name: str
    shape: tuple[int, ...]
    type: GGMLQuantizationType
    offset: int


@dataclass(frozen=True)
class GgufFile:
    """The metadata of a GGUF file by key, and where its tensors lie; their data begin at byte `start`."""

    content: mmap.mmap
    metadata: Mapping[str, Any]
    tensors: tuple[GgufTensor, ...]
    start: int

    @property
    def architecture(self) -> str:
        """The name of the network's architecture, as llama.cpp spells it."""
        return str(self.metadata["general.architecture"])

    def of_architecture(self, key: str) -> Any:
        """Return a metadata value whose key begins with the architecture's name."""
        return self.metadata[f"{self.architecture}.{key}"]

    def weights(self, tensor: GgufTensor) -> NDArray[np.float32]:
        """Return one tensor, dequantised to float32."""
        elements, size = GGML_QUANT_SIZES[tensor.type]
        count = math.prod(tensor.shape) // elements * size
        blocks = np.frombuffer(self.content, dtype=np.uint8, count=count, offset=self.start + tensor.offset)
        rows = blocks.reshape(*tensor.shape[:-1], tensor.shape[-1] // elements * size)
        if tensor.type == GGMLQuantizationType.F32:
            return rows.view(np.float32)
        return dequantize(rows, tensor.type).astype(np.float32, copy=False)


def convert_gguf(gguf: Path, built: Path) -> None:
    """Write the model inside `gguf` to the folder `built` as float32 safetensors with its tokenizer and configuration.

    The weights are bit for bit those that transformers 5.23 reads from the file.

    Raises:
        ModelUnavailable: it is not a GGUF file, or its architecture or tokenizer is not converted here.
    """
    built.mkdir(parents=True, exist_ok=True)
    with gguf.open("rb") as source, mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as content:
        file = _parsed(content)
        if file.architecture not in LAYER_NAMES:
            raise ModelUnavailable(
                f"GGUF files of the architecture {file.architecture!r} cannot be converted."
            )
        names = {tensor.name: _name(file.architecture, tensor.name) for tensor in file.tensors}
        _write_json(built / "config.json", configuration(file))
        _write_json(built / "generation_config.json", {**_special_ids(file), "use_cache": True})
        _write_tokenizer(file, gguf, built)
        weights = {names[name]: np.ascontiguousarray(array) for name, array in _weights(file)}
        save_file(weights, built / "model.safetensors", metadata={"format": "pt"})
        del weights, file  # views of the mapped file, which could not be closed before


def _parsed(content: mmap.mmap) -> GgufFile:
    magic, version, tensor_count, value_count = struct.unpack_from("<4sIQQ", content, 0)
    if magic != b"GGUF" or version not in {2, 3}:
        raise ModelUnavailable("The file is not a GGUF file of version 2 or 3.")
    cursor = _Cursor(content, struct.calcsize("<4sIQQ"))
    metadata = {cursor.string(): cursor.value(GGUFValueType(cursor.number("I"))) for _ in range(value_count)}
    tensors = []
    for _ in range(tensor_count):
        name = cursor.string()
        shape = tuple(reversed([cursor.number("Q") for _ in range(cursor.number("I"))]))
        tensors.append(GgufTensor(name, shape, GGMLQuantizationType(cursor.number("I")), cursor.number("Q")))
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    return GgufFile(content, metadata, tuple(tensors), start=-(-cursor.place // alignment) * alignment)


class _Cursor:
    """Reads a GGUF file's header, little end first, from one place to the next."""

    def __init__(self, content: mmap.mmap, place: int) -> None:
        self.place = place
        self._content = content

    def number(self, code: str) -> Any:
        value = struct.unpack_from(f"<{code}", self._content, self.place)[0]
        self.place += struct.calcsize(f"<{code}")
        return value

    def string(self) -> str:
        length = self.number("Q")
        self.place += length
        return self._content[self.place - length : self.place].decode("utf-8")

    def value(self, kind: GGUFValueType) -> Any:
        if kind == GGUFValueType.STRING:
            return self.string()
        if kind != GGUFValueType.ARRAY:
            return self.number(SCALARS[kind])
        kind, length = GGUFValueType(self.number("I")), self.number("Q")
        if kind in SCALARS:
            values = list(struct.unpack_from(f"<{length}{SCALARS[kind]}", self._content, self.place))
            self.place += length * struct.calcsize(f"<{SCALARS[kind]}")
            return values
        return [self.value(kind) for _ in range(length)]


def _weights(file: GgufFile) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for tensor in file.tensors:
        weights = file.weights(tensor)
        if file.architecture == "llama":
            weights = _unpermuted(file, tensor.name, weights)
        elif tensor.name.endswith("norm.weight"):
            # Gemma's norms multiply by 1 + weight, and llama.cpp stores the sum.
            weights = weights - 1
        yield tensor.name, weights


def _name(architecture: str, name: str) -> str:
    """Return transformers' name of a tensor: blk.3.attn_q.weight is model.layers.3.self_attn.q_proj.weight.

    Raises:
        ModelUnavailable: the converted network has no such tensor.
    """
    stem, _, kind = name.rpartition(".")
    is_layer = stem.startswith("blk.")
    layer, part = stem.split(".")[1:] if is_layer else ("", stem)
    ours = (LAYER_NAMES[architecture] if is_layer else OUTER_NAMES).get(part)
    if ours is None:
        # Experts, or a scaled rotary embedding, under an architecture's name that files of plain networks have too.
        raise ModelUnavailable(f"The GGUF file holds {name}, which is not converted for {architecture!r}.")
    return f"model.layers.{layer}.{ours}.{kind}" if is_layer else f"{ours}.{kind}"


def _unpermuted(file: GgufFile, name: str, weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Undo llama.cpp's order of a head's rows: it keeps the two numbers that rotate together next to each other.

    transformers keeps them half a head apart.
    """
    count = {"attn_q": "attention.head_count", "attn_k": "attention.head_count_kv"}.get(name.split(".")[-2])
    if count is None:
        return weights
    pairs = weights.reshape(file.of_architecture(count), -1, 2, weights.shape[-1])
    return pairs.swapaxes(1, 2).reshape(weights.shape)


def configuration(file: GgufFile) -> dict[str, Any]:
    """Return what config.json holds; transformers has a default for the rest."""
    known = {
        "max_position_embeddings": "context_length", "hidden_size": "embedding_length",
        "num_hidden_layers": "block_count", "intermediate_size": "feed_forward_length",
        "num_attention_heads": "attention.head_count", "num_key_value_heads": "attention.head_count_kv",
        "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    }  # fmt: skip
    values = {ours: file.of_architecture(key) for ours, key in known.items()}
    values |= {
        **_special_ids(file),
        "dtype": "float32",
        "tie_word_embeddings": all(tensor.name != "output.weight" for tensor in file.tensors),
        "vocab_size": len(file.metadata["tokenizer.ggml.tokens"]),
    }
    theta = file.of_architecture("rope.freq_base")
    if file.architecture == "llama":
        return values | {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "head_dim": file.of_architecture("rope.dimension_count"),
            "rope_parameters": {"rope_theta": theta, "rope_type": "default"},
        }
    return values | {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "head_dim": file.of_architecture("attention.key_length"),
        "sliding_window": file.of_architecture("attention.sliding_window"),
        "rope_theta": theta,
    }


def _special_ids(file: GgufFile) -> dict[str, int]:
    return {
        f"{ours}_token_id": file.metadata[f"tokenizer.ggml.{key}_token_id"]
        for ours, key in SPECIAL_TOKENS.items()
        if ours != "unk"
    }


def _write_tokenizer(file: GgufFile, gguf: Path, built: Path) -> None:
    kind, rule = file.metadata["tokenizer.ggml.model"], file.metadata["tokenizer.ggml.pre"]
    if (kind, rule) == ("gpt2", "smollm"):
        _write_smollm_tokenizer(file, built)
    elif (kind, rule) == ("llama", "default"):
        _write_transformers_tokenizer(gguf, built)
    else:
        raise ModelUnavailable(
            f"A GGUF tokenizer of the kind {kind!r} with the splitting rule {rule!r} cannot be converted."
        )


def _write_smollm_tokenizer(file: GgufFile, built: Path) -> None:
    """Write a byte-level tokenizer that cuts numbers into digits first, as SmolLM2's own does.

    transformers 5.23 ignores the rule's name and leaves the cutting out: "BP  90/60" then has other tokens than the
    model was trained with.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = file.metadata["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in file.metadata["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(token, normalized=False, special=True)
         for token, kind in zip(tokens, file.metadata["tokenizer.ggml.token_type"], strict=True) if kind == CONTROL_TOKEN]
    )  # fmt: skip
    tokenizer.save(str(built / "tokenizer.json"))
    special = {
        f"{ours}_token": tokens[file.metadata[f"tokenizer.ggml.{key}_token_id"]]
        for ours, key in SPECIAL_TOKENS.items()
    }
    settings = {
        "clean_up_tokenization_spaces": False,
        "model_max_length": NO_LENGTH_LIMIT,
        "tokenizer_class": "TokenizersBackend",
    }
    _write_json(built / "tokenizer_config.json", special | settings)
    (built / "chat_template.jinja").write_text(file.metadata["tokenizer.chat_template"], encoding="utf-8")


def _write_transformers_tokenizer(gguf: Path, built: Path) -> None:
    """Let transformers write Gemma's tokenizer, whose merges have to be worked out from the vocabulary."""
    from transformers import AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]
    tokenizer = AutoTokenizer.from_pretrained(
        gguf.parent, gguf_file=gguf.name, clean_up_tokenization_spaces=False
    )
    tokenizer.save_pretrained(built)


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
