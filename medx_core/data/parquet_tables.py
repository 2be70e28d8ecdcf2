"""Parquet: the form in which the Hugging Face hub hands out data sets.

Its files are seldom made for MedX and cannot be edited by hand, so a few usual column names are understood in place
of `statement` and `answer`, and every such reading is said.
"""

import json
import math
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from medx_core.data.limits import FileLimits
from medx_core.data.problems import FileRefused, Problem, shortened
from medx_core.data.tables import (
    TEXT_COLUMNS,
    Record,
    Table,
    check_columns,
    named_columns,
    too_many_rows,
)

_READ_AS = {"statement": ("claim", "sentence", "text"), "answer": ("label", "gold", "truth")}


def read_parquet(contents: Sequence[bytes], *, limits: FileLimits) -> Table:
    """Read the files of one data set, one after the other, as one table.

    Raises:
        FileRefused: a file is damaged, the columns differ, there are too many rows, or none that can be asked.
    """
    parts = [_opened(content, limits) for content in contents]
    if sum(part.num_rows for part in parts) > limits.rows:
        raise too_many_rows(limits.rows)
    names = parts[0].schema.names
    if any(part.schema.names != names for part in parts):
        raise FileRefused(
            "The files of this data set have different columns and cannot be read as one table."
        )
    plain = [name for name in names if not _is_nested(parts[0].schema.field(name).type)]
    keys, notices = _keys(plain)
    notices += [
        Problem(None, name, f"Column '{shortened(name)}' holds lists, objects or bytes and is not read.")
        for name in names
        if name not in plain
    ]
    check_columns(keys)
    columns = [_cells(parts, name) for name in plain]
    records = tuple(
        Record(number, dict(zip(keys, row, strict=True)))
        for number, row in enumerate(zip(*columns, strict=True), start=1)
    )
    return Table(keys, records, "parquet", notices=tuple(notices))


def _opened(content: bytes, limits: FileLimits) -> pa.Table:
    try:
        file = pq.ParquetFile(BytesIO(content))
        if file.metadata.num_rows > limits.rows:
            raise too_many_rows(limits.rows)
        return file.read()
    except (pa.ArrowException, OSError) as error:
        raise FileRefused("The file is no sound Parquet file; export it again.") from error


def _is_nested(kind: pa.DataType) -> bool:
    return any(
        is_such(kind) for is_such in (pa.types.is_nested, pa.types.is_binary, pa.types.is_large_binary)
    )


def _keys(names: Sequence[str]) -> tuple[tuple[str, ...], list[Problem]]:
    """Return the columns' keys, a usual name of another tool's read as ours where ours is missing."""
    keys, notices = list(named_columns(names)), []
    for ours, others in _READ_AS.items():
        there = TEXT_COLUMNS if ours in TEXT_COLUMNS else (ours,)
        found = next((key for other in others for key in keys if key.casefold() == other), None)
        if found is not None and not any(name in keys for name in there):
            keys[keys.index(found)] = ours
            notices.append(Problem(None, ours, f"Column '{shortened(found)}' is read as '{ours}'."))
    return tuple(keys), notices


def _cells(parts: Sequence[pa.Table], name: str) -> list[str]:
    labels = _class_names(parts[0].schema, name)
    values = (value for part in parts for value in part.column(name).to_pylist())
    return [_cell(value, labels) for value in values]


def _cell(value: Any, labels: Sequence[str]) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int) and 0 <= value < len(labels):
        return labels[value]
    return f"{value:g}" if isinstance(value, float) and value.is_integer() else str(value)


def _class_names(schema: pa.Schema, name: str) -> list[str]:
    """Return the names that the `datasets` library gave to the numbers of a column, none if it did not."""
    try:
        about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = about["info"]["features"][name]["names"]
    except (ValueError, KeyError, TypeError):
        return []
    return [str(each) for each in names] if isinstance(names, list) else []
