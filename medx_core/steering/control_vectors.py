"""Control vectors in GGUF: the exchange format of llama.cpp and repeng.

A file holds `general.architecture = controlvector`, `controlvector.model_hint`, `controlvector.layer_count` and one
float32 tensor `direction.N` per layer. N counts as MedX does: `direction.N` is added to the output of the decoder layer
with the 0-based index N (llama.cpp stores it at place N - 1 of a buffer that begins with layer 1, and reads it from
there for its layer N; repeng names its tensors by the same index). Layer 0 cannot be written down in this format.

Such a vector is added to every token of a text, with a strength chosen by its user; MedX adds it where `Positions`
says. Only constant strategies can be exchanged. Exported directions are already multiplied by alpha: strength 1 there
is this vector here.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFReader, GGUFWriter, ReaderTensor
from gguf.constants import GGMLQuantizationType
from torch import Tensor
from transformers import PreTrainedModel

from medx_core.categories import Category
from medx_core.clock import iso, utc_now
from medx_core.errors import VectorRefused
from medx_core.steering.layers import hidden_size, layer_at, model_type
from medx_core.steering.names import IMPORTED
from medx_core.steering.steering_vector import SteeringVector, check_direction, check_vector

ARCHITECTURE = "controlvector"
HINT = "controlvector.model_hint"
LAYER_COUNT = "controlvector.layer_count"
TENSOR = "direction."
# What the gguf library raises where a header makes no sense.
BROKEN = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, OSError, MemoryError)
PLAIN_TYPES = (GGMLQuantizationType.F32, GGMLQuantizationType.F16)


@dataclass(frozen=True)
class ControlVector:
    """The content of a control-vector file: directions by 0-based decoder layer, and the kind of model it names."""

    directions: dict[int, Tensor]
    model_hint: str


def export_control_vector(vector: SteeringVector, path: Path, *, model_hint: str = "") -> None:
    """Write `vector` as a control vector; `model_hint` names the architecture ("llama") where the vector does not.

    Raises:
        VectorRefused: its strategy depends on the state, it steers layer 0, or its architecture is not known; none of
            these fits the format.
    """
    if not vector.is_constant:
        raise VectorRefused(
            f"A {vector.strategy} vector depends on the state it steers, so it cannot be a GGUF control vector; export a constant one."
        )
    if 0 in vector.directions:
        raise VectorRefused("A GGUF control vector cannot steer layer 0; build a vector for a higher layer.")
    hint = model_hint or vector.model_type
    if not hint:
        raise VectorRefused(
            "This vector does not say for which architecture it is; name it, for example --model-hint llama."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    writer = GGUFWriter(fresh, ARCHITECTURE)
    writer.add_string(HINT, hint)
    writer.add_uint32(LAYER_COUNT, len(vector.directions))
    for layer, direction in vector.directions.items():
        writer.add_tensor(f"{TENSOR}{layer}", (direction.float() * vector.alpha).contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    fresh.replace(path)


def read_control_vector(path: Path) -> ControlVector:
    """Read a control vector that llama.cpp, repeng or MedX wrote.

    Raises:
        VectorRefused: the file is missing or not a control vector, or holds a tensor that cannot serve as a direction.
    """
    if not path.is_file():
        raise VectorRefused(f"There is no control vector at {path}.")
    try:
        reader = GGUFReader(path)
        fields = [reader.get_field(key) for key in ("general.architecture", HINT)]
        architecture, hint = ("" if field is None else str(field.contents()) for field in fields)
    except BROKEN as error:
        raise VectorRefused(f"{path.name} is not a readable GGUF file.") from error
    if architecture != ARCHITECTURE:
        raise VectorRefused(f"{path.name} is a GGUF file, but not a control vector.")
    directions = {_layer(tensor, path.name): _direction(tensor, path.name) for tensor in reader.tensors}
    if len({direction.shape for direction in directions.values()}) != 1:
        raise VectorRefused(f"{path.name} holds no directions, or directions of different lengths.")
    return ControlVector(dict(sorted(directions.items())), hint)


def imported_vector(
    path: Path, network: PreTrainedModel, *, category: Category, alpha: float, names: tuple[str, str]
) -> SteeringVector:
    """Read a control vector as a steering vector of `network`, whose name and weight hash are `names`.

    Raises:
        VectorRefused: the file is not a control vector, or is of another hidden size or layer count.
    """
    content = read_control_vector(path)
    top = max(content.directions)
    direction = content.directions[top]
    if len(direction) != hidden_size(network):
        raise VectorRefused(
            f"{path.name} holds directions of {len(direction)} values; this model's hidden size is {hidden_size(network)}."
        )
    layer_at(network, top)  # refuses a layer that the network does not have
    vector = SteeringVector(
        category=category,
        direction=direction,
        layer=top,
        model=names[0],
        model_sha256=names[1],
        strategy=IMPORTED,
        alpha=alpha,
        reading="",
        pairs=0,
        data_sha256="",
        prompt_version="",
        created_at=iso(utc_now()) or "",
        # Programs name architectures differently (mistral is llama to llama.cpp), so a hint refuses nothing.
        diagnostics={"norm": float(direction.norm()), "model_hint": content.model_hint},
        model_type=model_type(network),
        further={layer: other for layer, other in content.directions.items() if layer != top},
    )
    check_vector(vector, path.name)
    return vector


def _layer(tensor: ReaderTensor, file_name: str) -> int:
    number = tensor.name.removeprefix(TENSOR)
    if not tensor.name.startswith(TENSOR) or not number.isdecimal() or int(number) == 0:
        raise VectorRefused(f"{file_name} holds a tensor {tensor.name!r}, which no control vector has.")
    return int(number)


def _direction(tensor: ReaderTensor, file_name: str) -> Tensor:
    if tensor.tensor_type not in PLAIN_TYPES:
        raise VectorRefused(
            f"{file_name} holds quantised directions ({tensor.tensor_type.name}); only plain numbers are read."
        )
    direction = torch.from_numpy(np.array(tensor.data, dtype=np.float32))
    check_direction(direction, file_name)
    return direction
