"""Tiny random models of many architectures of transformers, and the table of docs/models.md that is measured on them.

`python -m tests.architectures` measures every row and writes the table; a test marked slow holds it against new measurements.
"""

import json
import re
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gguf
import torch
from gguf.constants import MODEL_ARCH
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from medx_core.errors import ModelUnavailable
from medx_core.model_check import ModelCheck
from medx_core.models.devices import choose_placement
from medx_core.models.gguf_conversion import convert_gguf
from medx_core.models.loading import load_model
from medx_core.models.prefix_cache import SharedPrefix
from medx_core.prompts import STATEMENT_PROMPT
from medx_core.traces.checking import checked_anew
from medx_core.traces.resuming import SteeredRuns
from tests.language_models import VOCABULARY, WIDTH, byte_tokenizer

LAYERS = 4
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GPT2: dict[str, Any] = {
    **SPECIAL, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": 4, "vocab_size": VOCABULARY, "n_positions": 2048,
}  # fmt: skip
DENSE: dict[str, Any] = {
    **SPECIAL, "hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "vocab_size": VOCABULARY, "max_position_embeddings": 2048,
}  # fmt: skip
MANY_EXPERTS = {
    "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
}  # fmt: skip
LATENT = {
    **DENSE, **MANY_EXPERTS, "kv_lora_rank": 8, "q_lora_rank": 16, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4,
    "v_head_dim": 8, "num_key_value_heads": 4, "head_dim": 4,
}  # fmt: skip
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
MAMBA2 = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_expand": 2, "mamba_n_groups": 1}
WINDOW = 160
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": DENSE,
    "mistral": {**DENSE, "sliding_window": WINDOW},
    "ministral": {**DENSE, "sliding_window": WINDOW},
    "ministral3": DENSE,
    "qwen2": DENSE,
    "qwen3": DENSE,
    "qwen3_moe": {**DENSE, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "qwen3_next": {
        **DENSE, "layer_types": ["linear_attention", "full_attention"] * 2, "num_experts": 4, "num_experts_per_tok": 2,
        "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "linear_num_key_heads": 2,
        "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    },
    "gemma": DENSE,
    "gemma2": {**DENSE, "query_pre_attn_scalar": 8, "sliding_window": WINDOW},
    "gemma3_text": {**DENSE, "query_pre_attn_scalar": 256, "sliding_window": 512},
    "gemma3n_text": {
        **DENSE, "num_kv_shared_layers": 0, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": VOCABULARY,
        "laurel_rank": 4, "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"],
        "activation_sparsity_pattern": [0.0] * LAYERS, "sliding_window": WINDOW, "intermediate_size": [48] * LAYERS,
    },
    "phi": DENSE,
    "phi3": DENSE,
    "gpt2": GPT2,
    "gpt_neo": {
        **SPECIAL, "hidden_size": WIDTH, "num_layers": LAYERS, "num_heads": 4, "vocab_size": VOCABULARY,
        "attention_types": [[["global", "local"], 2]], "window_size": WINDOW, "max_position_embeddings": 2048,
    },
    "gpt_neox": DENSE,
    "gpt_oss": {**DENSE, **EXPERTS, "sliding_window": 128},
    "opt": {**DENSE, "ffn_dim": 48, "word_embed_proj_dim": WIDTH},
    "bloom": {**SPECIAL, "hidden_size": WIDTH, "n_layer": LAYERS, "n_head": 4, "vocab_size": VOCABULARY},
    "mpt": {
        **SPECIAL, "d_model": WIDTH, "n_heads": 4, "n_layers": LAYERS, "vocab_size": VOCABULARY, "max_seq_len": 2048,
        "expansion_ratio": 2,
    },
    "falcon": {
        **SPECIAL, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "vocab_size": VOCABULARY,
        "alibi": False, "new_decoder_architecture": False,
    },
    "biogpt": DENSE,
    "mixtral": {**DENSE, **EXPERTS},
    "olmo2": DENSE,
    "olmoe": {**DENSE, "num_experts": 4, "num_experts_per_tok": 2},
    "cohere2": {**DENSE, "sliding_window": WINDOW},
    "starcoder2": {**DENSE, "sliding_window": WINDOW},
    "stablelm": DENSE,
    "smollm3": {**DENSE, "no_rope_layers": [1, 1, 1, 0]},
    "granite": {**DENSE, "logits_scaling": 8.0},
    "deepseek_v2": LATENT,
    "deepseek_v3": LATENT,
    "persimmon": DENSE,
    "nemotron": DENSE,
    "glm4": DENSE,
    "glm4_moe": {**DENSE, **MANY_EXPERTS},
    "exaone4": {**DENSE, "sliding_window": WINDOW},
    "olmo3": {**DENSE, "sliding_window": WINDOW},
    "phimoe": {**DENSE, **EXPERTS},
    "granitemoe": {**DENSE, **EXPERTS},
    "seed_oss": DENSE,
    "ernie4_5": DENSE,
    "hunyuan_v1_dense": DENSE,
    "apertus": DENSE,
    "arcee": DENSE,
    "doge": DENSE,
    "helium": DENSE,
    "codegen": {**GPT2, "rotary_dim": 4},
    "gptj": {**GPT2, "rotary_dim": 4},
    "gpt_bigcode": GPT2,
    "ctrl": {**GPT2, "dff": 48},
    "xglm": {
        **SPECIAL, "d_model": WIDTH, "ffn_dim": 48, "num_layers": LAYERS, "attention_heads": 4, "vocab_size": VOCABULARY,
        "max_position_embeddings": 2048,
    },
    "minimax": {**DENSE, **EXPERTS, "layer_types": ["linear_attention", "full_attention"] * 2, "block_size": 64},
    "lfm2": {**DENSE, "layer_types": ["conv", "full_attention"] * 2, "block_auto_adjust_ff_dim": False},
    "granitemoehybrid": {
        **DENSE, **MAMBA2, "layer_types": ["mamba", "attention"] * 2, "num_local_experts": 0,
        "shared_intermediate_size": 48, "position_embedding_type": "rope",
    },
    "jamba": {
        **DENSE, "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1,
        "num_experts": 2, "num_experts_per_tok": 1, "mamba_d_state": 8, "mamba_dt_rank": 4, "use_mamba_kernels": False,
    },
    "bamba": {**DENSE, **MAMBA2, "attn_layer_indices": [1, 3]},
    "falcon_h1": {**DENSE, **MAMBA2, "mamba_d_ssm": 64},
    "zamba2": {
        **DENSE, "layers_block_type": ["mamba", "hybrid"] * 2, "attention_head_dim": 16, "n_mamba_heads": 8,
        "mamba_ngroups": 1, "mamba_d_state": 8, "mamba_headdim": 8, "num_mem_blocks": 1, "adapter_rank": 4,
        "use_shared_attention_adapter": False,
    },
    "recurrent_gemma": {**DENSE, "intermediate_size": 96, "lru_width": WIDTH, "attention_window_size": WINDOW},
    "mamba": {**SPECIAL, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "vocab_size": VOCABULARY, "state_size": 8},
    "falcon_mamba": {
        **SPECIAL, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "vocab_size": VOCABULARY, "state_size": 8,
    },
    "rwkv": {
        **SPECIAL, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "vocab_size": VOCABULARY, "context_length": 2048,
        "attention_hidden_size": WIDTH,
    },
    "mamba2": {
        **SPECIAL, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "vocab_size": VOCABULARY, "state_size": 8,
        "num_heads": 8, "head_dim": 8, "n_groups": 1,
    },
}  # fmt: skip


def saved_model(architecture: str, folder: Path) -> Path:
    """A folder with a tiny random model whose weights are large enough for its scores to differ."""
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(architecture, **ARCHITECTURES[architecture]), dtype=torch.float32
    )
    for parameter in network.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.15)
    network.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "models.md"
COLUMNS = ("verdict", "text", "batch", "shared prefix", "steering", "sweep", "GGUF")
HEAD = f"| architecture | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}\n"
GGUF_NAMES = {
    "llama": MODEL_ARCH.LLAMA,
    "mistral": MODEL_ARCH.LLAMA,
    "mixtral": MODEL_ARCH.LLAMA,
    "gemma3_text": MODEL_ARCH.GEMMA3,
}
"""What llama.cpp's own converter calls those architectures that it names as one that MedX converts."""
LONG_ROW = 600
"""Tokens: beyond every sliding window of these models."""


def row(architecture: str, folder: Path) -> str:
    """Measure one row of the table."""
    placement = choose_placement("cpu", "float32")
    saved = saved_model(architecture, folder / architecture)
    model = load_model(str(saved), models_folder=folder, placement=placement)
    check = checked_anew(model)
    cells = {**_of_check(check), "sweep": "no", "GGUF": "no"}
    if check.can.steer:
        model = replace(model, check=check)
        cells["sweep"] = "shared" if SteeredRuns(SharedPrefix(model, STATEMENT_PROMPT)).resumes else "whole"
    if architecture in GGUF_NAMES and _survives_gguf(
        saved, GGUF_NAMES[architecture], folder / f"{architecture}-gguf"
    ):
        cells["GGUF"] = "yes"
    return f"| `{architecture}` | {' | '.join(cells[column] for column in COLUMNS)} |"


def _survives_gguf(saved: Path, kind: MODEL_ARCH, folder: Path) -> bool:
    """Tell whether a saved network that is written to a GGUF file and converted gives its own logits again."""
    folder.mkdir()
    network = AutoModelForCausalLM.from_pretrained(saved, dtype=torch.float32)
    try:
        _write_gguf(network, kind, folder / "tiny.gguf")
        convert_gguf(folder / "tiny.gguf", folder / "built")
    except ModelUnavailable:
        return False
    again = AutoModelForCausalLM.from_pretrained(folder / "built", dtype=torch.float32)
    ids = torch.randint(3, VOCABULARY, (1, LONG_ROW), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return torch.allclose(again(ids).logits, network(ids).logits, atol=1e-3)


def _write_gguf(network: PreTrainedModel, kind: MODEL_ARCH, file: Path) -> None:
    """Write a network as llama.cpp's converter does: llama's queries and keys in pairs, Gemma's norms with 1 added."""
    config, names = network.config, gguf.get_tensor_name_map(kind, LAYERS)
    writer = gguf.GGUFWriter(file, gguf.MODEL_ARCH_NAMES[kind])
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    rope = config.rope_parameters
    writer.add_rope_freq_base(rope.get("full_attention", rope)["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_key_length(config.head_dim)
    if kind == MODEL_ARCH.GEMMA3:
        writer.add_sliding_window(config.sliding_window)
    words = json.loads(byte_tokenizer().backend_tokenizer.to_str())["model"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    tokens = sorted(words["vocab"], key=words["vocab"].get)
    writer.add_token_list([*tokens, *(f"<unused {i}>" for i in range(len(tokens), VOCABULARY))])
    writer.add_token_types([3] * 3 + [1] * (VOCABULARY - 3))
    writer.add_token_merges([" ".join(merge) for merge in words["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(0)
    writer.add_chat_template("{{ messages }}")
    tied = network.config.get_text_config().tie_word_embeddings
    for name, tensor in network.state_dict().items():
        stem, _, part = name.rpartition(".")
        if stem == "lm_head" and tied:
            continue
        to = names.get_name(stem) or stem
        if kind == MODEL_ARCH.LLAMA and to.endswith(("attn_q", "attn_k")):
            rows = tensor.shape[0]
            tensor = (
                tensor.reshape(-1, 2, config.head_dim // 2, tensor.shape[1]).swapaxes(1, 2).reshape(rows, -1)
            )
        if kind == MODEL_ARCH.GEMMA3 and to.endswith("norm"):
            tensor = tensor + 1
        writer.add_tensor(f"{to}.{part}", tensor.float().contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _of_check(check: ModelCheck) -> dict[str, str]:
    can = check.can
    return {
        "verdict": "yes" if can.verdict else "no",
        "text": "yes" if can.text else "no",
        "batch": "yes" if can.batch else "apart",
        "shared prefix": "yes" if can.shared_prefix else "whole",
        "steering": "yes" if can.steer else "no",
    }


def written_rows() -> dict[str, str]:
    """Return the rows of the table as the document has them, by architecture."""
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    return {named[1]: line for line in lines if (named := re.match(r"\| `(\w+)` \|", line))}


def main() -> None:
    """Measure all rows and write them into the document."""
    with TemporaryDirectory() as folder:
        rows = "\n".join(row(architecture, Path(folder)) for architecture in ARCHITECTURES)
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(HEAD)
    after = re.sub(r"\A(\|.*\n)*", "", rest)
    DOCUMENT.write_text(f"{before}{HEAD}{rows}\n{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
