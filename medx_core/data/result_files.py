"""The table of answers that `medx batch` writes and the web page offers: one row per question and arm.

UTF-8, CRLF, quoted where needed, floats with all their digits; `unguarded` restores every text exactly.
"""

import csv
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

FORMULA_STARTS = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
"""The last four are the full-width forms, which some spreadsheets read as the plain ones."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def guarded(text: str) -> str:
    """Return `text` as a cell that no spreadsheet runs."""
    if not text or (text[0] not in FORMULA_STARTS and text[0] != "'") or is_number(text):
        return text
    return "'" + text


def unguarded(cell: str) -> str:
    """Return the text that `guarded` made `cell` of."""
    return cell[1:] if cell.startswith("'") else cell


def is_number(text: str) -> bool:
    """Whether the whole text is one plain decimal number."""
    return _NUMBER.fullmatch(text) is not None


RESULT_COLUMNS = (
    "row",
    "id",
    "question",
    "category",
    "category_probability",
    "route_source",
    "arm",
    "verdict",
    "score",
    "text",
    "answer",
    "correct",
    "model",
    "model_sha256",
    "vector",
    "layer",
    "alpha",
    "prompt_version",
    "seconds",
    "status",
    "reason",
)
_INTEGERS = frozenset({"row", "layer"})
_FLOATS = frozenset({"category_probability", "score", "alpha", "seconds"})
_TRUTHS = frozenset({"answer", "correct"})

_TEMPLATE = (
    ("id", "question", "answer", "category"),
    ("1", "Sudden weakness of one side of the body needs emergency care.", "TRUE", "triage"),
    ("2", "In a randomised trial, chance decides which treatment a patient receives.", "TRUE", "literature"),
    ("3", "Antibiotics cure the common cold.", "FALSE", "patient-facing"),
    ("4", "What can I do at home for a sore throat?", "", ""),
)


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One arm's answer to one question, or what became of it. Empty text means that there is none.

    `row` counts the records of the input from 1. `answer` is the gold answer, `correct` whether the verdict agrees
    with it. `carried` keeps the input's other columns.
    """

    row: int
    question: str
    arm: str
    status: str
    id: str = ""
    category: str = ""
    category_probability: float | None = None
    route_source: str = ""
    verdict: str = ""
    score: float | None = None
    text: str = ""
    answer: bool | None = None
    correct: bool | None = None
    model: str = ""
    model_sha256: str = ""
    vector: str = ""
    layer: int | None = None
    alpha: float | None = None
    prompt_version: str = ""
    seconds: float | None = None
    reason: str = ""
    carried: Mapping[str, str] = field(default_factory=dict)


def write_results(rows: Iterable[ResultRow], carried_columns: Sequence[str], out: TextIO) -> int:
    """Write `rows` as they come and return how many there were.

    Args:
        rows: in the order of the file.
        carried_columns: keys of `ResultRow.carried`, in the order of their columns. A name that is one of
            our own gets the prefix `input_`.
        out: opened with `newline=""`.
    """
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([*RESULT_COLUMNS, *(guarded(name) for name in carried_names(carried_columns))])
    count = 0
    for row in rows:
        cells = [_cell(name, getattr(row, name)) for name in RESULT_COLUMNS]
        writer.writerow([*cells, *(guarded(row.carried.get(name, "")) for name in carried_columns)])
        count += 1
    return count


def carried_names(carried_columns: Sequence[str]) -> tuple[str, ...]:
    """Return the names of carried columns in a result file, each different from all others."""
    taken = set(RESULT_COLUMNS)
    names = []
    for column in carried_columns:
        name = column
        while name.casefold() in taken:
            name = f"input_{name}"
        taken.add(name.casefold())
        names.append(name)
    return tuple(names)


def template_csv() -> str:
    """Return a small question file to start from, with each kind of question once."""
    return "".join(_template_line(cells) for cells in _TEMPLATE)


def _template_line(cells: Sequence[str]) -> str:
    return ",".join(f'"{cell}"' if "," in cell else cell for cell in cells) + "\r\n"


def _cell(column: str, value: Any) -> str:
    if value is None:
        return ""
    if column in _TRUTHS:
        return "TRUE" if value else "FALSE"
    if column in _FLOATS:
        return repr(float(value)) if math.isfinite(value) else guarded(repr(float(value)))
    return str(int(value)) if column in _INTEGERS else guarded(str(value))
