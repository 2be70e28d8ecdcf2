"""Question files, as the web page, the batch command and `medx data check` all read them.

A file is taken whole, taken in part with every row that was not taken named, or refused with one sentence. Whatever
is handed in, no exception leaves this module and no row is guessed at.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medx_core import __version__
from medx_core.categories import Category
from medx_core.data.decoding import Decoded, decoded, repaired
from medx_core.data.identifiers import SHORTEST_IDENTIFIER, identifier_kinds
from medx_core.data.languages import is_not_english
from medx_core.data.problems import FileLimits, FileRefused, Notices, Problem, shortened
from medx_core.data.spellings import read_answer, read_category, read_harm, read_urgency
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

_INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060"


@dataclass(frozen=True, slots=True)
class FileRow:
    """One question of a file. `number` counts the file's records from 1 without its header.

    `answer` is the gold answer if there is a readable one; `harm` and `urgency` are "" where nothing is known.
    `carried` keeps the columns that MedX does not know, unchanged and in their order. `repaired` says that the text came
    with wrongly encoded characters, which were put right.
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


@dataclass
class _Asked:
    """The row where a question appeared first, and the first row that answers it."""

    row: int
    answer: bool | None
    answered_row: int


class RowReader:
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
        problem = record.problem or self._unreadable(record)
        if problem:
            return problem
        number, cells = record.number, record.cells
        cell = cells.get(self._table.text_column, "")
        sound = self._repaired(number, self._table.text_column, cell)
        text = sound.strip().strip(_INVISIBLE).strip()
        problem = self._unaskable(number, text)
        if problem:
            return problem
        row = FileRow(
            number=number,
            id=cells.get("id", "").strip(),
            text=text,
            answer=self._answer(number, cells.get("answer", "")),
            category=self._category(number, cells.get("category", "")),
            harm=self._harm(number, cells.get("harm", "")),
            urgency=self._urgency(number, cells.get("urgency", "")),
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
            if len(cell) > longest:
                return Problem(
                    record.number,
                    name,
                    f"The cell has {len(cell):,} characters; the limit is {longest:,}; shorten it or leave it out.",
                )
            if "\x00" in cell:
                return Problem(
                    record.number, name, "The cell contains a NUL byte; remove it or export the file again."
                )
            if not is_storable(cell):
                return Problem(
                    record.number,
                    name,
                    "The cell contains invalid characters; export the file again as UTF-8.",
                )
        return None

    def _unaskable(self, number: int, text: str) -> Problem | None:
        column, limit = self._table.text_column, self._limits.question_characters
        if not text:
            return Problem(number, column, f"The {column} is empty.")
        if len(text) > limit:
            return Problem(
                number,
                column,
                f"The {column} has {len(text):,} characters; the limit is {limit:,}; shorten it.",
            )
        return None

    def _repaired(self, number: int, column: str, cell: str) -> str:
        text = repaired(cell)
        if text != cell:
            self._notices.add(
                "with repaired characters",
                number,
                column,
                "Wrongly encoded characters were repaired; check this text.",
            )
        if "\ufffd" in text:
            self._notices.add(
                "with lost characters", number, column, "Some characters were lost before this file was made."
            )
        return text

    def _answer(self, number: int, cell: str) -> bool | None:
        try:
            return read_answer(cell)
        except ValueError:
            self._not_understood(number, "answer", cell, "TRUE or FALSE")
            return None

    def _category(self, number: int, cell: str) -> Category | None:
        try:
            return read_category(cell)
        except ValueError:
            self._not_understood(number, "category", cell, "triage, literature or patient-facing")
            return None

    def _harm(self, number: int, cell: str) -> str:
        try:
            return read_harm(cell)
        except ValueError:
            self._not_understood(number, "harm", cell, "none, mild, moderate or severe")
            return ""

    def _urgency(self, number: int, cell: str) -> str:
        try:
            return read_urgency(cell)
        except ValueError:
            self._not_understood(number, "urgency", cell, "emergency, same-day, routine or self-care")
            return ""

    def _not_understood(self, number: int, column: str, cell: str, wanted: str) -> None:
        message = f"'{shortened(cell.strip())}' is not understood as {wanted}; the row is taken without it."
        if identifier_kinds(cell):
            message = f"The cell is not understood as {wanted}; the row is taken without it."
        self._notices.add(f"whose {column} is not understood", number, column, message)

    def _note_repeats(self, row: FileRow) -> None:
        if row.id:
            first = self._ids.setdefault(row.id, row.number)
            if first != row.number:
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
            message = (
                f"Row {before.answered_row} has the same {self._table.text_column} with the opposite answer."
            )
            self._notices.add("whose answer contradicts an earlier row", row.number, "answer", message)
        else:
            message = f"The {self._table.text_column} of row {before.row} is repeated; both are taken."
            self._notices.add("that repeat an earlier one", row.number, self._table.text_column, message)

    def _note_content(self, row: FileRow, cells: dict[str, str]) -> None:
        for name, cell in cells.items():
            for kind in identifier_kinds(cell) if len(cell) >= SHORTEST_IDENTIFIER else ():
                message = f"The cell may contain {kind}; remove whatever identifies a patient."
                self._notices.add(f"that may contain {kind}", row.number, name, message)
        column = self._table.text_column
        if is_not_english(row.text):
            message = "The text does not seem to be English, the only language MedX was made for."
            self._notices.add("that do not seem to be English", row.number, column, message)
        if swallowed_lines(row.text, self._table):
            message = "The cell contains whole lines that look like rows; check whether a quote is missing."
            self._notices.add("with cells that look like several rows", row.number, column, message)


ENDINGS = (".csv", ".tsv", ".jsonl")


@dataclass(frozen=True)
class QuestionFile:
    """The questions of a file, as far as they can be taken.

    `problems` are rows not taken or, when `refused`, the one reason why nothing is; `notices` are odd or repaired
    things in rows that are taken. `columns` are the file's columns in order, known ones by their plain name.
    `encoding`, `format` (csv, tsv, jsonl) and `delimiter` say how it was read; `sha256` is that of its bytes.
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
    """Read a CSV, TSV or JSONL file of questions; what cannot be used comes back as a refused file, never as an error."""
    sha256 = ""
    try:
        content = _content(path, limits)
        sha256 = hashlib.sha256(content).hexdigest()
        text = decoded(content)
        table = _table(path.suffix.lower(), text.text, limits)
        return understood(table, text, limits, name=path.name, sha256=sha256)
    except FileRefused as refusal:
        return QuestionFile(name=path.name, problems=(refusal.problem,), sha256=sha256, refused=True)


def _content(path: Path, limits: FileLimits) -> bytes:
    if path.suffix.lower() not in ENDINGS:
        raise FileRefused(f"The file's name must end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}.")
    try:
        with path.open("rb") as file:
            content = file.read(limits.bytes + 1)
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise FileRefused(f"The file cannot be opened ({reason}).") from error
    if len(content) > limits.bytes:
        raise FileRefused(
            f"The file is larger than {limits.bytes / 1_000_000:g} MB, the limit; split it into smaller files."
        )
    if not content.strip(b"\xef\xbb\xbf\xff\xfe \t\r\n\x00"):
        raise FileRefused("The file is empty; it needs a header line and at least one question.")
    return content


def _table(ending: str, text: str, limits: FileLimits) -> Table:
    if ending == ".jsonl":
        return read_json_lines(text, max_rows=limits.rows)
    start = text[:200].lstrip().lower()
    if looks_like_json(text):
        raise FileRefused(
            f"The file is called {ending} but contains JSON; a file with one object per line may be called .jsonl."
        )
    if start.startswith(("<!doctype", "<html", "<?xml")):
        raise FileRefused(
            f"The file is called {ending} but contains a web page or XML; export the table as CSV."
        )
    return read_delimited(text, max_rows=limits.rows, tabs_only=ending == ".tsv")


def understood(table: Table, text: Decoded, limits: FileLimits, *, name: str, sha256: str) -> QuestionFile:
    """Return the rows of a table that was read elsewhere, by the same rules as those of a file.

    Raises:
        FileRefused: no row can be taken.
    """
    notices = Notices()
    if text.notice:
        notices.add("read in another encoding", None, None, text.notice)
    for notice in table.notices:
        notices.add(f"about column {notice.column}", notice.row, notice.column, notice.message)
    reader = RowReader(table, limits, notices)
    rows: list[FileRow] = []
    problems: list[Problem] = []
    for record in table.records:
        row = reader.read(record)
        if isinstance(row, Problem):
            problems.append(row)
        else:
            rows.append(row)
    if not rows:
        raise _nothing_taken(problems)
    return QuestionFile(
        name=name,
        rows=tuple(rows),
        problems=tuple(problems),
        notices=notices.listed(),
        columns=table.columns,
        encoding=text.encoding,
        format=table.format,
        delimiter=table.delimiter,
        sha256=sha256,
    )


def _nothing_taken(problems: list[Problem]) -> FileRefused:
    if not problems:
        return FileRefused("The file has a header and no rows; write one question per line below it.")
    first = problems[0]
    if len(problems) == 1:
        return FileRefused(
            f"The only row cannot be taken: {_clause(first.message)}.", row=first.row, column=first.column
        )
    where = f" ({first.column})" if first.column in TEXT_COLUMNS else ""
    return FileRefused(
        f"None of the {len(problems):,} rows can be taken; row {first.row}{where}: {_clause(first.message)}."
    )


def _clause(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:].rstrip(".")
