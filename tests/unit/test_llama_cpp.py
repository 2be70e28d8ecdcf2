"""An exported vector in llama.cpp: what `medx vectors export` says gives MedX's own arm, and what it warns of does not.

llama.cpp comes from the wheel xllamacpp 2026.10.11549, whose extension exports the C interface of `llama.h`.
"""

import ctypes
from importlib.util import find_spec
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from medx_core.categories import Category
from medx_core.steering.control_vectors import export_control_vector, how_in_llama_cpp, read_control_vector
from medx_core.steering.hooks import SteeringPlan, steered
from medx_core.steering.positions import Positions
from medx_core.steering.steering_vector import SteeringVector
from tests.language_models import WIDTH, tiny_network

PROMPT = (5, 6, 7, 8, 9, 20, 30)
LAYER = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
}  # fmt: skip


def vector_at(layer: int, positions: Positions = Positions.LAST) -> SteeringVector:
    direction = torch.randn(WIDTH, generator=torch.Generator().manual_seed(layer))
    return SteeringVector(
        category=Category.TRIAGE, direction=direction, layer=layer, model="tiny", model_sha256="ab" * 32,
        strategy="mean_difference", alpha=0.2, reading="answer_word", pairs=2, data_sha256="cd", prompt_version="p",
        created_at="2026-01-01", model_type="llama", positions=positions, verdict_positions=positions,
    )  # fmt: skip


def write_gguf(network, path: Path) -> None:
    """Write a llama network as llama.cpp reads it: its queries and keys are turned in pairs of neighbours."""
    config, weights = network.config, network.state_dict()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("no_vocab")
    named = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    for place in range(config.num_hidden_layers):
        named |= {f"blk.{place}.{to}": f"model.layers.{place}.{given}" for to, given in LAYER.items()}
    for to, given in named.items():
        tensor = weights[f"{given}.weight"]
        if to.endswith(("attn_q", "attn_k")):
            rows = tensor.shape[0]
            halves = tensor.reshape(rows // config.head_dim, 2, config.head_dim // 2, -1)
            tensor = halves.swapaxes(1, 2).reshape(rows, -1)
        writer.add_tensor(f"{to}.weight", tensor.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Parameters(ctypes.Structure):
    """More room than any of llama.cpp's structures of parameters takes; only its own defaults are passed on."""

    _fields_ = (("bytes", ctypes.c_uint8 * 1024),)


class Batch(ctypes.Structure):
    _fields_ = (
        ("n_tokens", ctypes.c_int32),
        *((name, ctypes.c_void_p) for name in ("token", "embd", "pos", "n_seq_id", "seq_id", "logits")),
    )


class LlamaCpp:
    """One model in llama.cpp, asked token by token."""

    def __init__(self, path: Path, vocabulary: int) -> None:
        (folder,) = find_spec("xllamacpp").submodule_search_locations
        (extension,) = Path(folder).glob("xllamacpp*.so")
        self._library, self._vocabulary = ctypes.CDLL(str(extension)), vocabulary
        pointer = ctypes.c_void_p
        self._call("llama_backend_init", None)
        model_defaults = self._call("llama_model_default_params", Parameters)
        defaults = self._call("llama_context_default_params", Parameters)
        model = self._call("llama_model_load_from_file", pointer, str(path).encode(), model_defaults)
        self._model = pointer(model)
        self._context = pointer(self._call("llama_init_from_model", pointer, self._model, defaults))

    def _call(self, name: str, result, *arguments):
        function = getattr(self._library, name)
        function.restype = result
        return function(*arguments)

    def decoded(self, tokens) -> torch.Tensor:
        """Go on with `tokens`; return the logits after the last of them."""
        ids = np.array(tokens, dtype=np.int32)
        batch = self._call(
            "llama_batch_get_one", Batch, ctypes.c_void_p(ids.ctypes.data), ctypes.c_int32(len(ids))
        )
        assert self._call("llama_decode", ctypes.c_int32, self._context, batch) == 0
        logits = self._call(
            "llama_get_logits_ith", ctypes.POINTER(ctypes.c_float), self._context, ctypes.c_int32(-1)
        )
        return torch.tensor(np.ctypeslib.as_array(logits, (self._vocabulary,)).copy())

    def set_vector(self, file: Path, layers: int) -> None:
        """Do what llama.cpp's own loader does: a buffer that begins with layer 1, zeros where there is no direction."""
        buffer = np.zeros((layers - 1, WIDTH), dtype=np.float32)
        for number, direction in read_control_vector(file).directions.items():
            buffer[number - 1] = direction.numpy()
        whole = (ctypes.c_size_t(buffer.size), *map(ctypes.c_int32, (WIDTH, 1, layers - 1)))
        data = ctypes.c_void_p(buffer.ctypes.data)
        assert self._call("llama_set_adapter_cvec", ctypes.c_int32, self._context, data, *whole) == 0

    def forget(self) -> None:
        """Empty the cache and take the vector away."""
        memory = ctypes.c_void_p(self._call("llama_get_memory", ctypes.c_void_p, self._context))
        self._call("llama_memory_clear", None, memory, ctypes.c_bool(True))
        none = (ctypes.c_void_p(None), ctypes.c_size_t(0), *map(ctypes.c_int32, (WIDTH, 0, 0)))
        self._call("llama_set_adapter_cvec", ctypes.c_int32, self._context, *none)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """One tiny network in torch and in llama.cpp."""
    network = tiny_network("llama").eval()
    # Logits of a random network are small; llama.cpp keeps its cache in half precision.
    with torch.no_grad():
        network.lm_head.weight.mul_(5)
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(network, path)
    return network, LlamaCpp(path, network.config.vocab_size)


@pytest.mark.parametrize("layer", [1, 2])
def test_decoding_as_the_export_says_gives_medx_own_arm_and_the_option_for_every_token_another(
    both, layer, tmp_path
):
    network, llama = both
    vector = vector_at(layer)
    file = tmp_path / "v.gguf"
    export_control_vector(vector, file)

    def in_medx(plan):
        with torch.inference_mode(), steered(network, plan):
            return network(input_ids=torch.tensor([PROMPT])).logits[0, -1]

    def in_llama(unsteered, then):
        llama.forget()
        if unsteered:
            llama.decoded(unsteered)
        llama.set_vector(file, layers=3)
        return llama.decoded(then)

    llama.forget()
    torch.testing.assert_close(llama.decoded(PROMPT), in_medx(SteeringPlan()), atol=1e-3, rtol=0)
    own = in_medx(vector.verdict_plan)
    assert how_in_llama_cpp(vector).startswith("Verdicts: decode the prompt without its last token, then set")
    torch.testing.assert_close(in_llama(PROMPT[:-1], PROMPT[-1:]), own, atol=1e-3, rtol=0)

    every = vector_at(layer, Positions.ALL)
    assert how_in_llama_cpp(every).startswith("Verdicts: pass the file with --control-vector")
    all_tokens = in_llama((), PROMPT)
    torch.testing.assert_close(all_tokens, in_medx(every.verdict_plan), atol=1e-3, rtol=0)
    if layer < 2:  # above the last layer, nothing looks back at earlier tokens
        assert (all_tokens - own).abs().max() > 2e-3
