"""The statements written for this project: twins, each a true and a minimally edited false one.

They come in quads of two twins whose true and false sides use the same words, so that wording alone gives nothing
away. They are sourced, and not clinically validated.
"""

import csv
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import TextIO

from medx_core.categories import Category
from medx_core.data.delimited import read_delimited
from medx_core.data.spellings import read_answer, read_harm, read_urgency
from medx_core.data.tables import Record
from medx_core.errors import BadInput

EXPORT_COLUMNS = (
    "id",
    "pair",
    "statement",
    "answer",
    "category",
    "topic",
    "harm",
    "urgency",
    "source",
    "review",
    "quad",
    "split",
)
TRAIN_SHARE = 0.7
_COLUMNS = EXPORT_COLUMNS[:-1]
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
        """`train` or `test`; a whole quad goes together, and stays where it is when others are added."""
        return split_of(self.quad)


def split_of(quad: str) -> str:
    """Return `train` for about 70 of 100 quads and `test` for the others, by the hash of the quad's name."""
    place = int.from_bytes(hashlib.sha256(quad.encode()).digest()[:8], "big") / 2**64
    return "train" if place < TRAIN_SHARE else "test"


@lru_cache(maxsize=1)
def bundled_statements() -> tuple[Statement, ...]:
    """Return all statements, category by category in the order of `Category`.

    Raises:
        BadInput: a file is missing from this installation or holds a row that cannot be read; the message names it.
    """
    return tuple(statement for category in Category for statement in _statements_of(category))


def write_statements(statements: tuple[Statement, ...], out: TextIO) -> None:
    """Write `statements` as CSV with `EXPORT_COLUMNS`; `out` must be opened with `newline=""`."""
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(EXPORT_COLUMNS)
    for each in statements:
        cells = {name: getattr(each, name) for name in EXPORT_COLUMNS}
        cells |= {"answer": "TRUE" if each.answer else "FALSE", "category": each.category.value}
        writer.writerow(cells.values())


def _statements_of(category: Category) -> list[Statement]:
    file = files("medx_core.data") / "bundled" / "statements" / f"{category.value}.csv"
    try:
        table = read_delimited(file.read_text("utf-8-sig"), max_rows=_MOST_ROWS)
    except FileNotFoundError as error:
        raise BadInput(
            f"This installation has no statements for {category.value}; install MedX again."
        ) from error
    missing = [name for name in _COLUMNS if name not in table.columns]
    if missing:
        raise BadInput(f"The bundled {file.name} has no column '{missing[0]}'.")
    return [_statement(record, file.name, category) for record in table.records]


def _statement(record: Record, name: str, category: Category) -> Statement:
    if record.problem:
        raise BadInput(f"The bundled {name}, row {record.number}: {record.problem.message}")
    cells = {column: record.cells[column].strip() for column in _COLUMNS}
    try:
        answer = read_answer(cells.pop("answer"))
        harm, urgency = read_harm(cells.pop("harm")), read_urgency(cells.pop("urgency"))
    except ValueError as error:
        raise BadInput(f"The bundled {name}, row {record.number}: '{error}' is not understood.") from error
    if answer is None or cells.pop("category") != category:
        raise BadInput(
            f"The bundled {name}, row {record.number}: no answer, or a category that is not the file's."
        )
    return Statement(**cells, answer=answer, category=category, harm=harm, urgency=urgency)
