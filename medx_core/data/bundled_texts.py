"""What is bundled with MedX: statement twins, questions for written answers, and the texts the routers are trained on."""

import csv
import hashlib
import io
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import TextIO

from medx_core.categories import Category, as_category
from medx_core.data.spellings import read_answer, read_harm, read_urgency
from medx_core.data.table_files import Record, read_delimited
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
_MOST_STATEMENTS = 100_000


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
        table = read_delimited(file.read_text("utf-8-sig"), max_rows=_MOST_STATEMENTS)
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


FILE = "free_text_questions.csv"
POINT_SEPARATOR = " | "
COLUMNS = ("id", "category", "question", "must", "must_not", "harm", "urgency", "source", "review")
_MOST_QUESTIONS = 10_000


@dataclass(frozen=True, slots=True)
class FreeTextQuestion:
    """One question as an asker would put it.

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


@lru_cache(maxsize=1)
def free_text_questions() -> tuple[FreeTextQuestion, ...]:
    """Return all questions in the order of the file, which goes category by category.

    Raises:
        BadInput: the file is missing from this installation or holds a row that cannot be read; the message names it.
    """
    try:
        text = (files("medx_core.data") / "bundled" / FILE).read_text("utf-8-sig")
    except FileNotFoundError as error:
        raise BadInput(
            "This installation has no questions for written answers; install MedX again."
        ) from error
    return questions_in(text)


def questions_in(text: str) -> tuple[FreeTextQuestion, ...]:
    """Read questions from CSV with `COLUMNS`; points are separated by `POINT_SEPARATOR`.

    Raises:
        BadInput: a column is missing, or a row lacks a category, points, or a known harm or urgency.
    """
    table = read_delimited(text, max_rows=_MOST_QUESTIONS)
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise BadInput(f"The bundled {FILE} has no column '{missing[0]}'.")
    return tuple(_question(record) for record in table.records)


def _question(record: Record) -> FreeTextQuestion:
    where = f"The bundled {FILE}, row {record.number}"
    if record.problem:
        raise BadInput(f"{where}: {record.problem.message}")
    cells = {name: record.cells[name].strip() for name in COLUMNS}
    try:
        category = as_category(cells["category"])
        harm, urgency = read_harm(cells["harm"]), read_urgency(cells["urgency"])
    except ValueError as error:
        raise BadInput(f"{where}: '{error}' is not understood.") from error
    must, must_not = _points(cells["must"]), _points(cells["must_not"])
    if category is None or not must or not must_not:
        raise BadInput(f"{where}: a category and points under 'must' and 'must_not' are needed.")
    return FreeTextQuestion(
        id=cells["id"],
        category=category,
        question=cells["question"],
        must=must,
        must_not=must_not,
        harm=harm,
        urgency=urgency,
        source=cells["source"],
        review=cells["review"],
    )


def _points(cell: str) -> tuple[str, ...]:
    return tuple(point.strip() for point in cell.split(POINT_SEPARATOR.strip()) if point.strip())


FOLDER = "bundled/routing"
FILES = ("triage.csv", "literature.csv", "patient-facing.csv", "borders.csv", "none.csv")
BORDER = "border"


@dataclass(frozen=True)
class RoutingText:
    """One text with its category, None when it belongs to none of the three.

    `voice` says how it is written, `border` for one on the border of two categories, or the kind of a text that
    belongs to none. Texts that are `held_out` are never trained on: they measure.
    """

    text: str
    category: Category | None
    voice: str
    held_out: bool = False
    why: str = ""


@lru_cache(maxsize=1)
def all_routing_texts() -> tuple[RoutingText, ...]:
    """Return every bundled text, the held-out ones included."""
    return tuple(_routing_text(row) for name in FILES for row in _rows(name))


def training_texts() -> tuple[RoutingText, ...]:
    """Return the texts to train on."""
    return tuple(text for text in all_routing_texts() if not text.held_out)


def held_out_texts() -> tuple[RoutingText, ...]:
    """Return the texts that belong to no category and are kept aside to measure with."""
    return tuple(text for text in all_routing_texts() if text.held_out)


def _rows(name: str) -> list[dict[str, str]]:
    content = (files("medx_core.data") / FOLDER / name).read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(content, newline="")))


def _routing_text(row: dict[str, str]) -> RoutingText:
    return RoutingText(
        text=row["question"],
        category=None if row["category"] == "none" else Category(row["category"]),
        voice=row.get("voice") or row.get("kind") or BORDER,
        held_out=row.get("held_out") == "yes",
        why=row.get("why", ""),
    )
