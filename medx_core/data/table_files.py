"""Tables in files: CSV and TSV read strictly, JSON lines, and what both become before their cells are understood."""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from medx_core.data.problems import FileRefused, Problem, shortened

TEXT_COLUMNS = ("question", "statement")
KNOWN_COLUMNS = (*TEXT_COLUMNS, "id", "answer", "category", "harm", "urgency", "reference", "split", "pair")
MAX_COLUMNS = 1_000
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}

_OFTEN_MEANT = re.compile("text|prompt|claim|query|input|sentence|questions|statements|item|stem|hypothesis")
_LINE = re.compile(r"[^\r\n]+")
_LINE_END = re.compile(r"\r\n|\n|\r")
_SPACE_THEN_QUOTE = re.compile(r'[ \xa0]+"')
_SEPARATOR_LINE = re.compile(r"sep=([,;\t])[ \t]*(?:\r\n|\n|\r)", re.IGNORECASE)
_LONG_LINE = 1_000_000  # characters
_MOST_CELLS = 100_000  # a line of nothing but delimiters must not become millions of cells


@dataclass(frozen=True, slots=True)
class Record:
    """One record. Known columns are keyed by their plain name, others as the header spells them.

    `problem` says why the record as a whole cannot be read; its cells are then empty.
    """

    number: int
    cells: dict[str, str]
    problem: Problem | None = None


@dataclass(frozen=True)
class Table:
    """A file's records. `columns` are the keys of the cells, in the file's order."""

    columns: tuple[str, ...]
    records: tuple[Record, ...]
    format: str
    delimiter: str | None = None
    notices: tuple[Problem, ...] = ()

    @cached_property
    def text_column(self) -> str:
        """The column of the question or statement."""
        return next(name for name in TEXT_COLUMNS if name in self.columns)


def named_columns(names: Iterable[str]) -> tuple[str, ...]:
    """Return keys for `names`; a column without a name is called by its position, as in 'column 3'."""
    return tuple(_key(name) or f"column {position}" for position, name in enumerate(names, start=1))


def _key(name: str) -> str:
    """Return the key of a column: the plain name if it is known, else the name without outer spaces."""
    stripped = name.strip().strip("\ufeff\u200b").strip()
    return stripped.casefold() if stripped.casefold() in KNOWN_COLUMNS else stripped


def check_columns(columns: tuple[str, ...]) -> None:
    """Refuse columns from which no question can be read.

    Raises:
        FileRefused: none or both of `question` and `statement`, a name twice, a broken name, or too many columns.
    """
    if len(columns) > MAX_COLUMNS:
        raise FileRefused(
            f"The file has more than {MAX_COLUMNS:,} columns, the limit; leave out what is not needed."
        )
    if any("\x00" in name or not is_storable(name) for name in columns):
        raise FileRefused(
            "The header line contains characters that cannot be read; save the file again as UTF-8 CSV."
        )
    if not set(TEXT_COLUMNS) & set(columns):
        present = ", ".join([f"'{shortened(name)}'" for name in columns[:10]] + ["..."] * (len(columns) > 10))
        meant = next((name for name in columns if _OFTEN_MEANT.fullmatch(name.casefold())), None)
        rename = f"rename '{meant}'" if meant else "name the columns in the first line"
        raise FileRefused(
            f"The file has no 'question' or 'statement' column; {rename} to say what is to be answered "
            f"(found: {present})."
        )
    if set(TEXT_COLUMNS) <= set(columns):
        raise FileRefused(
            "The file has both a 'question' and a 'statement' column; rename the one that is not to be answered."
        )
    seen: dict[str, int] = {}
    for position, name in enumerate(columns, start=1):
        first = seen.setdefault(name.casefold(), position)
        if first != position:
            raise FileRefused(
                f"The columns {first} and {position} are both called '{shortened(name)}'; "
                "give each column a name of its own."
            )


def too_many_rows(limit: int) -> FileRefused:
    """Return the refusal of a file with more than `limit` rows."""
    return FileRefused(f"The file has more than {limit:,} rows, the limit; split it into smaller files.")


def is_storable(text: str) -> bool:
    """Whether `text` can be written as UTF-8: it has no half characters."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


class _Lines:
    """The lines of a text with their ends; `read` keeps those of the record at hand."""

    def __init__(self, text: str, delimiter: str) -> None:
        self._source = io.StringIO(text, newline="")
        self._delimiter = delimiter
        self._again: list[str] = []
        self.read: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.pop() if self._again else next(self._source)
        if len(line) > _LONG_LINE and line.count(self._delimiter) > _MOST_CELLS:
            raise FileRefused(
                f"A line of the file has more than {_MOST_CELLS:,} cells; export the file again."
            )
        self.read.append(line)
        return line

    @property
    def record(self) -> str:
        """The text of the record at hand."""
        return "".join(self.read)

    def read_again(self, record: str) -> None:
        """Put `record` in place of the one at hand, before the lines that follow."""
        self.read, self._again = [], [record]


def read_delimited(text: str, *, max_rows: int, tabs_only: bool = False) -> Table:
    """Read CSV or TSV text; the delimiter is the one with which the header names a question or statement column.

    More than `max_rows` records refuse the file. `tabs_only`: the file's name says TSV, so that another delimiter
    contradicts it.

    Raises:
        FileRefused: there is no usable header, or a quote is not closed.
    """
    delimiter, names, rows = _header_and_rows(text)
    if tabs_only and delimiter != "\t" and len(names) > 1:
        raise FileRefused(
            f"The file is called .tsv but its columns are separated by a {DELIMITERS[delimiter]}; rename it to .csv."
        )
    columns = named_columns(names)
    check_columns(columns)
    records = []
    for number, cells in enumerate(rows, start=1):
        if number > max_rows:
            raise too_many_rows(max_rows)
        records.append(_record(number, cells, columns))
    notices = tuple(
        Problem(None, key, f"Column {position} has no name and is carried along as '{key}'.")
        for position, (name, key) in enumerate(zip(names, columns, strict=True), start=1)
        if not name.strip() and any(later.strip() for later in names[position:])
    )
    # Spreadsheets leave unnamed columns at the end of the header that are empty in every row.
    while not names[len(columns) - 1].strip():
        if any(record.cells.get(columns[-1], "").strip() for record in records):
            break
        for record in records:
            record.cells.pop(columns[-1], None)
        columns = columns[:-1]
    return Table(columns, tuple(records), "tsv" if tabs_only else "csv", delimiter, notices)


def _header_and_rows(text: str) -> tuple[str, list[str], Iterator[list[str] | None]]:
    """Return the delimiter, the names in the header, and the rows below it.

    The delimiter is the one by which the header names a question or statement; if there is none, the one that gives
    most columns, for a message that lists them.
    """
    candidates = list(DELIMITERS)
    if separator_line := _SEPARATOR_LINE.match(text):
        text, candidates = text[separator_line.end() :], [separator_line[1]]
    headers = []
    for delimiter in candidates:
        rows = delimited_rows(text, delimiter)
        try:
            names = next(rows, [""])
        except FileRefused:
            continue
        if names is not None:
            keys = named_columns(names)
            headers.append(((any(name in keys for name in TEXT_COLUMNS), len(keys)), delimiter, names, rows))
    if not headers:
        raise FileRefused(
            "The quotes of the header line do not close; write the column names without quotes."
        )
    _, delimiter, names, rows = max(headers, key=lambda header: header[0])
    return delimiter, names, rows


def delimited_rows(text: str, delimiter: str) -> Iterator[list[str] | None]:
    """Yield the cells of each record of `text`, None where its quotes are misplaced; blank lines are left out.

    Python's `csv` reads them strictly. Two things are added that real files need: spaces around a quoted cell are
    accepted, and a record with misplaced quotes is skipped where it surely ends with its line.

    Raises:
        FileRefused: a quote is not closed; the message names the row that opened it, counting the header as row 0.
    """
    # This limit holds for the whole process. Cells that are too long are reported per row by `question_files`.
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    lines, number = _Lines(text, delimiter), 0
    while True:
        lines.read = []
        try:
            cells = _next_cells(lines, delimiter)
        except StopIteration:
            return
        except csv.Error:
            # The record ends with its line if the fault is in that line and its quotes come in pairs.
            if _LINE_END.search(lines.record.rstrip("\r\n")) or lines.record.count('"') % 2:
                raise FileRefused(
                    f"Row {number} opens a quote that is not closed properly, so that nothing after it can be told "
                    "apart; close it, or write a quote inside a cell twice.",
                    row=number,
                ) from None
            cells = None
        blank = not lines.record.strip() and (delimiter != "\t" or "\t" not in lines.record)
        if cells is not None and blank:
            continue
        yield cells
        number += 1


def _next_cells(lines: _Lines, delimiter: str) -> list[str]:
    """Read one record.

    Raises:
        csv.Error: its quotes are misplaced or not closed.
        StopIteration: there is no further record.
    """
    try:
        cells = next(csv.reader(lines, delimiter=delimiter, strict=True))
        if '"' not in lines.record or not any(_SPACE_THEN_QUOTE.match(cell) for cell in cells):
            return cells
    except csv.Error:
        if _tidied(lines.record, delimiter) == lines.record:
            raise
    lines.read_again(_tidied(lines.record, delimiter))
    return next(csv.reader(lines, delimiter=delimiter, strict=True))


def _tidied(record: str, delimiter: str) -> str:
    """Return a record without the spaces around its quoted cells."""
    return _quoted_cell(delimiter).sub(r"\1\2\3", record)


@lru_cache(maxsize=len(DELIMITERS))
def _quoted_cell(delimiter: str) -> re.Pattern[str]:
    """Match a quoted cell, closed or not, with the spaces around it."""
    spaces_at_end = rf"(?:[ \xa0]++(?=[{delimiter}\r\n]|\Z))?"
    return re.compile(rf'(^|{delimiter})[ \xa0]*+("[^"]*+(?:""[^"]*+)*+)("?){spaces_at_end}')


def _record(number: int, cells: list[str] | None, columns: tuple[str, ...]) -> Record:
    if cells is None:
        message = "The quotes of this row are misplaced; put the whole cell in quotes and write a quote inside it twice."
    elif len(cells) != len(columns):
        # Empty cells too many are no exception: the comma may be one inside an unquoted question.
        count = f"{len(cells)} {'cell' if len(cells) == 1 else 'cells'}"
        message = (
            f"The row has {count} where the header has {len(columns)}; "
            "put a cell that contains the delimiter in quotes."
        )
    else:
        return Record(number, dict(zip(columns, cells, strict=True)))
    return Record(number, {}, Problem(number, None, message))


def swallowed_lines(cell: str, table: Table) -> bool:
    """Whether a line inside a quoted cell has as many cells as a row: perhaps a quote is missing before it."""
    if table.delimiter is None or len(table.columns) < 2 or "\n" not in cell.replace("\r", "\n"):
        return False
    inner = _LINE_END.split(cell)[1:-1]
    return any(line.count(table.delimiter) == len(table.columns) - 1 for line in inner)


class _RowFault(Exception):
    """Why one line cannot be taken; the message is for the file's owner."""

    def __init__(self, message: str, column: str | None = None) -> None:
        super().__init__(message)
        self.column = column


def read_json_lines(text: str, *, max_rows: int) -> Table:
    """Read JSON lines; more than `max_rows` records refuse the file.

    Raises:
        FileRefused: the content is something else, or no line has a question.
    """
    _refuse_other_content(text)
    records: list[Record] = []
    columns: dict[str, None] = {}
    lines = (match[0] for match in _LINE.finditer(text) if match[0].strip())
    for number, line in enumerate(lines, start=1):
        if number > max_rows:
            raise too_many_rows(max_rows)
        try:
            cells = _cells(line)
        except _RowFault as fault:
            records.append(Record(number, {}, Problem(number, fault.column, str(fault))))
            continue
        records.append(Record(number, cells))
        columns.update(dict.fromkeys(cells))
        if len(columns) > MAX_COLUMNS:
            raise FileRefused(
                f"The lines have more than {MAX_COLUMNS:,} different keys; leave out what is not needed."
            )
    if columns:
        check_columns(tuple(columns))
    return Table(tuple(columns) or TEXT_COLUMNS[:1], tuple(records), "jsonl")


def looks_like_json(text: str) -> bool:
    """Whether `text` begins with a JSON object or array, so that it is not a table."""
    line = _first_line(text)
    if not line.startswith(("{", "[")):
        return False
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        # a pretty-printed object or array opens its bracket and goes on in the next line
        return line in {"{", "[", "[{"}
    return True


def _refuse_other_content(text: str) -> None:
    line = _first_line(text)
    if line.startswith("["):
        raise FileRefused(
            "The file contains a JSON array; write one object per line, without brackets and commas around."
        )
    header = line[:10_000].replace('"', "")
    if not line.startswith("{") and any(
        set(named_columns(header.split(delimiter))) & set(TEXT_COLUMNS) for delimiter in DELIMITERS
    ):
        raise FileRefused("The file is called .jsonl but contains CSV; rename it to .csv.")
    if line == "{":
        raise FileRefused("The file contains JSON spread over several lines; write each object on one line.")


def _first_line(text: str) -> str:
    match = _LINE.search(text.lstrip())
    return match[0].strip() if match else ""


def _cells(line: str) -> dict[str, str]:
    try:
        # Objects become tuples of pairs: a dict would drop the first of two equal keys.
        value = json.loads(
            line, object_pairs_hook=tuple, parse_int=str, parse_float=str, parse_constant=_no_constant
        )
    except json.JSONDecodeError as error:
        raise _RowFault(f"The line is not valid JSON (character {error.pos + 1:,}).") from error
    except RecursionError as error:
        raise _RowFault("The line is nested too deeply to be read.") from error
    if not isinstance(value, tuple):
        raise _RowFault('The line is not a JSON object such as {"question": "..."}.')
    cells: dict[str, str] = {}
    for name, content in value:
        key = _key(name)
        if not key:
            raise _RowFault("A key of this line is empty; give each value a name.")
        if any(key.casefold() == other.casefold() for other in cells):
            raise _RowFault(f"The key '{shortened(key)}' appears twice in this line.", shortened(key))
        cells[key] = _plain(key, content)
    return cells


def _no_constant(name: str) -> str:
    raise _RowFault(f"The line contains {name}, which JSON does not know; leave the value out or write null.")


def _plain(key: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    raise _RowFault(
        "The value is a list or an object; only text, numbers, true, false and null are taken.", key
    )
