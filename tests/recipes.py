"""Recipes that tests answer by."""

from pathlib import Path

from medx_core.questions import Exploration
from medx_core.recipes import ALL, ModelIdentity, Recipe, built_in_recipe
from medx_core.settings import Settings
from medx_core.steering.loaded_recipe import LoadedRecipe, RowVector
from medx_core.steering.steering_vector import SteeringVector

IDENTITY = ModelIdentity("tiny", "ab" * 32, "float32")


def recipe(identity: ModelIdentity = IDENTITY, **changes: object) -> Recipe:
    """The built-in recipe of a model, with changes."""
    built_in = built_in_recipe(identity, Settings(home=Path("nowhere")))
    return Recipe.model_validate(built_in.model_dump() | changes)


class FixedRecipe:
    """Answers by the built-in recipe with changes, steered by these vectors whatever the registry holds."""

    def __init__(self, *vectors: SteeringVector, **changes: object) -> None:
        self._vectors = {vector.category.value if vector.category else ALL: vector for vector in vectors}
        self._changes = {"uncertain_margin": 0.0} | changes

    def explored(self, model: ModelIdentity, exploration: Exploration) -> RowVector:
        """Explorations name these vectors by their versions."""
        named = {vector.version: vector for vector in self._vectors.values()}
        first, *beside = (named[version] for version in exploration.vectors)
        return RowVector(first, beside=tuple(beside), factor=exploration.strength)

    def bound(self, model: ModelIdentity, recipe_id: str) -> LoadedRecipe:
        """There is one recipe, whatever a job began with."""
        return self.answering(model)

    def known(self, model: ModelIdentity) -> tuple[Recipe, ...]:
        """Nothing else could be put to use."""
        return ()

    def answering(self, model: ModelIdentity) -> LoadedRecipe:
        steering = {
            key: {
                "file_sha256": f"file of {vector.version}",
                "strategy": vector.strategy,
                "layer": vector.layer,
                "strength": vector.alpha,
            }
            for key, vector in self._vectors.items()
        }
        return LoadedRecipe(recipe(model, steering=steering, **self._changes), "fixed", self._vectors)
