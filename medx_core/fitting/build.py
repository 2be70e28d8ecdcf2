"""Building vectors for use: fitted by a recipe, with provenance and diagnostics, and going on after an interruption."""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medx_core.categories import Category
from medx_core.clock import iso, utc_now
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.errors import BadInput
from medx_core.fitting.examples import sha256_of_statements
from medx_core.fitting.fit import FittedVector, fit_vector
from medx_core.fitting.recipe import VectorRecipe
from medx_core.models.loading import LoadedModel
from medx_core.steering import diagnostics
from medx_core.steering.layers import model_type
from medx_core.steering.steering_vector import SteeringVector
from medx_core.steering.strategies import RANDOM
from medx_core.traces.running import BATCH_ROWS, FinishedBatches, OnProgress, silent
from medx_core.traces.statement_runner import StatementRunner


class VectorBuilder:
    """Builds vectors for one model.

    With `finished`, batches of traces that are done are kept on disk, so that the same build goes on where it was
    interrupted.
    """

    def __init__(
        self,
        model: LoadedModel,
        recipe: VectorRecipe | None = None,
        *,
        batch_rows: int = BATCH_ROWS,
        finished: FinishedBatches | None = None,
    ) -> None:
        self.recipe = recipe or VectorRecipe()
        self.runner = StatementRunner(model, self.recipe.prompt, batch_rows, finished=finished)

    def build(
        self,
        category: Category,
        train: Sequence[LabelledStatement],
        *,
        version: str = "",
        on_progress: OnProgress = silent,
    ) -> SteeringVector:
        """Build one category's vector from `train`.

        Its diagnostics are those of the fit; `evaluation.gain` adds what it changes on other statements.

        Raises:
            BadInput: there is nothing, or too little, to build from.
            VectorRefused: the statements are all TRUE or all FALSE, or a layer does not exist.
            ModelUnavailable: a batch does not fit into the device's memory.
        """
        if not train:
            raise BadInput(f"There are no statements of the category {category} to build a vector from.")
        fitted, model = fit_vector(self.runner, train, self.recipe, on_progress), self.runner.model
        top = fitted.top
        return SteeringVector(
            category=category,
            direction=top.direction,
            layer=top.layer,
            model=model.name,
            model_sha256=model.weight_sha256,
            strategy=self.recipe.strategy,
            alpha=top.alpha,
            reading=top.reading,
            pairs=len(fitted.statements),
            data_sha256=sha256_of_statements(fitted.statements),
            prompt_version=self.recipe.prompt.version,
            created_at=iso(utc_now()) or "",
            version=version,
            diagnostics=self._diagnostics(fitted),
            positions=self.recipe.positions,
            fitted_on=fitted.fitted_on,
            gate=top.gate,
            b0=top.b0,
            centre=top.centre,
            model_type=model_type(model.network),
            further={layer: fit.direction for layer, fit in fitted.layers.items() if layer != top.layer},
        )

    def _diagnostics(self, fitted: FittedVector) -> dict[str, Any]:
        top = fitted.top
        figures: dict[str, Any] = {
            "dtype": str(self.runner.model.placement.dtype).removeprefix("torch."),
            "norm": float(top.direction.norm()),
            "separation": diagnostics.separation(top.traces, top.axis),
            "choices": dict(fitted.choices),
        }
        stability = ("halves_cosine", "shuffled_cosine", "shuffled_cosine_size", "shuffled_separation")
        if self.recipe.strategy == RANDOM:  # a random direction is fitted to nothing
            return figures | dict.fromkeys(stability)
        seed = self.recipe.seed
        halves = diagnostics.halves_cosine(
            lambda half: top.on(half).axis,
            groups=[statement.group for statement in fitted.statements],
            seed=seed,
        )
        mixed = diagnostics.against_shuffled(
            top.axis, [top.shuffled(1_000 * seed + draw) for draw in range(diagnostics.DRAWS)]
        )
        return figures | dict(
            zip(stability, (halves, mixed.cosine, mixed.cosine_size, mixed.separation), strict=True)
        )


@dataclass(frozen=True)
class ResumableBuild:
    """A build of several categories that goes on where it was interrupted; its folder is there until all is done.

    The folder is named by a hash of everything that decides the outcome.
    """

    folder: Path

    @classmethod
    def of(
        cls, home: Path, recipe: VectorRecipe, weights_and_device: str, parts: Mapping[Category, Any]
    ) -> "ResumableBuild":
        """Return the build of these statements by this recipe on this device: the same whenever it is asked for again."""
        told = repr((recipe, weights_and_device, [(name.value, part) for name, part in parts.items()]))
        return cls(home / "traces" / hashlib.sha256(told.encode()).hexdigest()[:16])

    @property
    def batches(self) -> FinishedBatches:
        """The batches that are done; they name themselves, so that all categories share one folder."""
        return FinishedBatches(self.folder)

    def built(self, category: Category) -> str:
        """Return the hash of the file that this build registered for a category before it was interrupted, else ''."""
        try:
            return self._marker(category).read_text(encoding="ascii")
        except FileNotFoundError:
            return ""

    def note_built(self, category: Category, file_sha256: str) -> None:
        """Keep that a category is built, so that going on does not make a second version of it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._marker(category).write_text(file_sha256, encoding="ascii")

    def forget(self) -> None:
        """Remove everything; called when the build is done."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _marker(self, category: Category) -> Path:
        return self.folder / f"{category.value}.built"
