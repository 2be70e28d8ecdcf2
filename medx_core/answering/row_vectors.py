"""Which vector steers which row, and the sentence that says why a row stays unsteered."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from medx_core.categories import Category
from medx_core.models.loading import LoadedModel
from medx_core.questions import Answer, Arm, ArmRow, Mode
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
    """Where the engine finds the vector in use per category."""

    def active(self, model_sha256: str) -> Mapping[Category, SteeringVector]:
        """Return the active vectors of that model; categories without one are left out."""
        ...


@dataclass(frozen=True)
class RowVector:
    """The vector that steers one row; None where the row stays unsteered, with a `note` that says why."""

    vector: SteeringVector | None
    note: str = ""

    @property
    def parts(self) -> tuple[RowPart, ...]:
        """What the hook adds to the row; empty where the row stays unsteered."""
        return () if self.vector is None else self.vector.parts

    @property
    def parts_of_a_verdict(self) -> tuple[RowPart, ...]:
        """The same for a verdict: it is read from the last prompt token, so every vector acts on that token."""
        return tuple(replace(part, positions=Positions.LAST) for part in self.parts)


def vector_of_row(
    row: ArmRow,
    active: Mapping[Category, SteeringVector],
    prompt_version: str,
    *,
    gated_text: bool,
) -> RowVector:
    """Choose the vector for one row that is asked with the prompt of that version.

    With `gated_text`, vectors that were made for verdicts steer written answers too.
    """
    if row.arm is Arm.UNSTEERED:
        return RowVector(None)
    vector = active.get(row.route.category) if row.route.category else None
    if vector is None:
        return RowVector(None, NO_VECTOR if row.route.category else NOT_ROUTED)
    why_not = _why_not(vector, row.question.mode, prompt_version, gated_text=gated_text)
    return RowVector(None if why_not else vector, why_not)


def _why_not(vector: SteeringVector, mode: Mode, prompt_version: str, *, gated_text: bool) -> str:
    """Return why this vector must not steer this answer; empty where it may."""
    strategy = STRATEGIES[vector.strategy]
    if mode is Mode.TEXT:
        return "" if strategy.for_text or gated_text else NOT_FOR_TEXT
    # A gate reads states, and was fitted on the states of one prompt.
    return "" if strategy.constant or vector.prompt_version == prompt_version else OTHER_PROMPT


def answer_shell(
    model: LoadedModel, row: ArmRow, row_vector: RowVector, prompt_version: str, seconds: float
) -> Answer:
    """Return an answer without content: how it is made, and in how many `seconds`."""
    vector = row_vector.vector
    return Answer(
        arm=row.arm,
        model=model.name,
        model_sha256=model.weight_sha256,
        prompt_version=prompt_version,
        seconds=seconds,
        vector=vector.version if vector else None,
        layer=vector.layer if vector else None,
        alpha=vector.alpha if vector else None,
        note=row_vector.note,
    )
