"""GGUF to safetensors, once: transformers reads GGUF in half a minute and safetensors in half a second."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, modeling_gguf_pytorch_utils
from transformers.utils.logging import disable_progress_bar


def convert_gguf(gguf: Path, built: Path) -> None:
    """Write the model inside `gguf` to the folder `built` as float32 safetensors with its tokenizer.

    The weights are those of the GGUF file after dequantisation, bit for bit.
    """
    disable_progress_bar()  # type: ignore[no-untyped-call]
    folder, name = str(gguf.parent), gguf.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name, clean_up_tokenization_spaces=False)
    with bars_on_terminals_only():
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


@contextmanager
def bars_on_terminals_only() -> Iterator[None]:
    """Keep transformers' bar over the tensors of a GGUF file, which heeds no setting of its own, out of logs."""
    bar = modeling_gguf_pytorch_utils.tqdm  # type: ignore[attr-defined]  # imported there, not exported
    modeling_gguf_pytorch_utils.tqdm = partial(bar, disable=not sys.stderr.isatty())  # type: ignore[attr-defined]
    try:
        yield
    finally:
        modeling_gguf_pytorch_utils.tqdm = bar  # type: ignore[attr-defined]
