"""Linear layers multiplied by the oneDNN inside torch, twice as fast on some processors and equal to the last digits.

torch hands float32 matrices to MKL, which uses only part of what processors other than Intel's can do. Given tensors in
oneDNN's own layout, it hands them to oneDNN.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

READ_ONLY = "A network that was prepared for reading cannot be saved; load it anew."
KINDS = frozenset({"bert", "roberta", "xlm-roberta"})
"""Kinds of network that only ever call their linear layers, and never reach for the weights inside."""


class _OneDnnLinear(nn.Module):
    """A frozen linear layer whose weights lie in oneDNN's layout."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._weight = linear.weight.detach().to_mkldnn()
        self._bias = None if linear.bias is None else linear.bias.detach().to_mkldnn()
        self.register_state_dict_pre_hook(_refuse_saving)  # type: ignore[no-untyped-call]  # torch leaves it untyped

    def forward(self, states: Tensor) -> Tensor:
        """Map states (..., in) to (..., out), both in the ordinary layout."""
        return nn.functional.linear(states.to_mkldnn(), self._weight, self._bias).to_dense()


def prepare_for_reading(network: PreTrainedModel) -> None:
    """Put oneDNN under a frozen float32 network on the CPU; every other network stays as it is."""
    fits = network.device.type == "cpu" and network.dtype == torch.float32
    if not (fits and network.config.model_type in KINDS and torch.backends.mkldnn.is_available()):  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, _OneDnnLinear(child))


def _refuse_saving(*_: Any) -> None:
    raise TypeError(READ_ONLY)
