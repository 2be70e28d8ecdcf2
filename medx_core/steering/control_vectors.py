"""Control vectors in GGUF: the exchange format of llama.cpp and repeng.

A file holds `general.architecture = controlvector`, `controlvector.model_hint`, `controlvector.layer_count` and one
float32 tensor `direction.N` per layer. N counts as MedX does: `direction.N` is added to the output of the decoder layer
with the 0-based index N (llama.cpp stores it at place N - 1 of a buffer that begins with layer 1, and reads it from
there for its layer N; repeng names its tensors by the same index). Layer 0 cannot be written down in this format.

llama.cpp and repeng add such a vector to every token of a text, with a strength chosen by its user; MedX adds it where
`Positions` says, and an imported vector where its maker's tool would (see `conventions`). Only constant strategies can
be exchanged. Exported directions are already multiplied by alpha: strength 1 there is this vector here. Exported files
say under `medx.` how MedX uses them, which other programs pass over.
"""

from collections.abc import Mapping
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
from medx_core.steering.conventions import Convention, LayerNumbers, Maker, Scale, Sign
from medx_core.steering.layers import hidden_size, layer_at, model_type
from medx_core.steering.names import IMPORTED
from medx_core.steering.positions import Positions
from medx_core.steering.steering_vector import SteeringVector, check_direction, check_vector

ARCHITECTURE = "controlvector"
HINT = "controlvector.model_hint"
LAYER_COUNT = "controlvector.layer_count"
TENSOR = "direction."
OWN = "medx."
# Their hidden states begin with the first layer's output, not with the embeddings (transformers 5.23.0).
OUTPUTS_ONLY = ("mamba", "mamba2", "falcon_mamba", "rwkv")
UNIT_WITHIN = 0.01
# What the gguf library raises where a header makes no sense.
BROKEN = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, OSError, MemoryError)
PLAIN_TYPES = (GGMLQuantizationType.F32, GGMLQuantizationType.F16)


@dataclass(frozen=True)
class ControlVector:
    """The content of a control-vector file: directions by number, the kind of model it names, and how it was made.

    `said` holds what the file says of its convention, by the names of `Convention`: nothing, unless MedX wrote it.
    """

    directions: dict[int, Tensor]
    model_hint: str
    said: Mapping[str, str]


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
    own = {"positions": str(vector.positions), "verdict_positions": str(vector.verdict_positions)}
    for name, word in Convention.of({"made_by": Maker.MEDX} | own).as_words().items():
        writer.add_string(OWN + name, word)
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
        said = {
            name.removeprefix(OWN): str(field.contents())
            for name, field in reader.fields.items()
            if name.startswith(OWN)
        }
    except BROKEN as error:
        raise VectorRefused(f"{path.name} is not a readable GGUF file.") from error
    if architecture != ARCHITECTURE:
        raise VectorRefused(f"{path.name} is a GGUF file, but not a control vector.")
    directions = {_layer(tensor, path.name): _direction(tensor, path.name) for tensor in reader.tensors}
    if len({direction.shape for direction in directions.values()}) != 1:
        raise VectorRefused(f"{path.name} holds no directions, or directions of different lengths.")
    return ControlVector(dict(sorted(directions.items())), hint, said)


def imported_vector(
    path: Path,
    network: PreTrainedModel,
    *,
    category: Category,
    alpha: float,
    names: tuple[str, str],
    convention: Convention,
) -> SteeringVector:
    """Read a control vector as a steering vector of `network`, whose name and weight hash are `names`.

    Its alpha is negative where a positive strength of the file's maker moves states towards incorrect answers.

    Raises:
        VectorRefused: the file is not a control vector, is of another hidden size or layer count, or contradicts what
            `convention` says of it.
    """
    content = read_control_vector(path)
    _check_scale(content, convention.scale, path.name)
    first = convention.layers is LayerNumbers.HIDDEN_STATES and model_type(network) not in OUTPUTS_ONLY
    directions = {number - first: direction for number, direction in content.directions.items()}
    top = max(directions)
    direction = directions[top]
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
        alpha=-alpha if convention.sign is Sign.INCORRECT else alpha,
        reading="",
        pairs=0,
        data_sha256="",
        prompt_version="",
        created_at=iso(utc_now()) or "",
        # Programs name architectures differently (mistral is llama to llama.cpp), so a hint refuses nothing.
        diagnostics={
            "norm": float(direction.norm()),
            "model_hint": content.model_hint,
            "convention": convention.as_words(),
        },
        positions=convention.positions,
        verdict_positions=convention.verdict_positions,
        model_type=model_type(network),
        further={layer: other for layer, other in directions.items() if layer != top},
    )
    check_vector(vector, path.name)
    return vector


def _check_scale(content: ControlVector, scale: Scale, file_name: str) -> None:
    """Refuse a file whose directions are of another length than was said."""
    norms = [float(direction.norm()) for direction in content.directions.values()]
    are_unit = all(abs(norm - 1) <= UNIT_WITHIN for norm in norms)
    if scale is Scale.UNIT and not are_unit:
        raise VectorRefused(
            f"{file_name} holds directions of length {min(norms):.3g} to {max(norms):.3g}, not 1; say --scale raw."
        )
    if scale is Scale.RAW and are_unit:
        raise VectorRefused(
            f"The directions in {file_name} are of length 1, so that alpha is the length of the shift; say --scale unit."
        )


def how_in_llama_cpp(vector: SteeringVector) -> str:
    """Say how llama.cpp is made to do what MedX does with this vector, in written answers and in verdicts.

    Only a vector of every token is what its option --control-vector does. Measured in `tests/unit/test_llama_cpp.py`.
    """
    return " ".join(
        f"{what}: {_steps_in_llama_cpp(positions)}"
        for what, positions in (("Verdicts", vector.verdict_positions), ("Written answers", vector.positions))
    )


def _steps_in_llama_cpp(positions: Positions) -> str:
    if positions == Positions.ALL:
        return "pass the file with --control-vector; MedX steers every token too."
    begin, end = positions.first, positions.stop
    before = {
        None: "",
        -1: "decode the prompt without its last token, then ",
        0: "decode the prompt, then ",
    }.get(begin, f"decode the text up to token {begin}, then ")
    after = {None: "", 0: "; clear it after the prompt"}.get(end, f"; clear it before token {end}")
    return (
        f"{before}set the vector (llama_set_adapter_cvec) and decode what follows{after}. --control-vector, which "
        "steers every token, is another arm with other verdicts."
    )


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
