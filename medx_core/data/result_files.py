"""The table of answers that `medx batch` writes and the web page offers: one row per question and arm.

UTF-8, CRLF, quoted where needed, floats with all their digits. `read_results` restores every text exactly.
"""

import csv
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from medx_core.data.table_files import delimited_lines
from medx_core.errors import BadInput

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
    with it. `carried` holds what the input brought along.
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
        rows: in the order they shall stand in.
        carried_columns: keys of `ResultRow.carried`, in the order their columns shall stand in. A name that is one of
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
    """Return the names under which carried columns stand in a result file, each different from all others."""
    taken = set(RESULT_COLUMNS)
    names = []
    for column in carried_columns:
        name = column
        while name.casefold() in taken:
            name = f"input_{name}"
        taken.add(name.casefold())
        names.append(name)
    return tuple(names)


def read_results(path: Path) -> tuple[ResultRow, ...]:
    """Read a result file back; carried columns keep the names they have in the file.

    Raises:
        BadInput: the file is no result file, or was changed so that a row cannot be read.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path.name} cannot be read as a result file in UTF-8.") from error
    lines = delimited_lines(text, 0, ",")
    header = next(lines, None)
    if header is None or tuple(header.cells[: len(RESULT_COLUMNS)]) != RESULT_COLUMNS:
        raise BadInput(f"{path.name} is not a result file: its first columns are not those MedX writes.")
    carried = [unguarded(name) for name in header.cells[len(RESULT_COLUMNS) :]]
    return tuple(_rows(path.name, carried, (line.cells for line in lines)))


def template_csv() -> str:
    """Return a small question file to start from, with each kind of question once."""
    return "".join(_template_line(cells) for cells in _TEMPLATE)


def _template_line(cells: Sequence[str]) -> str:
    return ",".join(f'"{cell}"' if "," in cell else cell for cell in cells) + "\r\n"


def _rows(name: str, carried: Sequence[str], lines: Iterable[list[str]]) -> Iterator[ResultRow]:
    own = len(RESULT_COLUMNS)
    for number, cells in enumerate(lines, start=1):
        if len(cells) != own + len(carried):
            raise BadInput(
                f"{name}, row {number}: {len(cells)} cells where the header has {own + len(carried)}."
            )
        try:
            values = {
                column: _value(column, cell) for column, cell in zip(RESULT_COLUMNS, cells[:own], strict=True)
            }
        except ValueError as error:
            raise BadInput(
                f"{name}, row {number}: a number or TRUE/FALSE cannot be read ({error})."
            ) from error
        yield ResultRow(**values, carried=dict(zip(carried, map(unguarded, cells[own:]), strict=True)))


def _cell(column: str, value: Any) -> str:
    if value is None:
        return ""
    if column in _TRUTHS:
        return "TRUE" if value else "FALSE"
    if column in _FLOATS:
        return repr(float(value)) if math.isfinite(value) else guarded(repr(float(value)))
    return str(int(value)) if column in _INTEGERS else guarded(str(value))


def _value(column: str, cell: str) -> Any:
    readers: dict[str, Callable[[str], Any]] = {
        **dict.fromkeys(_INTEGERS, int),
        **dict.fromkeys(_FLOATS, lambda number: float(unguarded(number))),
        **dict.fromkeys(_TRUTHS, _truth),
    }
    reader = readers.get(column)
    if reader is None:
        return unguarded(cell)
    return reader(cell) if cell else None


def _truth(cell: str) -> bool:
    if cell.upper() not in {"TRUE", "FALSE"}:
        raise ValueError(cell)
    return cell.upper() == "TRUE"
