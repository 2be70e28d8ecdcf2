"""Going on with a `medx vectors build` that was interrupted: batches of traces that are done, categories that are built."""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medx_core.categories import Category
from medx_core.data.labelled_statements import LabelledStatement

if TYPE_CHECKING:
    from medx_core.traces.running import FinishedBatches
    from medx_core.vector_building import VectorRecipe

Parts = tuple[Sequence[LabelledStatement], Sequence[LabelledStatement]]
"""Statements to build from, and held-out ones to measure on."""


@dataclass(frozen=True)
class ResumableBuild:
    """One build with everything that decides its outcome; its folder is there until the whole build is done."""

    folder: Path

    @classmethod
    def of(
        cls, home: Path, recipe: "VectorRecipe", weights_and_device: str, parts: Mapping[Category, Parts]
    ) -> "ResumableBuild":
        """Return the build of these statements by this recipe on this device: the same whenever it is asked for again."""
        told = repr((recipe, weights_and_device, [(name.value, part) for name, part in parts.items()]))
        return cls(home / "traces" / hashlib.sha256(told.encode()).hexdigest()[:16])

    @property
    def batches(self) -> "FinishedBatches":
        """The batches that are done; they name themselves, so that all categories share one folder."""
        from medx_core.traces.running import FinishedBatches

        return FinishedBatches(self.folder)

    def built(self, category: Category) -> str:
        """Return the hash of the file that this build registered for a category before it was interrupted, else nothing."""
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
