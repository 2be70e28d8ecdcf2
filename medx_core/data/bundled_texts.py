"""What is bundled with MedX: statement twins, and questions for written answers."""

import csv
import hashlib
from collections.abc import Iterator, Sequence
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


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement. `source` names the guideline it is taken from, `review` who has checked it so far."""

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

    @property
    def split(self) -> str:
        """`train` or `test`; a whole quad goes together, and keeps its side when other quads are added."""
        return split_of(self.quad)


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


_STATEMENT_COLUMNS = tuple(field.name for field in fields(Statement))
EXPORT_COLUMNS = (*_STATEMENT_COLUMNS, "split")
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
    statements = []
    for category in Category:
        name = f"{category.value}.csv"
        for where, values in _rows(_text(f"statements/{name}"), name, _STATEMENT_COLUMNS):
            if values["answer"] is None or values["category"] is not category:
                raise BadInput(f"{where}: no answer, or a category that is not the file's.")
            statements.append(Statement(**values))
    return tuple(statements)


def write_statements(statements: Sequence[Statement], out: TextIO) -> None:
    """Write `statements` as CSV with `EXPORT_COLUMNS`; `out` must be opened with `newline=""`."""
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(EXPORT_COLUMNS)
    for statement in statements:
        cells = {name: getattr(statement, name) for name in EXPORT_COLUMNS}
        writer.writerow({**cells, "answer": "TRUE" if statement.answer else "FALSE"}.values())


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
