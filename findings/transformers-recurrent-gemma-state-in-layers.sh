#!/usr/bin/env bash
# transformers 5.23.0 keeps RecurrentGemma's recurrent states in the layers, not in the cache that it is given.
#
# Guess: what a forward pass needs of the text so far is in `past_key_values`. So two texts may be written in turns, each
# with a cache of its own, and a prompt's cache may be copied to score several answers after it, as with other networks.
# Behaviour: the attention layers of RecurrentGemma (Griffin) use the cache; its recurrent layers, two of three, keep their
# states as attributes of the module (`conv1d_state`, `rg_lru.recurrent_states`). A pass over another text replaces them.
# The next token of the first text is then computed from its own keys and values and the other text's states. There is
# neither an error nor a warning, and a copy of the cache is no copy of the states.
# Seen, on a random network of six layers and prompts of 20 and 33 tokens, as the largest difference of a logit from the
# same text run whole (the logits reach about 5):
#   going on at once:                                        0.000005
#   going on after another text was run in between:          4.9
#   the second of two answers scored from a copied cache:    3.1; the first one: 0.000005
#   Jamba, whose states are in the cache, after another text: 0.000004
# Consequence: a server that answers two people in turns, a kept prompt cache, and multiple choice scored from a shared
# prompt all get numbers of a text that nobody wrote.
set -eu
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0 2>/dev/null
cat >check.py <<'PYTHON'
import copy
import sys

import torch
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

torch.set_num_threads(1)
SIZE = {
    "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 1, "intermediate_size": 96, "vocab_size": 500,
    "num_hidden_layers": 6, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1,
}
KINDS = {
    "recurrent_gemma": {**SIZE, "lru_width": 32},
    "jamba": {
        **SIZE, "attn_layer_period": 3, "attn_layer_offset": 2, "num_experts": 1, "num_experts_per_tok": 1,
        "mamba_d_state": 8, "mamba_dt_rank": 4,
    },
}


def network(kind):
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **KINDS[kind]), dtype=torch.float32).eval()
    for parameter in made.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return made


def differences(kind):
    made = network(kind)
    first, other = torch.randint(3, 500, (1, 20)), torch.randint(3, 500, (1, 33))

    def read(ids):
        cache = DynamicCache(config=made.config)
        made(input_ids=ids, past_key_values=cache, use_cache=True)
        return cache

    def go_on(cache, token):
        at = torch.tensor([[first.shape[1]]])
        return made(input_ids=torch.tensor([[token]]), past_key_values=cache, position_ids=at).logits[0, -1]

    def off(logits, token):
        whole = made(input_ids=torch.cat([first, torch.tensor([[token]])], dim=1), use_cache=False).logits[0, -1]
        return float((logits - whole).abs().max())

    found = {"at once": off(go_on(read(first), 7), 7)}
    cache = read(first)
    read(other)
    found["after another text"] = off(go_on(cache, 7), 7)
    cache = read(first)
    answers = [go_on(copy.deepcopy(cache), token) for token in (7, 8)]
    found["first answer from a copied cache"], found["second answer from a copied cache"] = (
        off(logits, token) for logits, token in zip(answers, (7, 8))
    )
    return found


with torch.inference_mode():
    seen = {kind: differences(kind) for kind in KINDS}
for kind, figures in seen.items():
    for name, figure in figures.items():
        print(f"{kind}, {name}: {figure:.6f}")
wrong, right = seen["recurrent_gemma"], seen["jamba"]
holds = (
    max(right.values()) < 1e-3
    and max(wrong["at once"], wrong["first answer from a copied cache"]) < 1e-3
    and min(wrong["after another text"], wrong["second answer from a copied cache"]) > 0.1
)
sys.exit(0 if holds else 1)
PYTHON
venv/bin/python check.py 2>log || { tail -5 log; echo "This has changed."; exit 1; }
