"""Linear layers whose frozen weights lie in oneDNN's own layout: on the CPU, two to four times as fast.

torch hands plain float32 matrices to MKL, which uses only part of what processors other than Intel's can do, and
bfloat16 ones to oneDNN, which puts their weights in order anew at every call. Weights that were put in order once go
through the operators that torch's own compiler calls for frozen networks. The sums are the same up to their order;
gradients in a layer's input are kept, its weights are never trained.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

READ_ONLY = "A network whose weights were packed for reading cannot be saved; load it anew."


class PackedLinear(nn.Linear):
    """A frozen linear layer, its weight (out_features, in_features) packed."""

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)  # the parent's own would set aside a weight that is never used
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self._packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)
        self.bias = linear.bias
        self.register_state_dict_pre_hook(_refuse_saving)  # type: ignore[no-untyped-call]  # torch leaves it untyped

    @property
    def weight(self) -> Tensor:  # type: ignore[override]  # a parameter there; here a copy in the plain layout
        """The weight in the plain layout, made anew at every call."""
        return self._packed.to_dense()

    def forward(self, input: Tensor) -> Tensor:  # the parent's name for it
        """Map states (..., in_features) to (..., out_features)."""
        if torch.is_grad_enabled() and input.requires_grad:
            return _WithGradient.apply(input, self)  # type: ignore[no-any-return,no-untyped-call]  # torch leaves it untyped
        return self.product(input)

    def product(self, states: Tensor) -> Tensor:
        """Multiply without a trace for gradients."""
        return torch.ops.mkldnn._linear_pointwise(states, self._packed, self.bias, "none", [], "")  # type: ignore[no-any-return]  # built at run time


class _WithGradient(torch.autograd.Function):
    """The same product, whose gradient is taken in the states alone."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, layer: PackedLinear) -> Tensor:
        ctx.layer = layer
        return layer.product(states)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] @ ctx.layer.weight, None


def pack_linear_layers(network: PreTrainedModel) -> None:
    """Pack the linear layers of a frozen network that lies on the CPU; every other network stays as it is."""
    if not can_pack(network.device, network.dtype):
        return
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, PackedLinear(child))


def parameter_count(network: PreTrainedModel) -> int:
    """Return the number of weights of a network, packed or not; an output layer that shares the embedding's counts once."""
    tied = network.get_output_embeddings() if network.config.tie_word_embeddings else None  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    packed = (each for each in network.modules() if isinstance(each, PackedLinear) and each is not tied)
    return sum(each.numel() for each in network.parameters()) + sum(
        each.in_features * each.out_features for each in packed
    )


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Tell whether this build of torch packs weights of this kind."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return False
    operators = torch.ops.mkldnn
    if not (hasattr(operators, "_reorder_linear_weight") and hasattr(operators, "_linear_pointwise")):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and operators._is_mkldnn_bf16_supported())


def _refuse_saving(*_: Any) -> None:
    raise TypeError(READ_ONLY)
