"""Running many texts in batches: which texts go together, and keeping finished batches for a run that is interrupted.

Texts of like length share a batch, so that little is spent on padding; results come back in the order of the texts.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from medx_core.errors import BadInput

BATCH_ROWS = 32
NAMED_BY = 60  # letters of a text

OnProgress = Callable[[int, int], None]
"""Told how many texts are done, of how many."""

Arrays = dict[str, NDArray[np.generic]]
"""What one batch gave: arrays by name, rows first."""


def silent(_done: int, _total: int) -> None:
    """Tell nobody."""


def by_length(rows: Sequence[Sequence[int]], batch_rows: int = BATCH_ROWS) -> Iterator[list[int]]:
    """Yield batches of indices, rows of like length together; the same for the same rows every time."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for start in range(0, len(order), batch_rows):
        yield order[start : start + batch_rows]


@contextmanager
def naming(text: str) -> Iterator[None]:
    """Let a refusal of one text among many say which it is, by how it begins.

    Raises:
        BadInput: the text was refused.
    """
    try:
        yield
    except BadInput as error:
        raise BadInput(f"{error} It is the one that begins {text[:NAMED_BY]!r}.") from error


@dataclass(frozen=True)
class FinishedBatches:
    """Batches of one long run on disk, so that the run goes on where it was interrupted.

    One file per batch, named by a hash of everything that decides what is in it; a file is there whole or not at all.
    """

    folder: Path

    def kept(self, key: str, compute: Callable[[], Arrays]) -> Arrays:
        """Return the batch called `key`: from disk, else computed and written there."""
        path = self.folder / f"{key}.safetensors"
        try:
            return dict(load_file(path))
        except (FileNotFoundError, SafetensorError):
            arrays = compute()
        self.folder.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        save_file({name: np.ascontiguousarray(values) for name, values in arrays.items()}, fresh)
        fresh.replace(path)
        return arrays

    def forget(self) -> None:
        """Remove everything; called when the run is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)


def batch_key(*parts: object) -> str:
    """Return a name for a batch, or for a run, from everything that decides its content."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(repr(part).encode() + b"\0")
    return digest.hexdigest()[:32]
