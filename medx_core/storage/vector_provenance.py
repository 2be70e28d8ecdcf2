"""What a vector's file says of how it was made, and whether it still is the file that was registered.

Reads the head of the file and no tensor: pages ask this too, and they never load torch. Whether the vector inside is
sound is for `VectorRegistry.read` to say.
"""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from medx_core.errors import VectorRefused
from medx_core.storage.vector_store import VectorRecord


@dataclass(frozen=True)
class VectorProvenance:
    """How one version was made.

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
        """Say in a few words what a vector of that strategy was read from."""
        if not self.reading:
            return "made by another program"
        what = "statements" if strategy == "gated" else "pairs"
        twins = ", on twins" if self.fitted_on == "twins" else ""
        return f"reading {self.reading.replace('_', ' ')}, {self.pairs:,} {what}{twins}"


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
            # files of the first format knew neither
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
    """Refuse a version whose file is not the one that was registered.

    Raises:
        VectorRefused: the file is missing, cannot be read, or was changed.
    """
    path = folder / record.file
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise VectorRefused(
            f"The file {path.name} of {record.name} cannot be read; put it back into the vectors folder, or build it anew."
        ) from error
    if found != record.file_sha256:
        raise VectorRefused(
            f"The file {path.name} was changed after {record.name} was registered; build it anew."
        )
