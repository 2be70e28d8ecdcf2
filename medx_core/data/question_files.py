"""Question files, as the web page, the batch command and `medx data check` all read them.

A file is taken whole, taken in part with every row that was not taken named, or refused with one sentence. Whatever
the file, no exception leaves this module and no row is guessed at.
"""

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

from medx_core import __version__
from medx_core.categories import Category
from medx_core.data.decoding import Decoded, decoded, file_content, repaired
from medx_core.data.identifiers import found_in_cell, identifier_kinds
from medx_core.data.languages import is_not_english
from medx_core.data.problems import FileLimits, FileRefused, Notices, Problem, shortened
from medx_core.data.spellings import READERS
from medx_core.data.table_files import (
    KNOWN_COLUMNS,
    TEXT_COLUMNS,
    Record,
    Table,
    is_storable,
    looks_like_json,
    read_delimited,
    read_json_lines,
    swallowed_lines,
)

ENDINGS = (".csv", ".tsv", ".jsonl")
_INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060"
_VALUES = {
    "answer": "TRUE or FALSE",
    "category": "triage, literature or patient-facing",
    "harm": "none, mild, moderate or severe",
    "urgency": "emergency, same-day, routine or self-care",
}
"""The values of the columns that `READERS` read, in words."""


@dataclass(frozen=True, slots=True)
class FileRow:
    """One question of a file. `number` counts the file's records from 1 without its header.

    `answer` is the gold answer if there is a readable one; `harm` and `urgency` are "" if unknown. `carried` keeps the
    columns that MedX does not know, unchanged and in their order. `repaired`: the text was wrongly encoded and has
    been put right.
    """

    number: int
    id: str
    text: str
    answer: bool | None = None
    category: Category | None = None
    harm: str = ""
    urgency: str = ""
    reference: str = ""
    split: str = ""
    pair: str = ""
    carried: dict[str, str] = field(default_factory=dict)
    repaired: bool = False

    def along(self) -> dict[str, str]:
        """Return what a result repeats besides its own columns: the known extras that are not empty, then `carried`."""
        known = {name: str(getattr(self, name)) for name in ("harm", "urgency", "reference", "split", "pair")}
        return {**{name: value for name, value in known.items() if value}, **self.carried}


@dataclass(frozen=True)
class QuestionFile:
    """The questions of a file, as far as they can be taken.

    `problems` are rows not taken or, when `refused`, the one reason why nothing is; `notices` are odd or repaired
    things in rows that are taken. `columns` are the file's columns in order, known ones by their plain name.
    `encoding`, `format` (csv, tsv, jsonl, parquet) and `delimiter` say how it was read; `sha256` is that of its bytes.
    """

    name: str
    rows: tuple[FileRow, ...] = ()
    problems: tuple[Problem, ...] = ()
    notices: tuple[Problem, ...] = ()
    columns: tuple[str, ...] = ()
    encoding: str = ""
    format: str = ""
    delimiter: str | None = None
    sha256: str = ""
    refused: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the contract of `medx data check --json`."""
        return {
            "rows": len(self.rows),
            "problems": [problem.as_json() for problem in self.problems],
            "notices": [notice.as_json() for notice in self.notices],
            "medx_version": __version__,
            "data_sha256": self.sha256 or None,
        }


def read_question_file(path: Path, *, limits: FileLimits) -> QuestionFile:
    """Read a CSV, TSV or JSONL file; what cannot be used comes back as a refused file, never as an error."""
    ending = path.suffix.lower()
    try:
        if ending not in ENDINGS:
            raise FileRefused(f"The file's name must end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}.")
        content = file_content(path, limits)
        if not content.strip(b"\xef\xbb\xbf\xff\xfe \t\r\n\x00"):
            raise FileRefused("The file is empty; it needs a header line and at least one question.")
    except FileRefused as refusal:
        return QuestionFile(name=path.name, problems=(refusal.problem,), refused=True)
    return questions_of_content(content, path.name, limits)


def questions_of_content(content: bytes, name: str, limits: FileLimits) -> QuestionFile:
    """Read the bytes of a CSV, TSV or JSONL file; the ending of `name` says which it is."""
    file = QuestionFile(name=name, sha256=hashlib.sha256(content).hexdigest())
    try:
        text = decoded(content)
        return questions_of_table(_table(Path(name).suffix.lower(), text.text, limits), text, limits, file)
    except FileRefused as refusal:
        return replace(file, problems=(refusal.problem,), refused=True)


def questions_of_table(table: Table, text: Decoded, limits: FileLimits, file: QuestionFile) -> QuestionFile:
    """Return `file` with the rows of its table; `text` says how the table was decoded.

    Raises:
        FileRefused: no row can be taken.
    """
    notices = Notices()
    if text.notice:
        notices.add("read in another encoding", None, None, text.notice)
    for notice in table.notices:
        notices.add(f"about column {notice.column}", notice.row, notice.column, notice.message)
    reader = _RowReader(table, limits, notices)
    read = [reader.read(record) for record in table.records]
    rows = tuple(row for row in read if isinstance(row, FileRow))
    problems = tuple(row for row in read if isinstance(row, Problem))
    if not rows:
        raise _nothing_taken(problems)
    return replace(
        file,
        rows=rows,
        problems=problems,
        notices=notices.listed(),
        columns=table.columns,
        encoding=text.encoding,
        format=table.format,
        delimiter=table.delimiter,
    )


def write_questions(rows: Sequence[FileRow], out: TextIO) -> None:
    """Write rows as a CSV file that reads as they are, jsonl files too; rows that were not taken are gone."""
    columns = tuple(dict.fromkeys(name for row in rows for name in row.along()))
    writer = csv.DictWriter(out, ("id", "statement", "answer", "category", *columns), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        answer = "" if row.answer is None else str(row.answer).upper()
        category = row.category.value if row.category else ""
        own = {"id": row.id, "statement": row.text, "answer": answer, "category": category}
        writer.writerow(own | row.along())


def _table(ending: str, text: str, limits: FileLimits) -> Table:
    if ending == ".jsonl":
        return read_json_lines(text, max_rows=limits.rows)
    if looks_like_json(text):
        raise FileRefused(
            f"The file is called {ending} but contains JSON; a file with one object per line may be called .jsonl."
        )
    if text[:200].lstrip().lower().startswith(("<!doctype", "<html", "<?xml")):
        raise FileRefused(
            f"The file is called {ending} but contains a web page or XML; export the table as CSV."
        )
    return read_delimited(text, max_rows=limits.rows, tabs_only=ending == ".tsv")


def _nothing_taken(problems: tuple[Problem, ...]) -> FileRefused:
    if not problems:
        return FileRefused("The file has a header and no rows; write one question per line below it.")
    first = problems[0]
    reason = first.message[:1].lower() + first.message[1:].rstrip(".")
    if len(problems) == 1:
        return FileRefused(f"The only row cannot be taken: {reason}.", row=first.row, column=first.column)
    where = f" ({first.column})" if first.column in TEXT_COLUMNS else ""
    return FileRefused(f"None of the {len(problems):,} rows can be taken; row {first.row}{where}: {reason}.")


@dataclass
class _Asked:
    """The row where a question appeared first, and the first row that answers it."""

    row: int
    answer: bool | None
    answered_row: int


class _RowReader:
    """Reads the records of one table in order, remembering the ids and questions so far."""

    def __init__(self, table: Table, limits: FileLimits, notices: Notices) -> None:
        self._table = table
        self._limits = limits
        self._notices = notices
        self._others = tuple(name for name in table.columns if name not in KNOWN_COLUMNS)
        self._ids: dict[str, int] = {}
        self._asked: dict[str, _Asked] = {}

    def read(self, record: Record) -> FileRow | Problem:
        """Return the row, or why it cannot be taken."""
        number, cells, column = record.number, record.cells, self._table.text_column
        problem = record.problem or self._unreadable(record)
        if problem:
            return problem
        cell = cells.get(column, "")
        sound = self._repaired(number, column, cell)
        text, limit = sound.strip().strip(_INVISIBLE).strip(), self._limits.question_characters
        if not text:
            return Problem(number, column, f"The {column} is empty.")
        if len(text) > limit:
            message = f"The {column} has {len(text):,} characters; the limit is {limit:,}; shorten it."
            return Problem(number, column, message)
        row = FileRow(
            number=number,
            id=cells.get("id", "").strip(),
            text=text,
            **{name: self._coded(number, name, cells.get(name, "")) for name in _VALUES},
            reference=self._repaired(number, "reference", cells.get("reference", "")).strip(),
            split=cells.get("split", "").strip(),
            pair=cells.get("pair", "").strip(),
            carried={name: cells[name] for name in self._others if name in cells},
            repaired=sound != cell,
        )
        self._note_repeats(row)
        self._note_content(row, cells)
        return row

    def _unreadable(self, record: Record) -> Problem | None:
        longest = self._limits.cell_characters
        for name, cell in record.cells.items():
            message = ""
            if len(cell) > longest:
                message = f"The cell has {len(cell):,} characters; the limit is {longest:,}; shorten it or leave it out."
            elif "\x00" in cell:
                message = "The cell contains a NUL byte; remove it or export the file again."
            elif not is_storable(cell):
                message = "The cell contains invalid characters; export the file again as UTF-8."
            if message:
                return Problem(record.number, name, message)
        return None

    def _repaired(self, number: int, column: str, cell: str) -> str:
        text = repaired(cell)
        if text != cell:
            message = "Wrongly encoded characters were repaired; check this text."
            self._notices.add("with repaired characters", number, column, message)
        if "\ufffd" in text:
            message = "Some characters were lost before this file was made."
            self._notices.add("with lost characters", number, column, message)
        return text

    def _coded(self, number: int, column: str, cell: str) -> Any:
        """Return the value of a coded cell, that of an empty cell where it is not understood."""
        try:
            return READERS[column](cell)
        except ValueError:
            quoted = "The cell" if identifier_kinds(cell) else f"'{shortened(cell.strip())}'"
            message = f"{quoted} is not understood as {_VALUES[column]}; the row is taken without it."
            self._notices.add(f"whose {column} is not understood", number, column, message)
            return READERS[column]("")

    def _note_repeats(self, row: FileRow) -> None:
        column = self._table.text_column
        first = self._ids.setdefault(row.id, row.number)
        if row.id and first != row.number:
            message = f"The id of row {first} is used again."
            self._notices.add("whose id was used before", row.number, "id", message)
        key = " ".join(row.text.split()).casefold()
        before = self._asked.get(key)
        if before is None:
            self._asked[key] = _Asked(row.number, row.answer, row.number)
            return
        if row.answer is not None and before.answer is None:
            before.answer, before.answered_row = row.answer, row.number
        if row.answer is not None and row.answer != before.answer:
            message = f"Row {before.answered_row} has the same {column} with the opposite answer."
            self._notices.add("whose answer contradicts an earlier row", row.number, "answer", message)
        else:
            message = f"The {column} of row {before.row} is repeated; both are taken."
            self._notices.add("that repeat an earlier one", row.number, column, message)

    def _note_content(self, row: FileRow, cells: dict[str, str]) -> None:
        for name, cell in cells.items():
            for kind in dict.fromkeys(
                each.kind for each in found_in_cell("" if name in KNOWN_COLUMNS else name, cell)
            ):
                message = f"The cell may contain {kind}; remove whatever identifies a patient."
                self._notices.add(f"that may contain {kind}", row.number, name, message)
        column = self._table.text_column
        if is_not_english(row.text):
            message = "The text does not seem to be English, the only language MedX was made for."
            self._notices.add("that do not seem to be English", row.number, column, message)
        if swallowed_lines(row.text, self._table):
            message = "The cell contains whole lines that look like rows; check whether a quote is missing."
            self._notices.add("with cells that look like several rows", row.number, column, message)
