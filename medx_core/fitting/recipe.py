"""How a vector is made, as one value."""

from dataclasses import dataclass

from medx_core.errors import BadInput
from medx_core.models.prompting import STATEMENT_PROMPT, VerdictPrompt
from medx_core.steering.contrast import ANSWER_WORD, READINGS, STATEMENT
from medx_core.steering.hooks import Positions
from medx_core.steering.strategies import BUILDABLE, GATED, INPUT_DEPENDENT, MEAN_DIFFERENCE

PAPER_EXAMPLES = 200
PAPER_ALPHA = 1.0
FIT_ON = ("auto", "twins", "statements")


@dataclass(frozen=True)
class VectorRecipe:
    """How a vector is made. The defaults are the paper's.

    `examples` None means the paper's 200, and for `gated` all there are. `layers` empty means the penultimate one and
    `alpha` None means 1.0; for `gated`, and with `choose`, they are chosen by cross-fitting on the training part.
    `gated` has no reading of its own: it reads the last prompt token. `seed` decides the draw of examples and the
    random and shuffled versions.
    """

    examples: int | None = None
    alpha: float | None = None
    layers: tuple[int, ...] = ()
    reading: str = ANSWER_WORD
    strategy: str = MEAN_DIFFERENCE
    fit_on: str = "auto"
    choose: bool = False
    prompt: VerdictPrompt = STATEMENT_PROMPT
    positions: Positions = Positions.LAST
    seed: int = 1

    def __post_init__(self) -> None:
        _known("strategy", self.strategy, BUILDABLE)
        _known("reading", self.reading, READINGS)
        _known("kind of data to fit on", self.fit_on, FIT_ON)
        if len(set(self.layers)) > 1 and self.strategy in INPUT_DEPENDENT:
            raise BadInput(f"The strategy {self.strategy} steers one layer; give one layer.")
        if self.is_gated and self.reading not in (ANSWER_WORD, STATEMENT):
            raise BadInput("The strategy gated reads the last prompt token alone; leave the reading out.")
        if self.fit_on == "twins" and not self.is_gated:
            raise BadInput("Only the strategy gated can be fitted on twin differences.")

    @property
    def is_gated(self) -> bool:
        """Whether the vector's shift is computed by a gate."""
        return self.strategy == GATED

    @property
    def is_the_papers(self) -> bool:
        """Whether this is what the paper describes, whatever the number of examples."""
        told = (self.strategy, self.reading, self.layers, self.alpha or PAPER_ALPHA)
        return told == (MEAN_DIFFERENCE, ANSWER_WORD, (), PAPER_ALPHA) and not self.choose


def _known(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise BadInput(f"There is no {name} {value!r}; choose one of {', '.join(choices)}.")
