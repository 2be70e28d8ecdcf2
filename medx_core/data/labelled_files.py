"""Labelled statements from a file or a data set, cleaned by stated rules; nothing is dropped or changed in silence.

Exact duplicates (the same words in the same order, after repair and without case and punctuation) are taken once;
those that come with both answers are all dropped. The association control is apart: its originals may be statements of
the file. Near copies stay and form groups, as do quads, pairs and facts, so that no split, fold or resample has parts of
a group on both sides.
"""

import hashlib
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medx_core.data.bundled_texts import (
    CONTROL_COLUMNS,
    EXPORT_COLUMNS,
    bundled_controls,
    bundled_statements,
    write_statements,
)
from medx_core.data.decoding import Decoded, file_content
from medx_core.data.hub_data_sets import as_hub_data_set, fetch, read_parquet
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.data.near_duplicates import components, equal_pairs, near_copy_pairs, words_in_order
from medx_core.data.problems import FileLimits, FileRefused
from medx_core.data.question_files import (
    FileRow,
    QuestionFile,
    questions_of_content,
    questions_of_table,
    read_question_file,
)
from medx_core.data.spellings import read_answer
from medx_core.errors import BadInput

_SIDES = {"train": "train", "training": "train", "test": "test"}

_SENTENCES = {
    "not_taken": "Rows that could not be read and are not taken: {n}.",
    "unlabelled": "Rows without a readable answer, not taken: {n}.",
    "repaired": "Statements whose wrongly encoded characters were repaired: {n}.",
    "duplicates": "Repeated statements (same words, same answer), each taken once: {n} rows left out.",
    "contradictions": "Rows whose statement appears with both answers, all left out: {n}.",
    "near_copies": "Statements that nearly repeat another one (80 % of the words or more), each such group kept "
    "together: {n}.",
    "contradicting_near_copies": "Groups of near copies with both answers, kept: {n}.",
    "incomplete_pairs": "Pairs without exactly one statement of each kind, not counted as twins: {n}.",
    "divided_groups": "Groups of statements that belong together but are on both sides of the file's split: {n}.",
    "without_side": "Rows whose split is neither train nor test, on neither side: {n}.",
}


@dataclass(frozen=True)
class LabelledData:
    """The labelled statements of one source, in its order.

    `notes` counts rows (those with a statement or a problem), not_taken, repaired, unlabelled, duplicates,
    contradictions (rows dropped), near_copies (rows in groups of two or more), contradicting_near_copies (such groups
    with both answers, twins apart), incomplete_pairs and, for a source with a split, divided_groups and without_side.
    `notices` say the same in words. `has_split`: some row has a split that says train or test.
    """

    statements: tuple[LabelledStatement, ...]
    sha256: str
    notes: dict[str, int]
    notices: tuple[str, ...]
    has_split: bool


def load_labelled(source: str | Path, *, limits: FileLimits | None = None) -> LabelledData:
    """Read a CSV, TSV, JSONL or Parquet file, or a data set of the Hugging Face hub as "owner/name[:split]".

    Raises:
        BadInput: it cannot be read, or has no statement with an answer.
    """
    limits, path = limits or FileLimits(), Path(source)
    data_set = None if path.exists() else as_hub_data_set(str(source))
    if data_set is not None:
        part = fetch(data_set)
        return _cleaned(_read_parquet(part.files, data_set.name, limits), part.notice)
    if path.suffix.lower() == ".parquet":
        return _cleaned(_read_parquet((path,), path.name, limits))
    return _cleaned(read_question_file(path, limits=limits))


def load_bundled() -> LabelledData:
    """Read the bundled statements and their association control as a user's file is read: cleaned and grouped alike."""
    out = io.StringIO(newline="")
    columns = tuple(dict.fromkeys((*EXPORT_COLUMNS, *CONTROL_COLUMNS)))
    write_statements((*bundled_statements(), *bundled_controls()), out, columns)
    return _cleaned(questions_of_content(out.getvalue().encode(), "bundled.csv", FileLimits()))


def _read_parquet(paths: Sequence[Path], name: str, limits: FileLimits) -> QuestionFile:
    try:
        contents = [file_content(path, limits) for path in paths]
        file = QuestionFile(name=name, sha256=hashlib.sha256(b"".join(contents)).hexdigest())
        table = read_parquet(contents, limits=limits)
        return questions_of_table(table, Decoded("", "parquet"), limits, file)
    except FileRefused as refusal:
        return QuestionFile(name=name, problems=(refusal.problem,), refused=True)


def _cleaned(file: QuestionFile, *said: str) -> LabelledData:
    """Return the labelled statements of a file; its notices follow those `said` about its source."""
    if file.refused:
        raise BadInput(f"{file.name}: {file.problems[0].message}")
    labelled = [row for row in file.rows if row.answer is not None]
    if not labelled:
        raise BadInput(
            f"{file.name} has no row with an answer; an 'answer' column with TRUE or FALSE is needed."
        )
    copies: dict[tuple[tuple[str, ...], bool], list[FileRow]] = defaultdict(list)
    for row in labelled:
        is_control = _flag(row, "source_answer") is False
        copies[words_in_order(row.text) or (row.text,), is_control].append(row)
    agreeing = [rows for rows in copies.values() if len({row.answer for row in rows}) == 1]
    if not agreeing:
        raise BadInput(f"Every statement of {file.name} appears with both answers; correct its answers.")
    kept = sorted((rows[0] for rows in agreeing), key=lambda row: row.number)
    agreeing_rows = sum(map(len, agreeing))
    notes = {
        "rows": len(file.rows) + len(file.problems),
        "not_taken": len(file.problems),
        "repaired": sum(row.repaired for row in file.rows),
        "unlabelled": len(file.rows) - len(labelled),
        "duplicates": agreeing_rows - len(agreeing),
        "contradictions": len(labelled) - agreeing_rows,
    }
    named = [[_cell(row, column) for row in kept] for column in ("quad", "fact")]
    statements = _grouped([_statement(row) for row in kept], named, notes)
    has_split = any(statement.split for statement in statements)
    if has_split:
        sides: dict[str, set[str]] = defaultdict(set)
        for statement in statements:
            sides[statement.group].add(statement.split)
        notes["divided_groups"] = sum({"train", "test"} <= both for both in sides.values())
        notes["without_side"] = sum(not statement.split for statement in statements)
    counted = [
        sentence.format(n=f"{notes[name]:,}") for name, sentence in _SENTENCES.items() if notes.get(name)
    ]
    whole = [notice.message for notice in file.notices if notice.row is None]
    whole = [message for message in whole if not message.startswith("...")]
    return LabelledData(statements, file.sha256, notes, (*said, *counted, *whole), has_split)


def _statement(row: FileRow) -> LabelledStatement:
    return LabelledStatement(
        text=row.text,
        answer=bool(row.answer),
        group="",
        category=row.category,
        pair=row.pair,
        difficulty=_cell(row, "difficulty"),
        harm=row.harm,
        split=_SIDES.get(row.split.casefold(), ""),
        source_answer=_flag(row, "source_answer"),
        original=_flag(row, "original"),
        kind=_cell(row, "kind"),
        row=row.number,
    )


def _cell(row: FileRow, column: str) -> str:
    return next((cell.strip() for name, cell in row.carried.items() if name.casefold() == column), "")


def _flag(row: FileRow, column: str) -> bool | None:
    try:
        return read_answer(_cell(row, column))
    except ValueError:
        return None


def _grouped(
    statements: Sequence[LabelledStatement], named: Iterable[Sequence[str]], notes: dict[str, int]
) -> tuple[LabelledStatement, ...]:
    """Return the statements with their groups, and pairs named only where they are complete; count into `notes`.

    Statements that have a name in common, in one of the columns `named`, are of one group.
    """
    count = len(statements)
    near = list(near_copy_pairs([statement.text for statement in statements]))
    copies: dict[int, list[LabelledStatement]] = defaultdict(list)
    for component, statement in zip(components(count, near), statements, strict=True):
        copies[component].append(statement)
    notes["near_copies"] = sum(len(group) for group in copies.values() if len(group) > 1)
    notes["contradicting_near_copies"] = sum(map(_contradicts, copies.values()))
    columns = ([statement.pair for statement in statements], *named)
    groups = components(count, (*near, *(pair for column in columns for pair in equal_pairs(column))))
    complete = _complete_pairs(statements)
    notes["incomplete_pairs"] = len({statement.pair for statement in statements} - complete - {""})
    return tuple(
        replace(statement, group=f"g{group}", pair=statement.pair if statement.pair in complete else "")
        for group, statement in zip(groups, statements, strict=True)
    )


def _contradicts(copies: Sequence[LabelledStatement]) -> bool:
    """Whether near copies have both answers although no pair says that this is meant."""
    return len({copy.answer for copy in copies}) == 2 and any(not copy.pair for copy in copies)


def _complete_pairs(statements: Sequence[LabelledStatement]) -> set[str]:
    """Return the pairs of exactly two statements that differ in the answer or in being the original."""
    members: dict[str, list[tuple[bool, bool | None]]] = defaultdict(list)
    for statement in statements:
        members[statement.pair].append((statement.answer, statement.original))
    return {pair for pair, both in members.items() if pair and len(both) == 2 and both[0] != both[1]}
