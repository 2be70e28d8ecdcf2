"""What is bundled with MedX: statement twins with their association control, and questions for written answers."""

import csv
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from importlib.resources import files
from typing import Any, TextIO

from medx_core.categories import Category
from medx_core.data.spellings import READERS
from medx_core.data.table_files import read_delimited
from medx_core.errors import BadInput

TRAIN_SHARE = 0.7
_MOST_ROWS = 100_000
_CONTROL_ROW = ("quad", "source", "statement")


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement. `source` names the guideline it is taken from, `review` how far it has been checked.

    `fact` is shared by all pairs, of any category, that state one fact; a fact of one pair only has the pair's name.
    `split` is `train` or `test`: quads go whole, and quads that a fact joins go together.
    """

    id: str
    pair: str
    statement: str
    answer: bool
    category: Category
    topic: str
    harm: str
    urgency: str
    source: str
    review: str
    quad: str
    split: str
    fact: str


@dataclass(frozen=True, slots=True)
class ControlStatement:
    """One version of a FALSE statement, of which a pair has two: the `original`, and one with a word exchanged.

    Both are false. A quad consists of the two pairs that exchanged their words with each other.
    """

    id: str
    pair: str
    statement: str
    answer: bool
    category: Category
    quad: str
    split: str
    original: bool
    source_answer: bool = False


@dataclass(frozen=True, slots=True)
class FreeTextQuestion:
    """One question as an asker would put it, with points that an answer must and must not make.

    `harm` is what a wrong answer could do; `urgency` is the right one for triage and "" for the other categories.
    """

    id: str
    category: Category
    question: str
    must: tuple[str, ...]
    must_not: tuple[str, ...]
    harm: str
    urgency: str
    source: str
    review: str


EXPORT_COLUMNS = tuple(field.name for field in fields(Statement))
CONTROL_COLUMNS = tuple(field.name for field in fields(ControlStatement))
_STATEMENT_COLUMNS = tuple(name for name in EXPORT_COLUMNS if name not in ("split", "fact"))
COLUMNS = tuple(field.name for field in fields(FreeTextQuestion))


def split_of(quad: str) -> str:
    """Return `train` for about 70 of 100 quads and `test` for the others, by the hash of the quad's name."""
    place = int.from_bytes(hashlib.sha256(quad.encode()).digest()[:8], "big") / 2**64
    return "train" if place < TRAIN_SHARE else "test"


@lru_cache(maxsize=1)
def bundled_statements() -> tuple[Statement, ...]:
    """Return all statements, category by category in the order of `Category`.

    Raises:
        BadInput: a file is missing from this installation or has a row that cannot be read; the message names it.
    """
    rows: list[dict[str, Any]] = []
    for category in Category:
        name = f"{category.value}.csv"
        for where, values in _rows(_text(f"statements/{name}"), name, _STATEMENT_COLUMNS):
            if values["answer"] is None or values["category"] is not category:
                raise BadInput(f"{where}: no answer, or a category that is not the file's.")
            rows.append(values)
    shared = {pair: fact for fact, pairs in shared_facts().items() for pair in pairs}
    facts = {row["pair"]: shared.get(row["pair"], row["pair"]) for row in rows}
    leaders = _leaders((row["quad"], facts[row["pair"]]) for row in rows)
    return tuple(
        Statement(**row, split=split_of(leaders[row["quad"]]), fact=facts[row["pair"]]) for row in rows
    )


@lru_cache(maxsize=1)
def shared_facts() -> Mapping[str, tuple[str, ...]]:
    """Return the pairs that state each fact which more than one pair states.

    Raises:
        BadInput: the file is missing from this installation or cannot be read; the message names it.
    """
    rows = _rows(_text("statements/facts.csv"), "facts.csv", ("fact", "pairs"))
    return {values["fact"]: tuple(values["pairs"].split()) for _, values in rows}


@lru_cache(maxsize=1)
def bundled_controls() -> tuple[ControlStatement, ...]:
    """Return the association control: FALSE statements of one category that exchanged their wrong words in couples.

    What was chosen here is false in either wording, so that preferring the original can only mean "this word belongs
    here". Originals are bundled statements, word for word, and keep their split.

    Raises:
        BadInput: the file is missing from this installation or cannot be read; the message names it.
    """
    sources = {statement.id: statement for statement in bundled_statements()}
    controls: list[ControlStatement] = []
    for where, values in _rows(_text("statements/controls.csv"), "controls.csv", _CONTROL_ROW):
        source = sources.get(values["source"])
        if source is None or source.answer:
            raise BadInput(f"{where}: the source is no FALSE statement.")
        for mark, text, original in (("o", source.statement, True), ("x", values["statement"], False)):
            pair = f"{source.pair}-c"
            controls.append(
                ControlStatement(
                    pair + mark, pair, text, False, source.category, values["quad"], source.split, original
                )
            )
    return tuple(controls)


def write_statements(
    statements: Iterable[Statement | ControlStatement], out: TextIO, columns: Sequence[str] = EXPORT_COLUMNS
) -> None:
    """Write `columns` as CSV, empty where a statement has none; `out` must be opened with `newline=""`."""
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(columns)
    for statement in statements:
        cells = (getattr(statement, name, "") for name in columns)
        writer.writerow(str(cell).upper() if isinstance(cell, bool) else cell for cell in cells)


def _leaders(stated: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return for each quad, of (quad, fact), the first by number among all quads that facts join to it.

    Quads that are added have higher numbers, so that they join those that were there and move none of them.
    """
    quads = defaultdict(set)
    for quad, fact in stated:
        quads[fact].add(quad)
    leaders = {quad: quad for joined in quads.values() for quad in joined}
    moved = True
    while moved:
        moved = False
        for joined in quads.values():
            first = min((leaders[quad] for quad in joined), key=lambda name: (name[-3:], name))
            for quad in joined:
                moved = moved or leaders[quad] != first
                leaders[quad] = first
    return leaders


@lru_cache(maxsize=1)
def free_text_questions() -> tuple[FreeTextQuestion, ...]:
    """Return all questions in the order of the file, which goes category by category.

    Raises:
        BadInput: the file is missing from this installation or has a row that cannot be read; the message names it.
    """
    return questions_in(_text("free_text_questions.csv"))


def questions_in(text: str) -> tuple[FreeTextQuestion, ...]:
    """Read questions from CSV with `COLUMNS`; points are separated by "|".

    Raises:
        BadInput: a column is missing, or a row lacks a category, points, or a known harm or urgency.
    """
    questions = []
    for where, values in _rows(text, "free_text_questions.csv", COLUMNS):
        for column in ("must", "must_not"):
            values[column] = tuple(point.strip() for point in values[column].split("|") if point.strip())
        if not (values["category"] and values["must"] and values["must_not"]):
            raise BadInput(f"{where}: a category and points under 'must' and 'must_not' are needed.")
        questions.append(FreeTextQuestion(**values))
    return tuple(questions)


def _text(name: str) -> str:
    try:
        return (files("medx_core.data") / "bundled" / name).read_text("utf-8-sig")
    except FileNotFoundError as error:
        raise BadInput(f"This installation lacks the bundled {name}; install MedX again.") from error


def _rows(text: str, name: str, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield for each row of a bundled table what to call it in a message, and its values by column."""
    table = read_delimited(text, max_rows=_MOST_ROWS)
    for column in columns:
        if column not in table.columns:
            raise BadInput(f"The bundled {name} has no column '{column}'.")
    for record in table.records:
        where = f"The bundled {name}, row {record.number}"
        if record.problem:
            raise BadInput(f"{where}: {record.problem.message}")
        try:
            yield (
                where,
                {column: READERS.get(column, str)(record.cells[column].strip()) for column in columns},
            )
        except ValueError as error:
            raise BadInput(f"{where}: {error}.") from error
