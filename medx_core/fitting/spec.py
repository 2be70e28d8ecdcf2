"""How a vector is made, and how a strategy is swept, as values that refuse what contradicts itself; without torch."""

from dataclasses import dataclass
from typing import Any

from medx_core.errors import BadInput
from medx_core.prompts import STATEMENT_PROMPT, VerdictPrompt
from medx_core.steering.names import (
    AMPLIFY,
    ANSWER_WORD,
    BUILDABLE,
    CLAMP,
    FITTED_TO_STATES,
    GATED,
    MEAN_DIFFERENCE,
    ON_STATEMENTS,
    ON_TWINS,
    PCA,
    PROJECT,
    READINGS,
    STATEMENT,
)
from medx_core.steering.positions import Positions

PAPER_EXAMPLES = 200
PAPER_ALPHA = 1.0
FIT_ON = ("auto", ON_TWINS, ON_STATEMENTS)
SWEPT = (MEAN_DIFFERENCE, PCA, AMPLIFY, PROJECT, CLAMP, GATED)


@dataclass(frozen=True)
class FitSpec:
    """How a vector is made. The defaults are the paper's.

    `examples` None means the paper's 200, and for `gated` all there are. `layers` empty means the penultimate one and
    `alpha` None means 1.0; for `gated`, and with `choose`, they are chosen by cross-fitting on the training part.
    `gated` has no reading of its own: it reads the last prompt token. `seed` decides the draw of examples and the
    random and shuffled versions. Whatever tokens of written answers (`positions`) and of verdicts (`verdict_positions`)
    the vector steers, it is fitted, and a setting chosen, at the token that a verdict is read from.
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
    verdict_positions: Positions = Positions.LAST
    seed: int = 1

    def __post_init__(self) -> None:
        _known("strategy", self.strategy, BUILDABLE)
        _known("reading", self.reading, READINGS)
        _known("kind of data to fit on", self.fit_on, FIT_ON)
        if len(set(self.layers)) > 1 and self.strategy in FITTED_TO_STATES:
            raise BadInput(f"The strategy {self.strategy} steers one layer; give one layer.")
        if self.is_gated and self.reading not in (ANSWER_WORD, STATEMENT):
            raise BadInput("The strategy gated reads the last prompt token alone; leave the reading out.")
        if self.fit_on == ON_TWINS and not self.is_gated:
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


@dataclass(frozen=True)
class SweepSpec:
    """What is swept. `reading` says how contrast traces are read; `gated` always reads the last prompt token."""

    layers: tuple[int, ...]
    strengths: tuple[float, ...]
    strategy: str = MEAN_DIFFERENCE
    reading: str = STATEMENT
    fit_on: str = "auto"
    seed: int = 1

    def as_json(self) -> dict[str, Any]:
        """Return the specification by name."""
        return {
            "strategy": self.strategy,
            "reading": STATEMENT if self.strategy == GATED else self.reading,
            "layers": list(self.layers),
            "strengths": list(self.strengths),
        }

    @property
    def vector(self) -> FitSpec:
        """How the vector of each layer is fitted.

        Raises:
            BadInput: there is no such reading, or the strategy cannot be swept.
        """
        if self.strategy not in SWEPT:
            raise BadInput(f"The strategy {self.strategy!r} cannot be swept; these can: {', '.join(SWEPT)}.")
        return FitSpec(
            strategy=self.strategy,
            # a gate has no reading of its own
            reading=ANSWER_WORD if self.strategy == GATED else self.reading,
            fit_on=self.fit_on,
            seed=self.seed,
        )


def _known(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise BadInput(f"There is no {name} {value!r}; choose one of {', '.join(choices)}.")
