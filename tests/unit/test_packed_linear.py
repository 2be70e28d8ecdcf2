"""Packed layers say what plain ones say: for states of any shape, with gradients, in any architecture."""

import pytest
import torch
from torch import nn

from medx_core.models.packed_linear import PackedLinear, can_pack, pack_linear_layers
from tests.language_models import tiny_network

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(
    not can_pack(CPU, torch.float32), reason="this build of torch packs no weights"
)
KINDS = [torch.float32, *([torch.bfloat16] if can_pack(CPU, torch.bfloat16) else [])]


def plain_layer(dtype: torch.dtype, *, bias: bool) -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return nn.Linear(24, 40, bias=bias, dtype=dtype).requires_grad_(requires_grad=False)


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(24,), (1, 24), (5, 24), (3, 7, 24), (0, 24)])
def test_the_product_is_the_same_for_every_shape(dtype, bias, shape):
    plain = plain_layer(dtype, bias=bias)
    packed = PackedLinear(plain)
    states = torch.randn(*shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    before = plain(states)
    with torch.inference_mode():
        after = packed(states)
    assert (after.shape, after.dtype) == (before.shape, before.dtype)
    torch.testing.assert_close(after, before, atol=1e-5 if dtype is torch.float32 else 2e-2, rtol=1e-2)


def test_states_that_lie_scattered_in_memory_are_read_right():
    plain = plain_layer(torch.float32, bias=True)
    wide = torch.randn(6, 5, 48, generator=torch.Generator().manual_seed(2))
    for states in (wide[:, :, ::2], wide[:, :, :24].transpose(0, 1), wide[:1, :1, :24].expand(4, 3, 24)):
        torch.testing.assert_close(PackedLinear(plain)(states), plain(states), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", KINDS)
def test_the_gradient_in_the_states_is_kept(dtype):
    plain = plain_layer(dtype, bias=True)
    gradients = []
    for layer in (plain, PackedLinear(plain)):
        states = torch.ones(2, 3, 24, dtype=dtype, requires_grad=True)
        layer(states).float().square().sum().backward()
        gradients.append(states.grad)
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-4, rtol=2e-2)


def test_its_weight_can_be_read_back_in_the_plain_layout():
    plain = plain_layer(torch.float32, bias=True)
    assert torch.equal(PackedLinear(plain).weight, plain.weight)


@pytest.mark.parametrize("architecture", ["llama", "gemma3_text", "phi3", "opt", "mixtral"])
def test_a_network_says_the_same_when_packed(architecture):
    plain = tiny_network(architecture).eval()
    packed = tiny_network(architecture).eval().requires_grad_(requires_grad=False)
    pack_linear_layers(packed)
    assert any(isinstance(module, PackedLinear) for module in packed.modules())
    assert not any(type(module) is nn.Linear for module in packed.modules())
    ids = torch.arange(1, 9)[None]
    with torch.inference_mode():
        torch.testing.assert_close(packed(ids).logits, plain(ids).logits, atol=1e-4, rtol=1e-4)


def test_packed_weights_are_not_saved_by_mistake(tmp_path):
    network = tiny_network("llama").requires_grad_(requires_grad=False)
    pack_linear_layers(network)
    with pytest.raises(TypeError, match="load it anew"):
        network.save_pretrained(tmp_path)
