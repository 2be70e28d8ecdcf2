"""CSV and TSV, read strictly.

Python's csv module takes whatever comes: an unclosed quote swallows the rest of the file, text after a closing quote
joins the cell. Here a record either has exactly the cells of the header, or it is named as not taken; and where it
cannot be told in which line a record ends, the file is refused.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from medx_core.data.problems import FileRefused, Problem
from medx_core.data.tables import (
    MAX_COLUMNS,
    TEXT_COLUMNS,
    Record,
    Table,
    check_columns,
    named_columns,
    too_many_rows,
)

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}

_MAX_CELLS = 2 * MAX_COLUMNS  # a line of nothing but delimiters must not become millions of cells

_LINE_END = re.compile(r"\r\n|\n|\r")
_BLANK_LINES = re.compile(r"(?:[^\S\r\n]*+(?:\r\n|\n|\r|\Z))++")
_BLANK_LINES_OF_TSV = re.compile(r"(?:[^\S\r\n\t]*+(?:\r\n|\n|\r|\Z))++")
_QUOTED = re.compile(r'[ \xa0]*+"([^"]*+(?:""[^"]*+)*+)"[ \xa0]*+')
_OPENS_QUOTE = re.compile(r'[ \xa0]*+"')
_SEPARATOR_LINE = re.compile(r"sep=([,;\t])[ \t]*(?:\r\n|\n|\r)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class DelimitedLine:
    """The cells of one record, where the next one starts, and whether its quotes were sound."""

    cells: list[str]
    end: int
    sound: bool = True


class _Unclosed(Exception):
    """A quote opens and does not close, or closes lines later in the middle of a cell."""


def read_delimited(text: str, *, max_rows: int, tabs_only: bool = False) -> Table:
    """Read CSV or TSV text; the delimiter is the one with which the header names what is asked.

    Args:
        text: the whole file.
        max_rows: records beyond this number refuse the file.
        tabs_only: the file's name says TSV, so another delimiter contradicts it.

    Raises:
        FileRefused: there is no usable header, or a quote is not closed.
    """
    delimiter, header = _header(text)
    if tabs_only and delimiter != "\t" and len(header.cells) > 1:
        raise FileRefused(
            f"The file is called .tsv but its columns are separated by a {DELIMITERS[delimiter]}; rename it to .csv."
        )
    columns = named_columns(header.cells)
    check_columns(columns)
    records = []
    for number, line in enumerate(delimited_lines(text, header.end, delimiter), start=1):
        if number > max_rows:
            raise too_many_rows(max_rows)
        records.append(_record(number, line, columns))
    notices = _unnamed_columns(header.cells, columns)
    columns = _without_empty_tail(header.cells, columns, records)
    return Table(columns, tuple(records), "tsv" if tabs_only else "csv", delimiter, notices)


def _header(text: str) -> tuple[str, DelimitedLine]:
    """Return the delimiter and the header line.

    A delimiter fits when the header, cut by it, names a question or statement; else the one with most cells stands in
    for a message that lists them.
    """
    start, candidates = 0, list(DELIMITERS)
    if named := _SEPARATOR_LINE.match(text):
        start, candidates = named.end(), [named[1]]
    found: list[tuple[bool, int, str, DelimitedLine]] = []
    for delimiter in candidates:
        begin = _after_blank_lines(text, start, delimiter)
        try:
            line = _line_at(text, begin, delimiter)
        except _Unclosed:
            continue
        if line.sound:
            names = named_columns(line.cells)
            found.append((any(name in names for name in TEXT_COLUMNS), len(names), delimiter, line))
    if not found:
        raise FileRefused(
            "The quotes of the header line do not close; write the column names without quotes."
        )
    _, _, delimiter, line = max(found, key=lambda each: each[:2])
    return delimiter, line


def delimited_lines(text: str, start: int, delimiter: str) -> Iterator[DelimitedLine]:
    """Yield the records of `text` from position `start`, blank lines left out.

    Raises:
        FileRefused: a quote is not closed; the message names the row that opened it, counted from 1.
    """
    position, number = _after_blank_lines(text, start, delimiter), 0
    while position < len(text):
        number += 1
        try:
            line = _line_at(text, position, delimiter)
        except _Unclosed:
            raise FileRefused(
                f"Row {number} opens a quote that is not closed properly, so that nothing after it can be told apart; "
                "close it, or write a quote inside a cell twice.",
                row=number,
            ) from None
        yield line
        position = _after_blank_lines(text, line.end, delimiter)


def _line_at(text: str, start: int, delimiter: str) -> DelimitedLine:
    """Read the record that starts at `start`.

    Raises:
        _Unclosed: it cannot be told where the record ends.
    """
    match = _LINE_END.search(text, start)
    stop, after = match.span() if match else (len(text), len(text))
    if text.find('"', start, stop) < 0:
        return DelimitedLine(text[start:stop].split(delimiter, _MAX_CELLS), after)
    return _quoted_line(text, start, delimiter)


def _quoted_line(text: str, start: int, delimiter: str) -> DelimitedLine:
    """Read a record in which a quote occurs, cell by cell."""
    cells: list[str] = []
    plain = _plain_cell(delimiter)
    position = start
    while True:
        if _OPENS_QUOTE.match(text, position):
            quoted = _QUOTED.match(text, position)
            if quoted is None:
                raise _Unclosed
            cells.append(quoted[1].replace('""', '"'))
            position = quoted.end()
        else:
            cell = plain.match(text, position)
            cells.append(cell[0] if cell else "")
            position += len(cells[-1])
        if position < len(text) and text[position] == delimiter:
            position += 1
            continue
        ended = _LINE_END.match(text, position)
        if ended or position == len(text):
            return DelimitedLine(cells, ended.end() if ended else position)
        return _broken_line(text, start, position)


def _broken_line(text: str, start: int, position: int) -> DelimitedLine:
    """Skip a record with a stray quote, if it surely ends where its first line ends.

    That is so when the fault lies in its first line and the quotes of that line come in pairs.
    """
    match = _LINE_END.search(text, start)
    stop, after = match.span() if match else (len(text), len(text))
    if position > stop or text.count('"', start, stop) % 2:
        raise _Unclosed
    return DelimitedLine([], after, sound=False)


def _record(number: int, line: DelimitedLine, columns: tuple[str, ...]) -> Record:
    cells, wanted = line.cells, len(columns)
    if not line.sound:
        message = "The quotes of this row are misplaced; put the whole cell in quotes and write a quote inside it twice."
        return Record(number, {}, Problem(number, None, message))
    if len(cells) == wanted:
        return Record(number, dict(zip(columns, cells, strict=True)))
    # Empty cells too many are no exception: the comma may be one inside an unquoted question.
    message = (
        f"The row has {len(cells)} {'cell' if len(cells) == 1 else 'cells'} where the header has {wanted}; "
        "a cell that holds the delimiter must stand in quotes."
    )
    return Record(number, {}, Problem(number, None, message))


def _unnamed_columns(names: list[str], columns: tuple[str, ...]) -> tuple[Problem, ...]:
    return tuple(
        Problem(None, key, f"Column {position} has no name and is carried along as '{key}'.")
        for position, (name, key) in enumerate(zip(names, columns, strict=True), start=1)
        if not name.strip() and any(later.strip() for later in names[position:])
    )


def _without_empty_tail(names: list[str], columns: tuple[str, ...], records: list[Record]) -> tuple[str, ...]:
    """Drop unnamed columns at the end of the header in which no row holds anything: spreadsheets leave them."""
    while not names[len(columns) - 1].strip():
        last = columns[-1]
        if any(record.cells.get(last, "").strip() for record in records):
            break
        for record in records:
            record.cells.pop(last, None)
        columns = columns[:-1]
    return columns


def looks_delimited(line: str) -> bool:
    """Whether `line` reads as the header of a CSV or TSV file."""
    return any(
        set(named_columns(line[:10_000].replace('"', "").split(delimiter))) & set(TEXT_COLUMNS)
        for delimiter in DELIMITERS
    )


def _after_blank_lines(text: str, position: int, delimiter: str) -> int:
    if position >= len(text):
        return position
    blank = (_BLANK_LINES_OF_TSV if delimiter == "\t" else _BLANK_LINES).match(text, position)
    return blank.end() if blank else position


@lru_cache(maxsize=len(DELIMITERS))
def _plain_cell(delimiter: str) -> re.Pattern[str]:
    return re.compile(f"[^{delimiter}\\r\\n]*+")


def swallowed_lines(cell: str, table: Table) -> bool:
    """Whether a quoted cell holds a line cut like a whole row: perhaps a quote is missing before it."""
    if table.delimiter is None or len(table.columns) < 2 or "\n" not in cell.replace("\r", "\n"):
        return False
    inner = _LINE_END.split(cell)[1:-1]
    return any(line.count(table.delimiter) == len(table.columns) - 1 for line in inner)
