"""One constant vector per category, as an evaluation steers with it, and the random and shuffled ones it must beat."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from medx_core.categories import Category
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.fitting.fit import fit_vector
from medx_core.fitting.fitted import FittedLayer
from medx_core.fitting.recipe import VectorRecipe
from medx_core.traces.statement_runner import StatementRunner
from medx_core.traces.steering_conditions import ShiftsByText, SteeringCondition

FEWEST_OF_A_CATEGORY = 40


@dataclass(frozen=True)
class CategoryVectors:
    """A constant vector of one layer for each category that has enough statements; under None that of all together."""

    fits: Mapping[Category | None, FittedLayer]

    def condition(self, statements: Sequence[LabelledStatement]) -> SteeringCondition:
        """Return what steers each statement by the vector of its category, else by that of all together."""
        fits = [self.fits.get(statement.category, self.fits[None]) for statement in statements]
        rows = torch.stack([fit.direction.float() * fit.alpha for fit in fits])
        return SteeringCondition(fits[0].layer, ShiftsByText(rows))

    def random(self, seed: int) -> "CategoryVectors":
        """Return random vectors of the same lengths, each category's own."""
        return CategoryVectors(
            {
                category: fit.random(seed_of(seed, place))
                for place, (category, fit) in enumerate(self.fits.items())
            }
        )

    def shuffled(self, seed: int) -> "CategoryVectors":
        """Return vectors fitted to the same traces after their labels were permuted."""
        return CategoryVectors(
            {
                category: fit.shuffled(seed_of(seed, place))
                for place, (category, fit) in enumerate(self.fits.items())
            }
        )


def seed_of(seed: int, place: int) -> int:
    """Return a seed for the category at `place`, unlike those of all other draws."""
    return 1_000 * seed + place


def fit_by_category(
    runner: StatementRunner, statements: Sequence[LabelledStatement], recipe: VectorRecipe
) -> CategoryVectors:
    """Fit a constant recipe on the statements of every category that has enough of them, and on all together.

    Raises:
        VectorRefused: one side of the contrast is empty, or both have the same mean.
        ModelUnavailable: a batch does not fit into the device's memory.
    """
    parts: dict[Category | None, Sequence[LabelledStatement]] = {None: statements}
    for category in Category:
        part = [statement for statement in statements if statement.category is category]
        if len(part) >= FEWEST_OF_A_CATEGORY and len({statement.answer for statement in part}) == 2:
            parts[category] = part
    return CategoryVectors({name: fit_vector(runner, part, recipe).top for name, part in parts.items()})
