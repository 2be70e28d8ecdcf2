"""The conversion writes what transformers 5.23 reads from the same file, and the tokenizer that it gets wrong."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from medx_core.errors import ModelUnavailable
from medx_core.models.gguf_conversion import convert_gguf

HIDDEN, HEADS, KEY_VALUE_HEADS, HEAD, FEED_FORWARD = 64, 4, 2, 16, 96
MERGED = ["ĠĠ", "ĊĊ"]
TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *sorted(ByteLevel.alphabet()), *MERGED]
LAYER = {
    "attn_q": (HEADS * HEAD, HIDDEN),
    "attn_k": (KEY_VALUE_HEADS * HEAD, HIDDEN),
    "attn_v": (KEY_VALUE_HEADS * HEAD, HIDDEN),
    "attn_output": (HIDDEN, HEADS * HEAD),
    "ffn_gate": (FEED_FORWARD, HIDDEN),
    "ffn_up": (FEED_FORWARD, HIDDEN),
    "ffn_down": (HIDDEN, FEED_FORWARD),
    "attn_norm": (HIDDEN,),
    "ffn_norm": (HIDDEN,),
}
GEMMA_NORMS = {
    "attn_q_norm": (HEAD,),
    "attn_k_norm": (HEAD,),
    "post_attention_norm": (HIDDEN,),
    "post_ffw_norm": (HIDDEN,),
}


def written_gguf(file: Path, architecture: str, splitting: str = "smollm") -> Path:
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_VALUE_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(HEAD)
    writer.add_key_length(HEAD)
    writer.add_sliding_window(32)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(splitting)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3, *[1] * (len(TOKENS) - 3)])
    writer.add_token_merges(["Ġ Ġ", "Ċ Ċ"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template("{{ messages[0]['content'] }}")
    layer = LAYER | (GEMMA_NORMS if architecture == "gemma3" else {})
    shapes = {f"blk.0.{name}": shape for name, shape in layer.items()}
    for name, shape in {"token_embd": (len(TOKENS), HIDDEN), "output_norm": (HIDDEN,), **shapes}.items():
        weights = random.normal(size=shape).astype(np.float32)
        if len(shape) == 1:
            writer.add_tensor(f"{name}.weight", weights)
            continue
        kind = gguf.GGMLQuantizationType.Q4_1 if name.startswith("blk") else gguf.GGMLQuantizationType.Q8_0
        blocks = gguf.quants.quantize(weights, kind)
        writer.add_tensor(f"{name}.weight", blocks, raw_shape=blocks.shape, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_the_weights_are_bit_for_bit_those_that_transformers_reads(architecture, tmp_path):
    file = written_gguf(tmp_path / "model.gguf", architecture)
    convert_gguf(file, tmp_path / "converted")
    read = AutoModelForCausalLM.from_pretrained(
        tmp_path,
        gguf_file=file.name,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
    )
    expected = {name: tensor for name, tensor in read.state_dict().items() if name != "lm_head.weight"}
    converted = load_file(tmp_path / "converted" / "model.safetensors")
    assert converted.keys() == expected.keys()
    assert all(torch.equal(converted[name], expected[name]) for name in expected)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "converted")
    shared = loaded.config.to_dict().keys() - {"_name_or_path", "architectures", "quantization_config"}
    assert {key for key in shared if getattr(loaded.config, key) != getattr(read.config, key)} <= {
        "unk_token_id"
    }


def test_numbers_are_cut_into_digits_before_spaces_merge_as_in_smollm2(tmp_path):
    """transformers 5.23.0 leaves the cutting out; llama.cpp (xllamacpp 2026.10) does it, as SmolLM2's own tokenizer."""
    file = written_gguf(tmp_path / "model.gguf", "llama")
    convert_gguf(file, tmp_path / "converted")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "converted")
    plain = AutoTokenizer.from_pretrained(tmp_path, gguf_file=file.name)
    assert tokenizer.tokenize("BP  90/60") == ["B", "P", "ĠĠ", "9", "0", "/", "6", "0"]
    assert plain.tokenize("BP  90/60") == ["B", "P", "Ġ", "Ġ", "9", "0", "/", "6", "0"]
    assert tokenizer.tokenize("Na\n\n135") == ["N", "a", "ĊĊ", "1", "3", "5"]
    assert tokenizer("<|im_start|>a")["input_ids"][0] == tokenizer.bos_token_id == 1
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|im_end|>")
    assert tokenizer.chat_template == plain.chat_template
    assert tokenizer.decode(tokenizer("1 ü\n")["input_ids"]) == "1 ü\n"


def test_a_tokenizer_or_an_architecture_that_is_not_known_is_refused(tmp_path):
    with pytest.raises(ModelUnavailable, match="splitting rule 'qwen2' cannot be converted"):
        convert_gguf(written_gguf(tmp_path / "a.gguf", "llama", splitting="qwen2"), tmp_path / "a")
    with pytest.raises(ModelUnavailable, match="architecture 'qwen2' cannot be converted"):
        convert_gguf(written_gguf(tmp_path / "b.gguf", "qwen2"), tmp_path / "b")
