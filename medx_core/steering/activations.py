"""Reading the residual stream: the states of each row's last token at chosen layers.

Enter `recorded` inside `steered` to see what steering did: hooks on a layer run in the order they were registered.
`output_hidden_states` is no substitute, since its own hook runs before hooks that were added later.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from medx_core.steering.layers import hidden_of, layer_at


class Recording:
    """States by layer, one tensor a forward pass."""

    def __init__(self, layers: Sequence[int]) -> None:
        self._passes: dict[int, list[Tensor]] = {layer: [] for layer in layers}

    def add(self, layer: int, states: Tensor) -> None:
        """Keep one pass's last-token states (rows, hidden_size) in float32 on the CPU."""
        self._passes[layer].append(states.detach().float().cpu())

    def states(self, layer: int) -> Tensor:
        """Return all recorded last-token states at `layer`: (rows of all passes, hidden_size)."""
        return torch.cat(self._passes[layer])


@contextmanager
def recorded(network: PreTrainedModel, layers: Sequence[int]) -> Iterator[Recording]:
    """Record the last token's state at `layers` for every forward pass inside the block.

    Raises:
        VectorRefused: a layer does not exist.
    """
    recording = Recording(layers)
    with ExitStack() as hooks:
        for layer in layers:

            def keep(
                _module: nn.Module, _inputs: tuple[object, ...], output: object, at: int = layer
            ) -> None:
                recording.add(at, hidden_of(output)[:, -1])

            hooks.callback(layer_at(network, layer).register_forward_hook(keep).remove)
        yield recording
