"""JSON lines: one object a line, every value plain. Numbers stay as they are written."""

import json
import re
from typing import Any

from medx_core.data.delimited import looks_delimited
from medx_core.data.problems import FileRefused, Problem, shortened
from medx_core.data.tables import (
    MAX_COLUMNS,
    TEXT_COLUMNS,
    Record,
    Table,
    check_columns,
    column_key,
    too_many_rows,
)

_LINE = re.compile(r"[^\r\n]+")


class _RowFault(Exception):
    """Why one line cannot be taken; the message is for the file's owner."""

    def __init__(self, message: str, column: str | None = None) -> None:
        super().__init__(message)
        self.column = column


def read_json_lines(text: str, *, max_rows: int) -> Table:
    """Read JSON lines.

    Args:
        text: the whole file.
        max_rows: records beyond this number refuse the file.

    Raises:
        FileRefused: the content is something else, or no line holds a question.
    """
    _refuse_other_content(text)
    records: list[Record] = []
    columns: dict[str, None] = {}
    for match in _LINE.finditer(text):
        if not match[0].strip():
            continue
        number = len(records) + 1
        if number > max_rows:
            raise too_many_rows(max_rows)
        try:
            cells = _cells(match[0])
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
    """Whether `text` begins with a JSON object or array, so that it is no table."""
    start = text.lstrip()[:1]
    if start not in {"{", "["}:
        return False
    first = _LINE.search(text.lstrip())
    if first is None:
        return False
    try:
        json.loads(first[0])
    except (ValueError, RecursionError):
        # a pretty-printed object or array opens its bracket and goes on in the next line
        return first[0].strip() in {"{", "[", "[{"}
    return True


def _refuse_other_content(text: str) -> None:
    first = _LINE.search(text.lstrip())
    line = first[0].strip() if first else ""
    if line.startswith("["):
        raise FileRefused(
            "The file holds a JSON array; write one object a line, without brackets and commas around."
        )
    if not line.startswith("{") and looks_delimited(line):
        raise FileRefused("The file is called .jsonl but holds CSV; rename it to .csv.")
    if line in {"{", "[{"}:
        raise FileRefused("The file holds JSON spread over several lines; write each object on one line.")


def _cells(line: str) -> dict[str, str]:
    try:
        value = json.loads(
            line, object_pairs_hook=_pairs, parse_int=str, parse_float=str, parse_constant=_no_constant
        )
    except json.JSONDecodeError as error:
        raise _RowFault(f"The line is not valid JSON (character {error.pos + 1:,}).") from error
    except RecursionError as error:
        raise _RowFault("The line is nested too deeply to be read.") from error
    if not isinstance(value, _Pairs):
        raise _RowFault('The line is not a JSON object such as {"question": "..."}.')
    cells: dict[str, str] = {}
    for name, content in value.pairs:
        key = column_key(name)
        if not key:
            raise _RowFault("A key of this line is empty; give each value a name.")
        if any(key.casefold() == other.casefold() for other in cells):
            raise _RowFault(f"The key '{shortened(key)}' stands twice in this line.", shortened(key))
        cells[key] = _plain(key, content)
    return cells


class _Pairs:
    """An object as it stands in the line: a dict would drop the first of two equal keys."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        self.pairs = pairs


def _pairs(pairs: list[tuple[str, Any]]) -> _Pairs:
    return _Pairs(pairs)


def _no_constant(name: str) -> str:
    raise _RowFault(f"The line holds {name}, which JSON does not know; leave the value out or write null.")


def _plain(key: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    raise _RowFault(
        "The value is a list or an object; only text, numbers, true, false and null are taken.", key
    )
