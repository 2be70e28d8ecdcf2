"""Which vector steers which row, and where none does, why not in words."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from medx_core.categories import Category
from medx_core.questions import Arm, ArmRow, Mode
from medx_core.steering.hooks import Positions, RowPart
from medx_core.steering.steering_vector import SteeringVector
from medx_core.steering.strategies import STRATEGIES

NO_VECTOR = "No steering vector is active for this model and category; answered unsteered. Build them with `medx vectors build`."
NOT_FOR_TEXT = (
    "The active vector is input-dependent and made for verdicts, so the text was written unsteered."
)
OTHER_PROMPT = "The active vector was fitted on another prompt than this question needs; answered unsteered."
NOT_ROUTED = "No category was decided, so no steering vector was used; choose a category to steer."


class ActiveVectors(Protocol):
    """Says which vector steers each category on one model."""

    def active(self, model_sha256: str) -> Mapping[Category, SteeringVector]:
        """Return the active vectors of that model; categories without one are left out."""
        ...


@dataclass(frozen=True)
class RowVector:
    """The vector that steers one row, None where it stays unsteered, with a note that says why."""

    vector: SteeringVector | None
    note: str = ""

    @property
    def parts(self) -> tuple[RowPart, ...]:
        """The hook's view of it; none where the row stays unsteered."""
        return () if self.vector is None else self.vector.parts

    @property
    def parts_of_a_verdict(self) -> tuple[RowPart, ...]:
        """The same for a verdict, which is read from the last prompt token: there any vector acts on that token."""
        return tuple(replace(part, positions=Positions.LAST) for part in self.parts)


def vector_of_row(
    row: ArmRow,
    active: Mapping[Category, SteeringVector],
    prompt_version: str,
    *,
    gated_text: bool,
) -> RowVector:
    """Choose among the active vectors for one row, which will be asked with the prompt of that version.

    `gated_text` lets vectors that were made for verdicts steer written answers too.
    """
    if row.arm is Arm.UNSTEERED:
        return RowVector(None)
    vector = active.get(row.route.category) if row.route.category else None
    if vector is None:
        return RowVector(None, NO_VECTOR if row.route.category else NOT_ROUTED)
    why_not = _why_not(vector, row.question.mode, prompt_version, gated_text=gated_text)
    return RowVector(None if why_not else vector, why_not)


def _why_not(vector: SteeringVector, mode: Mode, prompt_version: str, *, gated_text: bool) -> str:
    """Say why this vector must not steer this answer, or nothing where it may."""
    strategy = STRATEGIES[vector.strategy]
    if mode is Mode.TEXT:
        return "" if strategy.for_text or gated_text else NOT_FOR_TEXT
    # A read-out of states means nothing on the states of another prompt.
    return "" if strategy.constant or vector.prompt_version == prompt_version else OTHER_PROMPT
