"""A recipe with its vectors read: what steers a question by it, or why nothing does.

The engine that answers and the evaluation that measures both ask it, so that what is measured is what answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from medx_core.categories import Category
from medx_core.questions import Mode
from medx_core.recipes import DO_NOT_TRUST, Recipe
from medx_core.steering.hooks import SteeringPlan
from medx_core.steering.names import FITTED_TO_STATES, GATED
from medx_core.steering.steering_vector import SteeringVector

NO_VECTOR = "The recipe in use has no steering vector for this category; answered unsteered. Build vectors with `medx vectors build`."
REFUSED = "The recipe's steering vector for this category cannot be used, see `medx recipes check`; answered unsteered."
NOT_FOR_TEXT = (
    "The recipe's vector is input-dependent and made for verdicts, so the text was written unsteered."
)
OTHER_PROMPT = (
    "The recipe's vector was fitted on another prompt than this question needs; answered unsteered."
)
NOT_STEERABLE = "This model cannot be steered here, see `medx models check`; answered unsteered."
NOT_ROUTED = "No category was decided, so no steering vector was used; choose a category to steer."


@dataclass(frozen=True)
class RowVector:
    """The vector that steers one row; None where the row stays unsteered, with a `note` that says why.

    In an exploration, `beside` holds further vectors, and all of them are `factor` times as strong as they are.
    """

    vector: SteeringVector | None
    note: str = ""
    beside: tuple[SteeringVector, ...] = ()
    factor: float = 1.0

    @property
    def vectors(self) -> tuple[SteeringVector, ...]:
        """All vectors that steer the row."""
        return () if self.vector is None else (self.vector, *self.beside)

    def plan(self, mode: Mode) -> SteeringPlan:
        """What steers the row's answer in that mode, lowest layer first; empty where it stays unsteered."""
        plans = [vector.verdict_plan if mode is Mode.VERDICT else vector.plan for vector in self.vectors]
        if len(plans) == 1 and self.factor == 1.0:
            return plans[0]
        steps = [step for plan in plans for step in plan.times(self.factor).steps]
        return SteeringPlan(tuple(sorted(steps, key=lambda step: step.layer)))


UNSTEERED_ROW = RowVector(None)


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe under its name, and the vectors of its steering by key; one that cannot be used is left out.

    One that `is_promoted` answers as it is, or nothing does.
    `probability_held` turns false where a newer evaluation of that very recipe found its calibration wanting;
    `broken_promise` then says how more of the answers that it stood by were wrong than it promises, empty while it holds.
    """

    recipe: Recipe
    name: str
    vectors: Mapping[str, SteeringVector]
    probability_held: bool = True
    broken_promise: str = ""
    is_promoted: bool = False

    def probability(self, margin: float, *, as_measured: bool) -> float | None:
        """Return the probability of TRUE as `Recipe.probability` does, None where newer evidence does not allow it."""
        return self.recipe.probability(margin, as_measured=as_measured) if self.probability_held else None

    def doubt(self, margin: float, *, as_measured: bool) -> str:
        """Return why an answer is not to be trusted as `Recipe.doubt` does; none is whose promise newer evidence broke."""
        if self.broken_promise and as_measured and self.recipe.abstention is not None:
            return f"{DO_NOT_TRUST}: its recipe's promise did not hold when it was measured last; {self.broken_promise}."
        return self.recipe.doubt(margin, as_measured=as_measured)

    def for_verdict(self, category: Category | None, prompt_version: str) -> RowVector:
        """Return what steers a verdict on a question of that category, asked with the prompt of that version."""
        row = self._of(category)
        if row.vector is None or row.vector.strategy not in FITTED_TO_STATES:
            return row
        return row if row.vector.prompt_version == prompt_version else RowVector(None, OTHER_PROMPT)

    def for_text(self, category: Category | None) -> RowVector:
        """Return what steers a written answer to a question of that category."""
        row = self._of(category)
        is_gate = row.vector is not None and row.vector.strategy == GATED
        return RowVector(None, NOT_FOR_TEXT) if is_gate and not self.recipe.gated_text else row

    def _of(self, category: Category | None) -> RowVector:
        key = self.recipe.key_for(category)
        if key is None:
            return RowVector(None, NO_VECTOR if category else NOT_ROUTED)
        vector = self.vectors.get(key)
        return RowVector(None, REFUSED) if vector is None else RowVector(vector)
