"""Steering vectors as a deployment sees them: files in one folder, their versions and use in the database."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from medx_core.categories import Category
from medx_core.errors import VectorRefused
from medx_core.models.catalog import sha256_of_file
from medx_core.steering.steering_vector import SteeringVector
from medx_core.steering.vector_files import load_vector, save_vector
from medx_core.storage.vectors import PAPER_PRESET, VectorRecord, VectorStore, check_file

log = logging.getLogger(__name__)


class VectorRegistry:
    """Publishes vectors and hands out the active ones, each read from its file once."""

    def __init__(self, store: VectorStore, folder: Path) -> None:
        self.store = store
        self._folder = folder
        self._read: dict[str, SteeringVector] = {}
        self._refused: set[str] = set()

    def publish(self, vector: SteeringVector, *, preset: str = PAPER_PRESET) -> VectorRecord:
        """Save a vector under the hash of its content and register it as the next version of its category.

        The first one of a model and category with the paper's preset becomes active; all others wait for an admin to
        promote them.
        """
        folder = Path(vector.model_sha256[:12])
        draft = self._folder / folder / f".{vector.category.value}.draft"
        save_vector(vector, draft)
        sha256 = sha256_of_file(draft)
        file = folder / f"{vector.category.value}-{sha256[:12]}.safetensors"
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
            diagnostics=vector.diagnostics,
        )
        return self.store.register(record)

    def active(self, model_sha256: str) -> Mapping[Category, SteeringVector]:
        """Return the active vectors of that model; categories without one are left out.

        So are categories whose active vector cannot be used: their answers are unsteered and say so, and those of the
        other categories are steered as ever. Why is written to the log, once for each file, until it is mended.
        """
        vectors: dict[Category, SteeringVector] = {}
        for category, record in self.store.active(model_sha256).items():
            try:
                vectors[category] = self.read(record)
            except VectorRefused as error:
                if record.file_sha256 not in self._refused:
                    log.warning("%s questions are answered unsteered: %s", category.value, error)
                self._refused.add(record.file_sha256)
            else:
                self._refused.discard(record.file_sha256)
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
