"""Sixty questions for written answers, each with the points that a good answer makes and those it must not make.

They are examples and material for measurements: sourced, and not clinically validated. A point is a proposition to
look for in the sense of an answer, not a wording to be matched.
"""

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from medx_core.categories import Category, as_category
from medx_core.data.delimited import read_delimited
from medx_core.data.spellings import read_harm, read_urgency
from medx_core.data.tables import Record
from medx_core.errors import BadInput

FILE = "free_text_questions.csv"
POINT_SEPARATOR = " | "
COLUMNS = ("id", "category", "question", "must", "must_not", "harm", "urgency", "source", "review")
_MOST_ROWS = 10_000


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
    table = read_delimited(text, max_rows=_MOST_ROWS)
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
