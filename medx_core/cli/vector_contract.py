"""One version of a vector as the commands give it out: what the database knows, and what its file says."""

from pathlib import Path
from typing import Any

from medx_core.errors import VectorRefused
from medx_core.storage.vector_provenance import VectorProvenance, provenance_of
from medx_core.storage.vector_store import VectorRecord


def as_contract(record: VectorRecord, folder: Path) -> dict[str, Any]:
    """Return one version as JSON values.

    `provenance` comes from its file in the vectors folder; where that cannot be used it is null, and `file_fault` says why.
    """
    made, fault = told_by_file(record, folder)
    return {
        "id": record.id,
        "name": record.name,
        "status": record.status.value,
        "category": record.category.value,
        "model": record.model,
        "model_sha256": record.model_sha256,
        "strategy": record.strategy,
        "preset": record.preset,
        "layer": record.layer,
        "alpha": record.alpha,
        "file": record.file,
        "file_sha256": record.file_sha256,
        "file_fault": fault or None,
        "provenance": made.as_json() if made else None,
        "diagnostics": dict(record.diagnostics),
    }


def told_by_file(record: VectorRecord, folder: Path) -> tuple[VectorProvenance | None, str]:
    """Return how a version was made, or None and the sentence that says why its file does not tell."""
    try:
        return provenance_of(folder, record), ""
    except VectorRefused as error:
        return None, str(error)
