"""What is said about a file: rows not taken, things that are odd but taken, and why a file is refused.

No message ever repeats what may identify a patient.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from medx_core.errors import BadInput
from medx_core.settings import Settings


@dataclass(frozen=True)
class FileLimits:
    """The limits of one file; characters are counted after decoding."""

    rows: int = 100_000
    bytes: int = 50_000_000
    cell_characters: int = 100_000
    question_characters: int = 4_000

    @classmethod
    def of(cls, settings: Settings) -> "FileLimits":
        """Return the limits of the settings."""
        return cls(
            rows=settings.max_file_rows,
            bytes=settings.max_file_bytes,
            cell_characters=settings.max_cell_characters,
            question_characters=settings.max_question_characters,
        )

    def in_words(self) -> str:
        """Return one sentence for people who are about to choose a file."""
        return (
            f"Up to {self.rows:,} rows and {self.bytes / 1_000_000:,.0f} MB; "
            f"a question may have {self.question_characters:,} characters."
        )


SHOWN_OF_ONE_KIND = 20


@dataclass(frozen=True, slots=True)
class Problem:
    """One remark about a file. `row` counts records from 1 without the header; None concerns the whole file."""

    row: int | None
    column: str | None
    message: str

    def as_json(self) -> dict[str, Any]:
        """Return the remark as `medx data check --json` shows it."""
        return {"row": self.row, "column": self.column, "message": self.message}


class FileRefused(BadInput):
    """Nothing of the file can be taken; the message is the one sentence its owner needs."""

    def __init__(self, message: str, *, row: int | None = None, column: str | None = None) -> None:
        super().__init__(message)
        self.problem = Problem(row, column, message)


class Notices:
    """Collects notices and keeps a file with one habit from filling the page with it."""

    def __init__(self) -> None:
        self._of_kind: dict[str, list[Problem]] = {}
        self._count: Counter[str] = Counter()

    def add(self, kind: str, row: int | None, column: str | None, message: str) -> None:
        """Note one thing. `kind` ends the summary "... and 312 more rows {kind}."."""
        shown = self._of_kind.setdefault(kind, [])
        self._count[kind] += 1
        if len(shown) < SHOWN_OF_ONE_KIND:
            shown.append(Problem(row, column, message))

    def listed(self) -> tuple[Problem, ...]:
        """Return the notices, kind by kind, each kind cut after its first 20 and counted."""
        listed: list[Problem] = []
        for kind, shown in self._of_kind.items():
            listed += shown
            more = self._count[kind] - len(shown)
            if more:
                rows = "row" if more == 1 else "rows"
                listed.append(Problem(None, shown[0].column, f"... and {more:,} more {rows} {kind}."))
        return tuple(listed)


def shortened(text: str, limit: int = 40) -> str:
    """Return `text` on one line, cut to `limit` characters, fit to be quoted in a message."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: limit * 4]).split())
    return line if len(line) <= limit and len(text) <= limit * 4 else line[: limit - 3] + "..."
