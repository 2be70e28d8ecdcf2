"""Question files, as the web page, the batch command and `medx data check` all read them.

A file is taken whole, taken in part with every row that was not taken named, or refused with one sentence. Whatever
is handed in, no exception leaves this module and no row is guessed at.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medx_core import __version__
from medx_core.data.decoding import Decoded, decoded
from medx_core.data.delimited import read_delimited
from medx_core.data.file_rows import FileRow, RowReader
from medx_core.data.json_lines import looks_like_json, read_json_lines
from medx_core.data.limits import FileLimits
from medx_core.data.problems import FileRefused, Notices, Problem
from medx_core.data.tables import TEXT_COLUMNS, Table

ENDINGS = (".csv", ".tsv", ".jsonl")

_KNOWN_EXTRAS = ("harm", "urgency", "reference", "split", "pair")


@dataclass(frozen=True)
class QuestionFile:
    """What a file holds, as far as it can be taken.

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

    @property
    def has_answers(self) -> bool:
        """Whether at least one row came with a readable gold answer."""
        return any(row.answer is not None for row in self.rows)

    @property
    def along_columns(self) -> tuple[str, ...]:
        """The columns results repeat beside their own: the keys `FileRow.along` may have, in order."""
        known = tuple(name for name in _KNOWN_EXTRAS if name in self.columns)
        carried = {name: None for row in self.rows for name in row.carried}
        return known + tuple(name for name in self.columns if name in carried)

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
            f"The file is called {ending} but holds JSON; one object a line may be called .jsonl."
        )
    if start.startswith(("<!doctype", "<html", "<?xml")):
        raise FileRefused(
            f"The file is called {ending} but holds a web page or XML; export the table as CSV."
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
        return FileRefused("The file has a header and no rows; write one question a line below it.")
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
