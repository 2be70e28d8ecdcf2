"""Where the audit log ended when this machine last wrote to it: a file outside the database.

The chain of hashes alone does not show that its newest rows were cut off. Whoever may delete rows but not change this
file (mode 0600, under MEDX_HOME) is noticed by the next verification.
"""

import fcntl
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medx_core.errors import StorageFault

log = logging.getLogger(__name__)

FILE_BYTES = 512


@dataclass(frozen=True)
class RowMark:
    """One row of the log: its number and the hash that covers it and all before it."""

    id: int
    hash: str


@dataclass(frozen=True)
class Marks:
    """The newest row that was written from here, and the one up to which the log was found whole; None: not yet."""

    written: RowMark | None = None
    verified: RowMark | None = None


class AuditAnchor:
    """The file of one installation; safe to share between processes of one machine."""

    def __init__(self, folder: Path, installation: str) -> None:
        self._path = folder / f"audit-{installation[:12]}.json"

    def read(self) -> Marks:
        """Return what is noted.

        Raises:
            StorageFault: the file is there and cannot be read.
        """
        try:
            text = self._path.read_text("utf-8")
        except FileNotFoundError:
            return Marks()
        except OSError as error:
            raise self._unreadable() from error
        return self._parsed(text)

    def note_written(self, row: RowMark, is_there: Callable[[RowMark], bool]) -> None:
        """Note the newest row, unless the one before it is gone from the log: then verification has to find that.

        A file that cannot be written stops nothing: it is told in the process's log.
        """

        def changed(marks: Marks) -> Marks:
            if marks.written is None:
                return Marks(row, marks.verified)
            if not is_there(marks.written):
                log.error("row %s of the audit log is gone; run `medx audit verify`", marks.written.id)
                return marks
            return Marks(row, marks.verified) if row.id > marks.written.id else marks

        try:
            self._change(changed)
        except (OSError, StorageFault) as error:
            log.error("the end of the audit log was not anchored in %s: %s", self._path, error)  # noqa: TRY400 - one line

    def note_verified(self, row: RowMark) -> None:
        """Note that the log is whole up to this row."""

        def changed(marks: Marks) -> Marks:
            is_newest = marks.written is None or row.id > marks.written.id
            return Marks(row if is_newest else marks.written, row)

        self._change(changed)

    def begin_anew(self, row: RowMark | None) -> None:
        """Note that the log ends here, whatever was noted before."""
        self._path.unlink(missing_ok=True)
        if row is not None:
            self.note_verified(row)

    def _change(self, change: Callable[[Marks], Marks]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
            text = os.pread(file, FILE_BYTES, 0).decode("utf-8", "replace")
            marks = change(self._parsed(text) if text else Marks())
            noted = {name: row and [row.id, row.hash] for name, row in vars(marks).items()}
            # One write of one length: a process that is killed leaves the old marks or the new ones.
            os.pwrite(file, json.dumps(noted).ljust(FILE_BYTES).encode(), 0)
        finally:
            os.close(file)

    def _parsed(self, text: str) -> Marks:
        try:
            noted: dict[str, Any] = json.loads(text)
            rows = {name: RowMark(int(row[0]), str(row[1])) for name, row in noted.items() if row}
            return Marks(**rows)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise self._unreadable() from error

    def _unreadable(self) -> StorageFault:
        return StorageFault(
            f"{self._path}, which says where the audit log ended, cannot be read; "
            "look into that, then begin it anew with `medx audit verify --after-restore`."
        )
