"""What other tools mean by the numbers in a vector file, as values; without torch, so that a command asks at once.

Two files with the same tensors may steer differently: tools count layers from the embeddings or from the first layer's
output, write a direction of length 1 or one as long as the states are apart, point it either way, and add it to every
token or to some. A file of directions says none of this, so its importer has to.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TypeVar

from medx_core.errors import BadInput
from medx_core.steering.positions import Positions


class Maker(StrEnum):
    """The tool whose way of steering an imported vector follows."""

    REPENG = "repeng"
    LLAMA_CPP = "llama.cpp"
    MEDX = "medx"
    OTHER = "other"


class LayerNumbers(StrEnum):
    """What a direction's number N counts.

    `OUTPUT`: the output of the decoder layer with the 0-based index N, which llama.cpp and repeng add it to.
    `HIDDEN_STATES`: entry N of transformers' `hidden_states`, whose entry 0 is what goes into the first layer, so that
    N is the output of layer N - 1; in Mamba and RWKV networks entry 0 is already the first layer's output
    (transformers 5.23.0).
    """

    OUTPUT = "output"
    HIDDEN_STATES = "hidden-states"


class Sign(StrEnum):
    """What a positive strength moves states towards: the traces of correct or of incorrect answers."""

    CORRECT = "correct"
    INCORRECT = "incorrect"


class Scale(StrEnum):
    """`UNIT` directions have length 1, so that alpha is the length of the shift; `RAW` ones have their own length."""

    UNIT = "unit"
    RAW = "raw"


ASKED: Mapping[str, type[StrEnum]] = {"layers": LayerNumbers, "sign": Sign, "scale": Scale}
"""What must be known of a vector besides its maker, by the name of its option, and the answers there are."""
# repeng 0.4.0 writes principal components, which have length 1 (`extract.py`); which prompts were its positive ones,
# only its user knows. How long llama.cpp's are depends on its method.
KNOWN_OF: Mapping[Maker, Mapping[str, str]] = {
    Maker.REPENG: {"layers": LayerNumbers.OUTPUT, "scale": Scale.UNIT},
    Maker.LLAMA_CPP: {"layers": LayerNumbers.OUTPUT},
    Maker.MEDX: {"layers": LayerNumbers.OUTPUT, "sign": Sign.CORRECT, "scale": Scale.RAW},
    Maker.OTHER: {},
}
# Of these tools, MedX alone steers the tokens that an answer is read from; the others add a vector to every token.
POSITIONS_OF = {maker: Positions.LAST if maker is Maker.MEDX else Positions.ALL for maker in Maker}


@dataclass(frozen=True)
class Convention:
    """Everything about a vector that its directions do not say; `positions` are those its maker's tool steers."""

    made_by: Maker
    layers: LayerNumbers
    sign: Sign
    scale: Scale
    positions: Positions
    verdict_positions: Positions

    @classmethod
    def of(cls, said: Mapping[str, str]) -> "Convention":
        """Read a convention from what a file or a person says, by the names of the fields; the maker fills in the rest.

        Raises:
            BadInput: something is missing, or is none of the answers there are.
        """
        maker = _choice(Maker, "made_by", said)
        known = {**KNOWN_OF[maker], **{name: word for name, word in said.items() if word}}
        positions = Positions.parse(known.get("positions") or str(POSITIONS_OF[maker]))
        in_verdicts = known.get("verdict_positions") or str(positions)
        return cls(
            made_by=maker,
            layers=_choice(LayerNumbers, "layers", known),
            sign=_choice(Sign, "sign", known),
            scale=_choice(Scale, "scale", known),
            positions=positions,
            verdict_positions=Positions.parse(in_verdicts),
        )

    def as_words(self) -> dict[str, str]:
        """Return it as words by name."""
        return {field.name: str(getattr(self, field.name)) for field in fields(self)}


def unsaid(said: Mapping[str, str]) -> list[str]:
    """Return the options that still have to be answered before a vector can be used, in the order to ask them."""
    maker = said.get("made_by")
    if not maker:
        return ["made_by", *ASKED]
    known = KNOWN_OF[_choice(Maker, "made_by", said)]
    return [name for name in ASKED if not said.get(name) and name not in known]


C = TypeVar("C", bound=StrEnum)


def _choice(kind: type[C], name: str, said: Mapping[str, str]) -> C:
    option = "--" + name.replace("_", "-")
    choices = ", ".join(kind)
    if not said.get(name):
        raise BadInput(f"The file does not say how it was made; add {option} with one of {choices}.")
    try:
        return kind(said[name])
    except ValueError:
        raise BadInput(f"{option} cannot be {said[name]!r}; choose one of {choices}.") from None
