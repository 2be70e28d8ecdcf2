"""Finding a network's decoder layers by its structure, whatever its architecture calls them.

Layers are counted from 0. Steering acts on a layer's output, the residual stream after that layer; with n layers the
paper's penultimate layer is n-2, which transformers shows as `hidden_states[-2]`.
"""

from weakref import WeakKeyDictionary

from torch import Tensor, nn
from transformers import PreTrainedModel

from medx_core.errors import ModelUnavailable, VectorRefused

STATES_DIMENSIONS = 3
CONVENTION = "decoder layer index, 0-based, hook on the layer's output"

# Looking for them takes about as long as running one layer on one token, and each run asks several times.
_known_layers: WeakKeyDictionary[PreTrainedModel, nn.ModuleList] = WeakKeyDictionary()


def decoder_layers(network: PreTrainedModel) -> nn.ModuleList:
    """Return the list of decoder layers.

    Raises:
        ModelUnavailable: the network has no single list of as many layers as its configuration says.
    """
    if network not in _known_layers:
        _known_layers[network] = _layers_found(network)
    return _known_layers[network]


def _layers_found(network: PreTrainedModel) -> nn.ModuleList:
    expected = network.config.get_text_config().num_hidden_layers
    lists = [
        module
        for module in network.modules()
        if isinstance(module, nn.ModuleList) and len(module) == expected
    ]
    # A mixture of experts has lists inside its layers too; the layers' own list is the one that no other list holds.
    inner = {id(module) for outer in lists for module in outer.modules() if module is not outer}
    outermost = [candidate for candidate in lists if id(candidate) not in inner]
    if len(outermost) != 1:
        raise ModelUnavailable(
            f"{type(network).__name__} has no single list of {expected} decoder layers; MedX cannot steer it."
        )
    return outermost[0]


def penultimate_layer(network: PreTrainedModel) -> int:
    """Return the index of the paper's layer: the last but one, n-2."""
    return max(0, len(decoder_layers(network)) - 2)


def layer_at(network: PreTrainedModel, index: int) -> nn.Module:
    """Return one decoder layer.

    Raises:
        VectorRefused: there is no such layer.
    """
    layers = decoder_layers(network)
    if not 0 <= index < len(layers):
        raise VectorRefused(
            f"Layer {index} does not exist: this model has decoder layers 0 to {len(layers) - 1}."
        )
    return layers[index]


def hidden_size(network: PreTrainedModel) -> int:
    """Return the width of the residual stream."""
    return int(network.config.get_text_config().hidden_size)


def model_type(network: PreTrainedModel) -> str:
    """Return the name of the network's architecture, as its configuration gives it ("llama")."""
    return str(network.config.get_text_config().model_type)


def hidden_of(output: object) -> Tensor:
    """Return the hidden states (rows, tokens, hidden_size) inside a layer's output: a tensor, or a tuple led by one."""
    hidden = output[0] if isinstance(output, tuple) else output
    if not isinstance(hidden, Tensor):
        raise ModelUnavailable(
            f"A decoder layer returned {type(hidden).__name__} instead of hidden states; MedX cannot steer it."
        )
    if hidden.dim() != STATES_DIMENSIONS:
        # Gemma 3n carries four versions of the stream side by side, so that the last token is nowhere at [:, -1].
        raise ModelUnavailable(
            f"A decoder layer of this model returns states of {hidden.dim()} dimensions instead of {STATES_DIMENSIONS} "
            "(rows, tokens, width); MedX cannot steer it."
        )
    return hidden


def with_hidden(output: object, hidden: Tensor) -> object:
    """Return a layer's output with its hidden states replaced."""
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden
