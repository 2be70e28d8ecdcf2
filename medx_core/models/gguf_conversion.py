"""GGUF to safetensors, once: transformers reads GGUF in half a minute and safetensors in half a second."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers.utils.logging import disable_progress_bar


def convert_gguf(gguf: Path, built: Path) -> None:
    """Write the model inside `gguf` to the folder `built` as float32 safetensors with its tokenizer.

    The weights are those of the GGUF file after dequantisation, bit for bit.
    """
    disable_progress_bar()  # type: ignore[no-untyped-call]
    folder, name = str(gguf.parent), gguf.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name, clean_up_tokenization_spaces=False)
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        gguf_file=name,
        dtype=torch.float32,
        attn_implementation="sdpa",
        quantization_config=GgufConfig(dequantize=True),
    )
    # A model read from GGUF keeps its quantiser, which save_pretrained refuses to write, though nothing is quantised
    # any more after dequantize=True.
    model.hf_quantizer = None  # type: ignore[assignment]  # transformers declares every attribute a module
    model.is_quantized = False  # type: ignore[assignment]  # likewise
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(built)
    tokenizer.save_pretrained(built)
