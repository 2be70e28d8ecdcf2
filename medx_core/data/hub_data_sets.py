"""Data sets of the Hugging Face hub by their id, as the Parquet files that the hub makes of every public one."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medx_core.data.problems import FileLimits, FileRefused, Problem, shortened
from medx_core.data.table_files import (
    TEXT_COLUMNS,
    Record,
    Table,
    check_columns,
    named_columns,
    too_many_rows,
)

if TYPE_CHECKING:
    import pyarrow as pa

_READ_AS = {"statement": ("claim", "sentence", "text"), "answer": ("label", "gold", "truth")}


def read_parquet(contents: Sequence[bytes], *, limits: FileLimits) -> Table:
    """Read the files of one data set, one after the other, as one table.

    Raises:
        FileRefused: a file is damaged, the columns differ, there are too many rows, or none that can be asked.
    """
    from pyarrow import types

    parts = [_opened(content, limits) for content in contents]
    if sum(part.num_rows for part in parts) > limits.rows:
        raise too_many_rows(limits.rows)
    schema = parts[0].schema
    if any(part.schema.names != schema.names for part in parts):
        raise FileRefused(
            "The files of this data set have different columns and cannot be read as one table."
        )
    unread = [
        field.name
        for field in schema
        if types.is_nested(field.type) or types.is_binary(field.type) or types.is_large_binary(field.type)
    ]
    plain = [name for name in schema.names if name not in unread]
    keys, notices = _keys(plain)
    notices += [
        Problem(None, name, f"Column '{shortened(name)}' contains lists, objects or bytes and is not read.")
        for name in unread
    ]
    check_columns(keys)
    rows = zip(*(_cells(parts, name) for name in plain), strict=True)
    records = tuple(
        Record(number, dict(zip(keys, row, strict=True))) for number, row in enumerate(rows, start=1)
    )
    return Table(keys, records, "parquet", notices=tuple(notices))


def _opened(content: bytes, limits: FileLimits) -> "pa.Table":
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(BytesIO(content))
        if file.metadata.num_rows > limits.rows:
            raise too_many_rows(limits.rows)
        return file.read()
    except (pa.ArrowException, OSError) as error:
        raise FileRefused("The file is not a sound Parquet file; export it again.") from error


def _keys(names: Sequence[str]) -> tuple[tuple[str, ...], list[Problem]]:
    """Return the columns' keys, a usual name of another tool's read as ours where ours is missing."""
    keys, notices = list(named_columns(names)), []
    for ours, others in _READ_AS.items():
        there = TEXT_COLUMNS if ours in TEXT_COLUMNS else (ours,)
        theirs = next((key for other in others for key in keys if key.casefold() == other), None)
        if theirs is not None and not any(name in keys for name in there):
            keys[keys.index(theirs)] = ours
            notices.append(Problem(None, ours, f"Column '{shortened(theirs)}' is read as '{ours}'."))
    return tuple(keys), notices


def _cells(parts: Sequence["pa.Table"], name: str) -> list[str]:
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


def _class_names(schema: "pa.Schema", name: str) -> list[str]:
    """Return the names that the `datasets` library gave to the numbers of a column, none if it did not."""
    try:
        about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = about["info"]["features"][name]["names"]
    except (ValueError, KeyError, TypeError):
        return []
    return [str(name) for name in names] if isinstance(names, list) else []


_ID = re.compile(r"([\w.-]+/[\w.-]+?)(?::([\w.-]+))?")
_FILE_ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet", ".json", ".txt", ".xlsx")
_WAIT_SECONDS = 10.0
_EXPORT = "refs/convert/parquet"
_SPLITS = ("train", "test", "validation")


@dataclass(frozen=True)
class HubDataSet:
    """A data set of the hub. `part` is the name of a split, "" for the only or the first one."""

    id: str
    part: str = ""

    @property
    def name(self) -> str:
        """The id as it is written on the command line."""
        return f"{self.id}:{self.part}" if self.part else self.id


@dataclass(frozen=True)
class FetchedPart:
    """The files of one split, in order, and a sentence that says which split it is."""

    files: tuple[Path, ...]
    notice: str


def as_hub_data_set(source: str) -> HubDataSet | None:
    """Return the data set that `source` names as "owner/name[:split]", None when it reads like a path."""
    match = _ID.fullmatch(source)
    if match is None or source.lower().endswith(_FILE_ENDINGS) or source.startswith("."):
        return None
    return HubDataSet(match[1], match[2] or "")


def fetch(data_set: HubDataSet, *, endpoint: str | None = None, cache: Path | None = None) -> FetchedPart:
    """Fetch one split, or take it from the cache. `endpoint` is another hub's address.

    Raises:
        FileRefused: the hub cannot be reached, has no such data set or split, or does not give it to everybody.
    """
    # Here, so that reading a file never waits for the hub's client.
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import (  # type: ignore[attr-defined] # HTTPError is that of its HTTP client
        GatedRepoError,
        HTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    shown = data_set.name
    try:
        about = HfApi(endpoint=endpoint).dataset_info(data_set.id, revision=_EXPORT, timeout=_WAIT_SECONDS)
        folder, names, notice = _chosen(data_set, [file.rfilename for file in about.siblings or ()])
        place: dict[str, Any] = {
            "repo_type": "dataset",
            "revision": _EXPORT,
            "endpoint": endpoint,
            "cache_dir": cache,
        }
        files = tuple(Path(hf_hub_download(data_set.id, name, **place)) for name in names)
    except (HTTPError, OSError, ValueError) as error:
        reasons = {
            GatedRepoError: f"The data set {shown} needs its owner's permission; download it by hand.",
            RepositoryNotFoundError: f"The hub has no public data set {shown}, and there is no file of that name.",
            RevisionNotFoundError: f"The hub has no Parquet export of {shown}; download it and give the file.",
            Exception: f"There is no file {shown}, and the Hugging Face hub, where a data set could have that name, "
            "cannot be reached; check the path or the network.",
        }
        # A gated repository is a kind of repository not found, so the first that fits counts.
        raise FileRefused(next(why for kind, why in reasons.items() if isinstance(error, kind))) from error
    return FetchedPart(files, f"Read {folder} of the data set {data_set.id}. {notice}".strip())


def _chosen(data_set: HubDataSet, listed: list[str]) -> tuple[str, list[str], str]:
    """Return the folder of the split, its files in order, and a notice that names the other splits."""
    folders = sorted({name.rpartition("/")[0] for name in listed if name.endswith(".parquet")})
    fitting = [folder for folder in folders if not data_set.part or folder.endswith("/" + data_set.part)]
    if not fitting:
        there = ", ".join(folders) or "none"
        raise FileRefused(f"The data set {data_set.id} has no split '{data_set.part}'; it has: {there}.")
    chosen = min(fitting, key=_preference)
    others = ", ".join(folder for folder in folders if folder != chosen)
    files = sorted(name for name in listed if name.rpartition("/")[0] == chosen)
    return chosen, files, f"Not read: {others}." if others else ""


def _preference(folder: str) -> tuple[bool, int, str]:
    config, _, part = folder.rpartition("/")
    return config != "default", _SPLITS.index(part) if part in _SPLITS else len(_SPLITS), folder
