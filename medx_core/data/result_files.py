"""The table of answers that `medx batch` writes and the web page offers: one row per question and arm.

UTF-8, CRLF, quoted where needed, floats with all their digits; `unguarded` restores every text exactly.
"""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TextIO

FORMULA_STARTS = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
"""The last four are the full-width forms, which some spreadsheets read as the plain ones."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_TEMPLATE = """\
id,question,answer,category
1,Sudden weakness of one side of the body needs emergency care.,TRUE,triage
2,"In a randomised trial, chance decides which treatment a patient receives.",TRUE,literature
3,Antibiotics cure the common cold.,FALSE,patient-facing
4,What can I do at home for a sore throat?,,
"""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow:
    """One arm's answer to one question, or what became of it, in the order of the file's columns.

    `row` counts the records of the input from 1. `answer` is the gold answer, `correct` whether the raw
    verdict agrees with it. `emergency` is what the red-flag rules say of the question, `dose` how far steering moved it (see
    `steering.dose`). `carried` keeps the input's other columns. Empty text and None are empty cells.
    """

    row: int
    id: str = ""
    question: str
    category: str = ""
    category_probability: float | None = None
    route_source: str = ""
    arm: str
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
    status: str
    reason: str = ""
    recipe: str = ""
    raw_verdict: str = ""
    emergency: bool | None = None
    dose: float | None = None
    carried: Mapping[str, str] = field(default_factory=dict)


RESULT_COLUMNS = tuple(column.name for column in fields(ResultRow) if column.name != "carried")


def write_results(rows: Iterable[ResultRow], carried_columns: Sequence[str], out: TextIO) -> int:
    """Write `rows` as they come, in the order of the file, and return how many there were.

    `carried_columns` are keys of `ResultRow.carried`, in the order of their columns; a name that is a column of ours
    gets the prefix `input_`. Open `out` with `newline=""`.
    """
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([*RESULT_COLUMNS, *map(guarded, _carried_names(carried_columns))])
    count = 0
    for row in rows:
        cells = [_cell(getattr(row, name)) for name in RESULT_COLUMNS]
        writer.writerow([*cells, *(guarded(row.carried.get(name, "")) for name in carried_columns)])
        count += 1
    return count


def _carried_names(carried_columns: Sequence[str]) -> list[str]:
    """Return the names of carried columns in a result file, each different from all others."""
    names = list(RESULT_COLUMNS)
    for name in carried_columns:
        while name.casefold() in map(str.casefold, names):
            name = f"input_{name}"
        names.append(name)
    return names[len(RESULT_COLUMNS) :]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    return guarded(repr(float(value)) if isinstance(value, float) else str(value))


def template_csv() -> str:
    """Return a small question file to start from, with each kind of question once."""
    return _TEMPLATE.replace("\n", "\r\n")
