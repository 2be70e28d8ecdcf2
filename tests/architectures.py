"""Tiny random models of many architectures of transformers, and the table of docs/models.md that is measured on them.

`python -m tests.architectures` measures every row and writes the table; a test marked slow holds it against new measurements.
"""

import re
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from medx_core.model_check import ModelCheck
from medx_core.models.devices import choose_placement
from medx_core.models.gguf_conversion import LAYER_NAMES
from medx_core.models.loading import load_model
from medx_core.models.prefix_cache import SharedPrefix
from medx_core.prompts import STATEMENT_PROMPT
from medx_core.traces.checking import checked_anew
from medx_core.traces.resuming import SteeredRuns
from tests.language_models import VOCABULARY, WIDTH, byte_tokenizer

LAYERS = 4
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
DENSE: dict[str, Any] = {
    **SPECIAL, "hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "vocab_size": VOCABULARY, "max_position_embeddings": 2048,
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
    "gemma3_text": {**DENSE, "query_pre_attn_scalar": 8, "sliding_window": 512},
    "gemma3n_text": {
        **DENSE, "num_kv_shared_layers": 0, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": VOCABULARY,
        "laurel_rank": 4, "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"],
        "activation_sparsity_pattern": [0.0] * LAYERS, "sliding_window": WINDOW, "intermediate_size": [48] * LAYERS,
    },
    "phi": DENSE,
    "phi3": DENSE,
    "gpt2": {**SPECIAL, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": 4, "vocab_size": VOCABULARY, "n_positions": 2048},
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
    "deepseek_v3": {
        **DENSE, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1,
        "moe_intermediate_size": 16, "kv_lora_rank": 8, "q_lora_rank": 16, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4,
        "v_head_dim": 8, "num_key_value_heads": 4, "head_dim": 4, "first_k_dense_replace": 1,
    },
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
GGUF_NAMES = {"llama": "llama", "gemma3_text": "gemma3"}
"""What GGUF files call the architectures that are named otherwise in transformers, or alike."""


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
    if GGUF_NAMES.get(architecture) in LAYER_NAMES:
        cells["GGUF"] = "yes"
    return f"| `{architecture}` | {' | '.join(cells[column] for column in COLUMNS)} |"


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
