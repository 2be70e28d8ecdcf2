"""Labelled statements from a file or a data set, cleaned by stated rules; nothing is dropped or changed in silence.

Exact duplicates (the same words in the same order, after repair and without case and punctuation) are taken once;
those that come with both answers are all dropped. Near copies stay and form groups, as do quads and pairs, so that no
split, fold or resample has one of them on each side.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from medx_core.data.bundled_texts import bundled_statements, write_statements
from medx_core.data.decoding import Decoded
from medx_core.data.hub_data_sets import as_hub_data_set, fetch
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.data.near_duplicates import Components, join_near_copies, words_in_order
from medx_core.data.problems import FileLimits, FileRefused
from medx_core.data.question_files import FileRow, QuestionFile, read_question_file, understood
from medx_core.data.spellings import read_answer
from medx_core.errors import BadInput

SIDES = ("train", "test")

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

    `notes` counts: rows, not_taken, repaired, unlabelled, duplicates, contradictions (rows dropped),
    near_copies (rows in groups of two or more), contradicting_near_copies (such groups with both answers, twins apart),
    incomplete_pairs; and for a split column divided_groups and without_side. `notices` say the same in words, for people. `has_split` is true when the
    source has a split column that says train or test in some row.
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
    limits = limits or FileLimits()
    file, said = _read(str(source), limits)
    if file.refused:
        raise BadInput(f"{file.name}: {file.problems[0].message}")
    rows = [row for row in file.rows if row.answer is not None]
    if not rows:
        raise BadInput(
            f"{file.name} has no row with an answer; an 'answer' column with TRUE or FALSE is needed."
        )
    kept, notes = _without_duplicates(rows)
    if not kept:
        raise BadInput(f"Every statement of {file.name} appears with both answers; correct its answers.")
    notes = {
        "rows": len(file.rows) + len(file.problems),
        "not_taken": len(file.problems),
        "repaired": sum(row.repaired for row in file.rows),
        "unlabelled": len(file.rows) - len(rows),
        **notes,
    }
    statements = _grouped([_statement(row) for row in kept], [_cell(row, "quad") for row in kept], notes)
    has_split = any(statement.split for statement in statements)
    if has_split:
        notes["divided_groups"] = _divided_groups(statements)
        notes["without_side"] = sum(not statement.split for statement in statements)
    return LabelledData(statements, file.sha256, notes, (*said, *_in_words(notes, file)), has_split)


def load_bundled() -> LabelledData:
    """Read the bundled statements the way a user's file is read, so that both are cleaned and grouped alike."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "bundled.csv"
        with path.open("w", encoding="utf-8", newline="") as out:
            write_statements(bundled_statements(), out)
        return load_labelled(path)


def _read(source: str, limits: FileLimits) -> tuple[QuestionFile, tuple[str, ...]]:
    path = Path(source)
    data_set = None if path.exists() else as_hub_data_set(source)
    if data_set is not None:
        part = fetch(data_set)
        return _read_parquet(part.files, data_set.name, limits), (part.notice,)
    if path.suffix.lower() == ".parquet":
        return _read_parquet((path,), path.name, limits), ()
    return read_question_file(path, limits=limits), ()


def _read_parquet(paths: Sequence[Path], name: str, limits: FileLimits) -> QuestionFile:
    # pyarrow takes a moment to load, which the other kinds of file need not wait for
    from medx_core.data.hub_data_sets import read_parquet

    try:
        contents = [_content(path, limits) for path in paths]
        table = read_parquet(contents, limits=limits)
        sha256 = hashlib.sha256(b"".join(contents)).hexdigest()
        return understood(table, Decoded("", "parquet"), limits, name=name, sha256=sha256)
    except FileRefused as refusal:
        return QuestionFile(name=name, problems=(refusal.problem,), refused=True)


def _content(path: Path, limits: FileLimits) -> bytes:
    try:
        if path.stat().st_size > limits.bytes:
            raise FileRefused(f"The file is larger than {limits.bytes / 1_000_000:g} MB, the limit.")
        return path.read_bytes()
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise FileRefused(f"The file cannot be opened ({reason}).") from error


def _without_duplicates(rows: Iterable[FileRow]) -> tuple[list[FileRow], dict[str, int]]:
    """Return the rows that are taken, and how many were duplicates or contradicted each other."""
    copies: dict[tuple[str, ...], list[FileRow]] = defaultdict(list)
    for row in rows:
        copies[words_in_order(row.text) or (row.text,)].append(row)
    agreeing = [same for same in copies.values() if len({row.answer for row in same}) == 1]
    taken = sorted((same[0] for same in agreeing), key=lambda row: row.number)
    dropped = sum(len(same) for same in copies.values()) - sum(len(same) for same in agreeing)
    return taken, {"duplicates": sum(len(same) - 1 for same in agreeing), "contradictions": dropped}


def _statement(row: FileRow) -> LabelledStatement:
    side = row.split.casefold()
    return LabelledStatement(
        text=row.text,
        answer=bool(row.answer),
        group="",
        category=row.category,
        pair=row.pair,
        difficulty=_cell(row, "difficulty"),
        harm=row.harm,
        split={"training": "train"}.get(side, side if side in SIDES else ""),
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
    statements: Sequence[LabelledStatement], quads: Sequence[str], notes: dict[str, int]
) -> tuple[LabelledStatement, ...]:
    """Return the statements with their groups, and pairs named only where they are complete; count into `notes`."""
    near = Components(len(statements))
    join_near_copies([statement.text for statement in statements], near)
    answers: dict[int, set[tuple[bool, str]]] = defaultdict(set)
    for place, statement in enumerate(statements):
        answers[near.of(place)].add((statement.answer, statement.pair))
    sizes = Counter(near.of(place) for place in range(len(statements)))
    notes["near_copies"] = sum(size for size in sizes.values() if size > 1)
    notes["contradicting_near_copies"] = sum(map(_contradicts, answers.values()))
    near.join_equal(statement.pair for statement in statements)
    near.join_equal(quads)
    complete = _complete_pairs(statements)
    notes["incomplete_pairs"] = len({statement.pair for statement in statements} - complete - {""})
    return tuple(
        replace(
            statement, group=f"g{near.of(place)}", pair=statement.pair if statement.pair in complete else ""
        )
        for place, statement in enumerate(statements)
    )


def _contradicts(answers: set[tuple[bool, str]]) -> bool:
    """Whether a group of near copies has both answers although no pair says that this is meant."""
    return len({answer for answer, _ in answers}) == 2 and ("" in {pair for _, pair in answers})


def _complete_pairs(statements: Sequence[LabelledStatement]) -> set[str]:
    """Return the pairs of exactly two statements that differ: in their answers, or in which one is the original."""
    members: dict[str, list[LabelledStatement]] = defaultdict(list)
    for statement in statements:
        members[statement.pair].append(statement)
    return {
        pair
        for pair, two in members.items()
        if pair and len(two) == 2 and (two[0].answer, two[0].original) != (two[1].answer, two[1].original)
    }


def _divided_groups(statements: Sequence[LabelledStatement]) -> int:
    sides: dict[str, set[str]] = defaultdict(set)
    for statement in statements:
        sides[statement.group].add(statement.split)
    return sum(set(SIDES) <= both for both in sides.values())


def _in_words(notes: dict[str, int], file: QuestionFile) -> tuple[str, ...]:
    """Return a sentence for each count that is not 0, then what is said about the file as a whole."""
    counted = tuple(
        sentence.format(n=f"{notes[name]:,}") for name, sentence in _SENTENCES.items() if notes.get(name)
    )
    whole = (notice.message for notice in file.notices if notice.row is None)
    return (*counted, *(message for message in whole if not message.startswith("...")))
