"""Versions of steering vectors, each under its name; which of them steer is said by recipes."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from sqlmodel import Session, col, select

from medx_core.categories import Category
from medx_core.errors import NotFound, VectorRefused
from medx_core.recipes import ALL, SteeringEntry
from medx_core.storage.engine import Store
from medx_core.storage.tables import VectorTable, as_value

PAPER_PRESET = "paper"
SHIPPED_VECTORS = Path(__file__).resolve().parent.parent / "data" / "bundled" / "vectors"


class VectorStatus(StrEnum):
    """The state of a version. Whether it steers is said by the recipe in use."""

    CANDIDATE = "candidate"
    RETIRED = "retired"


@dataclass(frozen=True)
class VectorRecord:
    """One version of a steering vector. `file` is relative to the vectors folder.

    `category` is None for a vector of all categories together. `positions` says which tokens of a text it shifts; empty
    where the record is older than that. `id`, `name`, `version`, `status` and `created_at` are given by
    `VectorStore.register`.
    """

    model: str
    model_sha256: str
    category: Category | None
    layer: int
    alpha: float
    file: str
    file_sha256: str
    strategy: str = "mean_difference"
    preset: str = PAPER_PRESET
    positions: str = ""
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    id: int = 0
    name: str = ""
    version: int = 0
    status: VectorStatus = VectorStatus.CANDIDATE
    created_at: datetime | None = None

    @property
    def steering(self) -> SteeringEntry:
        """What a recipe says of it."""
        return SteeringEntry(
            file_sha256=self.file_sha256,
            strategy=self.strategy,
            layer=self.layer,
            strength=self.alpha,
            positions=self.positions,
        )


class VectorStore(Store):
    """The vector versions of one database. Methods that take an id raise NotFound if there is none."""

    def register(self, record: VectorRecord) -> VectorRecord:
        """Store the next version of the record's model and category and return it with its name ("triage v3").

        The same file registered again is the same version.
        """
        with self._database.write() as session:
            known = _versions(session, record.model_sha256, record.category)
            same = [row for row in known if row.file_sha256 == record.file_sha256]
            if same:
                return _record(same[0])
            version = 1 + max((row.version for row in known), default=0)
            given = replace(
                record,
                name=f"{record.category.value if record.category else ALL} v{version}",
                version=version,
                status=VectorStatus.CANDIDATE,
                created_at=self._clock(),
            )
            row = VectorTable(**{**vars(given), "id": None, "diagnostics": dict(record.diagnostics)})
            session.add(row)
            session.flush()
            return _record(row)

    def papers(self, model_sha256: str) -> dict[Category, VectorRecord]:
        """Return the vectors of the built-in recipe `paper`: each category's first by the paper's method.

        Retired ones and categories without one are left out.
        """
        first: dict[Category, VectorRecord] = {}
        for record in sorted(self.list(model_sha256), key=lambda record: record.id):
            is_papers = record.preset == PAPER_PRESET and record.status is not VectorStatus.RETIRED
            if is_papers and record.category is not None:
                first.setdefault(record.category, record)
        return first

    def get(self, vector_id: int) -> VectorRecord:
        """Return one version."""
        with self._database.read() as session:
            return _record(_vector(session, vector_id))

    def list(self, model_sha256: str | None = None) -> tuple[VectorRecord, ...]:
        """Return all versions, of one model or of all, by category and the newest first."""
        ordered = select(VectorTable).order_by(
            VectorTable.model, col(VectorTable.category), col(VectorTable.version).desc()
        )
        if model_sha256 is not None:
            ordered = ordered.where(VectorTable.model_sha256 == model_sha256)
        with self._database.read() as session:
            return tuple(map(_record, session.exec(ordered)))

    def retire(self, vector_id: int) -> VectorRecord:
        """Withdraw a version: no recipe takes it up from now on. Recipes that hold it already stay as they are."""
        with self._database.write() as session:
            row = _vector(session, vector_id)
            row.status = VectorStatus.RETIRED
            return _record(row)


def _versions(session: Session, model_sha256: str, category: Category | None) -> list[VectorTable]:
    rows = select(VectorTable).where(
        VectorTable.model_sha256 == model_sha256, col(VectorTable.category).is_not_distinct_from(category)
    )
    return list(session.exec(rows.order_by(col(VectorTable.id)).with_for_update()))


def _vector(session: Session, vector_id: int) -> VectorTable:
    row = session.get(VectorTable, vector_id)
    if row is None:
        raise NotFound(f"There is no vector with the number {vector_id}.")
    return row


def _record(row: VectorTable) -> VectorRecord:
    return as_value(VectorRecord, row, status=VectorStatus(row.status))


def register_shipped_vectors(
    store: VectorStore, model_sha256: str, vectors_folder: Path, *, shipped: Path = SHIPPED_VECTORS
) -> list[VectorRecord]:
    """Register the vectors that come with MedX for these weights, for the categories that have none of the paper's.

    Returns the versions registered; none for weights that no vector was shipped for. Needs no torch.
    """
    present = store.papers(model_sha256)
    registered = []
    for file in sorted(shipped.glob("*.safetensors")):
        with safe_open(file, framework="np") as stored:
            metadata = dict(stored.metadata())
        category = Category(metadata["category"])
        if metadata["model_sha256"] != model_sha256 or category in present:
            continue
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        # where and under which name `VectorRegistry.publish` stores a vector
        place = Path(model_sha256[:12]) / f"{category.value}-{sha256[:12]}.safetensors"
        (vectors_folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, vectors_folder / place)
        registered.append(
            store.register(
                VectorRecord(
                    model=metadata["model"],
                    model_sha256=model_sha256,
                    category=category,
                    layer=int(metadata["layer"]),
                    alpha=float(metadata["alpha"]),
                    file=str(place),
                    file_sha256=sha256,
                    strategy=metadata["strategy"],
                    positions=metadata.get("positions", "last"),
                    diagnostics=json.loads(metadata["diagnostics"]),
                )
            )
        )
    return registered


@dataclass(frozen=True)
class VectorProvenance:
    """How a version was made.

    `pairs` counts contrast pairs (for `gated`: statements), `fitted_on` is "statements" or "twins", `positions` says
    which tokens of a text are shifted, `created_at` is ISO 8601.
    """

    reading: str
    positions: str
    pairs: int
    fitted_on: str
    data_sha256: str
    prompt_version: str
    created_at: str

    def as_json(self) -> dict[str, Any]:
        """Return it by name."""
        return asdict(self)

    def in_words(self, strategy: str) -> str:
        """Describe in a few words what a vector of that strategy was read from."""
        if not self.reading:
            return "made by another program"
        examples = "statements" if strategy == "gated" else "pairs"
        twins = ", on twins" if self.fitted_on == "twins" else ""
        return f"reading {self.reading.replace('_', ' ')}, {self.pairs:,} {examples}{twins}"


def provenance_of(folder: Path, record: VectorRecord) -> VectorProvenance:
    """Read how a version was made from its file in the vectors folder.

    Raises:
        VectorRefused: the file is missing, was changed, or does not say.
    """
    check_file(folder, record)
    try:
        with safe_open(folder / record.file, framework="np") as stored:
            told = dict(stored.metadata() or {})
        return VectorProvenance(
            reading=told["reading"],
            # files of the first format have neither
            positions=told.get("positions", "last"),
            pairs=int(told["pairs"]),
            fitted_on=told.get("fitted_on", "statements"),
            data_sha256=told["data_sha256"],
            prompt_version=told["prompt_version"],
            created_at=told["created_at"],
        )
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise VectorRefused(f"The file of {record.name} does not say how it was made.") from error


def check_file(folder: Path, record: VectorRecord) -> None:
    """Raise VectorRefused for a version whose file is missing, cannot be read, or was changed since it was registered."""
    path = folder / record.file
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise VectorRefused(
            f"The file {path.name} of {record.name} cannot be read; put it back into the vectors folder, or build the vector again."
        ) from error
    if sha256 != record.file_sha256:
        raise VectorRefused(
            f"The file {path.name} was changed after {record.name} was registered; build the vector again."
        )
