"""Steering vectors and recipes as a deployment sees them: files in one folder, versions and use in the database."""

import logging
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from medx_core.errors import NotFound, RecipeUnusable, StorageFault, VectorRefused
from medx_core.models.catalog import sha256_of_file
from medx_core.questions import Exploration
from medx_core.recipes import ALL, BUILT_IN, ModelIdentity, Recipe, built_in_recipe
from medx_core.settings import Settings
from medx_core.steering.loaded_recipe import LoadedRecipe, RowVector
from medx_core.steering.steering_vector import SteeringVector
from medx_core.steering.vector_files import load_vector, save_vector
from medx_core.storage.engine import Database
from medx_core.storage.evidence import Evidence
from medx_core.storage.recipes import RecipeRecord, RecipeStatus, RecipeStore, as_reason
from medx_core.storage.vectors import PAPER_PRESET, VectorRecord, VectorStore, check_file

if TYPE_CHECKING:
    from medx_core.evaluation.recipe_arm import ArmRecipe

log = logging.getLogger(__name__)

EVALUATED_PRESET = "evaluated"
"""The preset of vectors that were fitted in an evaluation and saved with its recipe."""


class VectorRegistry:
    """Publishes vectors, and hands out the recipe that answers with its vectors, each read from its file once."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.store = VectorStore(database)
        self.recipes = RecipeStore(database)
        self._evidence = Evidence(database, settings.max_dose)
        self._settings = settings
        self._folder = settings.vectors_folder
        self._read: dict[str, SteeringVector] = {}
        self._refused: set[str] = set()
        self._recipes: dict[str, Recipe] = {}

    def publish(self, vector: SteeringVector, *, preset: str = PAPER_PRESET) -> VectorRecord:
        """Save a vector under the hash of its content and register it as the next version of its category.

        It steers once it is part of the recipe in use; the first one of a category by the paper's method is part of the
        built-in recipe at once.
        """
        folder = Path(vector.model_sha256[:12])
        name = vector.category.value if vector.category else ALL
        draft = self._folder / folder / f".{name}.draft"
        save_vector(vector, draft)
        sha256 = sha256_of_file(draft)
        file = folder / f"{name}-{sha256[:12]}.safetensors"
        draft.replace(self._folder / file)
        record = VectorRecord(
            model=vector.model,
            model_sha256=vector.model_sha256,
            category=vector.category,
            layer=vector.layer,
            alpha=vector.alpha,
            file=str(file),
            file_sha256=sha256,
            strategy=vector.strategy,
            preset=preset,
            positions=str(vector.positions),
            diagnostics=vector.diagnostics,
        )
        return self.store.register(record)

    def answering(self, model: ModelIdentity) -> LoadedRecipe:
        """Return the recipe by which a model answers now, with its vectors; a built-in one is stored when it is used.

        Of a built-in recipe, a category whose vector cannot be used is answered unsteered and says so; those of the other
        categories are steered as ever. Why is written to the log, once for each file, until it is mended.

        Raises:
            RecipeUnusable: a recipe was promoted, and it was made for another model, its row in the database was changed, or one
                of its vectors cannot be used.
            StorageFault: the database cannot be used.
        """
        record = self.recipes.answering(model, self._settings)
        if record.created_at is None:
            self.recipes.keep(record.recipe, name=record.name, model=record.model)
        return self._loaded(record)

    def bound(self, model: ModelIdentity, recipe_id: str) -> LoadedRecipe:
        """Return a recipe that a job began with, with its vectors, whether or not it is in use any more.

        Raises:
            RecipeUnusable: it was withdrawn, was made for another model, its row was changed, or one of its vectors cannot be
                used.
            StorageFault: the database cannot be used.
        """
        known = next((each for each in self.recipes.names() if each.id == recipe_id), None)
        if known is None or known.damage:
            raise RecipeUnusable(
                recipe_id,
                known.name if known else "unnamed",
                known.damage if known else "it is not stored here",
            )
        record = self.recipes.get(recipe_id)
        is_withdrawn = record.status is RecipeStatus.WITHDRAWN
        if reason := "it was withdrawn" if is_withdrawn else record.recipe.misfit(model):
            raise RecipeUnusable(record.id, record.name, reason)
        return self._loaded(record)

    def _loaded(self, record: RecipeRecord) -> LoadedRecipe:
        held = self._evidence.held(record.recipe)
        loaded = partial(
            LoadedRecipe,
            record.recipe,
            record.name,
            probability_held=held.probability,
            broken_promise=held.broken_promise,
        )
        if record.name in BUILT_IN and not record.is_promoted:
            return loaded(vectors=self._usable(record.recipe))
        try:
            vectors = {key: self._vector(record.recipe, key) for key in record.recipe.steering}
        except VectorRefused as error:
            raise RecipeUnusable(record.id, record.name, as_reason(error)) from error
        return loaded(vectors=vectors, is_promoted=record.is_promoted)

    def known(self, model: ModelIdentity) -> tuple[Recipe, ...]:
        """Return all recipes that were made for this model in its number type, whatever their state."""
        for recipe_id in self.recipes.ids(model.sha256) - self._recipes.keys():
            with suppress(NotFound, StorageFault):  # damaged, which `RecipeStore.damaged` tells
                self._recipes[recipe_id] = self.recipes.get(recipe_id).recipe
        return tuple(recipe for recipe in self._recipes.values() if not recipe.misfit(model))

    def explored(self, model: ModelIdentity, exploration: Exploration) -> RowVector:
        """Return an exploration's vectors, each as many times as strong as it says.

        Raises:
            VectorRefused: there is no vector to try, or one was made for other weights or cannot be read.
        """
        known = {record.file_sha256: record for record in self.store.list(model.sha256)}
        missing = [sha256[:12] for sha256 in exploration.vectors if sha256 not in known]
        if missing or not exploration.vectors:
            raise VectorRefused(
                f"There is no vector {', '.join(missing)} for {model.name}; choose vectors of the model in use."
                if missing
                else "Choose at least one vector to try."
            )
        first, *beside = (self.read(known[sha256]) for sha256 in exploration.vectors)
        return RowVector(first, beside=tuple(beside), factor=exploration.strength)

    def save(self, arm: "ArmRecipe", name: str) -> RecipeRecord:
        """Publish an arm's vectors, and store the recipe that it is as a candidate under a name."""
        steering = {
            key: self.publish(vector, preset=EVALUATED_PRESET).steering for key, vector in arm.vectors.items()
        }
        recipe = arm.on(built_in_recipe(arm.model, self._settings), steering)
        return self.recipes.keep(recipe, name=name, model=arm.model.name)

    def _vector(self, recipe: Recipe, key: str) -> SteeringVector:
        return self.read(self.recipes.vector_of(recipe, key, self._folder))

    def _usable(self, recipe: Recipe) -> dict[str, SteeringVector]:
        """Return those of a recipe's vectors that can be used."""
        vectors: dict[str, SteeringVector] = {}
        for key, entry in recipe.steering.items():
            try:
                vectors[key] = self._vector(recipe, key)
            except VectorRefused as error:
                if entry.file_sha256 not in self._refused:
                    log.warning("%s questions are answered unsteered: %s", key, error)
                self._refused.add(entry.file_sha256)
            else:
                self._refused.discard(entry.file_sha256)
        return vectors

    def read(self, record: VectorRecord) -> SteeringVector:
        """Read one version's vector; it carries the version's name.

        Raises:
            VectorRefused: its file is missing, was changed since it was registered, or does not fit the model.
        """
        if record.file_sha256 not in self._read:
            check_file(self._folder, record)
            path = self._folder / record.file
            self._read[record.file_sha256] = load_vector(path, model_sha256=record.model_sha256)
        return replace(self._read[record.file_sha256], version=record.name)
