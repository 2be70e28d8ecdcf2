"""Result files read back, as whoever takes one away could do it."""

import csv
from pathlib import Path
from typing import Any

from medx_core.data.result_files import RESULT_COLUMNS, ResultRow, unguarded

_TYPES = {
    **dict.fromkeys(("row", "layer"), int),
    **dict.fromkeys(
        ("category_probability", "score", "alpha", "seconds", "dose"), lambda cell: float(unguarded(cell))
    ),
    **dict.fromkeys(("answer", "correct", "emergency"), lambda cell: {"TRUE": True, "FALSE": False}[cell]),
}


def read_results(path: Path) -> list[ResultRow]:
    """The rows of a result file; carried columns keep the names they have in the file."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, strict=True)
        assert tuple(rows.fieldnames[: len(RESULT_COLUMNS)]) == RESULT_COLUMNS
        return [_row(row) for row in rows]


def _row(cells: dict[str, str]) -> ResultRow:
    known = {name: _value(name, cells.pop(name)) for name in RESULT_COLUMNS}
    return ResultRow(**known, carried={unguarded(name): unguarded(cell) for name, cell in cells.items()})


def _value(name: str, cell: str) -> Any:
    if name not in _TYPES:
        return unguarded(cell)
    return _TYPES[name](cell) if cell else None
