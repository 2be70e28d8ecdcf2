"""Labelled questions to measure or train a router with: `question, category` and, if there is one, `source`."""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TextIO

from medx_core.categories import Category
from medx_core.clock import iso
from medx_core.data.decoding import decoded
from medx_core.data.identifiers import without_identifiers
from medx_core.data.problems import FileRefused, shortened
from medx_core.data.result_files import guarded, unguarded
from medx_core.data.spellings import read_category

ALIASES = {
    "question": ("question", "statement", "text"),
    "category": ("category", "task"),
    "source": ("source",),
}
NONE_SPELLINGS = frozenset({"none", "out-of-scope", "other"})


@dataclass(frozen=True)
class LabelledQuestion:
    """One question with the category it belongs to, None if to none of the three, and where it comes from."""

    text: str
    category: Category | None
    source: str = ""


@dataclass(frozen=True)
class RoutingFile:
    """A file of labelled questions and the hash of its bytes."""

    questions: tuple[LabelledQuestion, ...]
    sha256: str


def read_routing_file(path: Path) -> RoutingFile:
    """Read a CSV or TSV file; `text` and `task` are taken for `question` and `category`.

    Raises:
        FileRefused: it cannot be read, a column is missing, or a row has no question or no known category.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FileRefused(f"The file {path.name} cannot be opened ({error.strerror}).") from error
    text = decoded(content).text
    header = text.split("\n", 1)[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count))
    columns = _columns(reader.fieldnames or ())
    restore = unguarded if set(OVERRIDE_COLUMNS) <= set(reader.fieldnames or ()) else str
    try:
        questions = tuple(
            _question(number, {name: restore(row.get(key) or "") for name, key in columns.items()})
            for number, row in enumerate(reader, start=1)
        )
    except csv.Error as error:
        raise FileRefused(f"The file {path.name} is not sound CSV ({error}).") from error
    if not questions:
        raise FileRefused(f"The file {path.name} has no rows; write one question and its category per line.")
    return RoutingFile(questions, hashlib.sha256(content).hexdigest())


def _columns(header: Sequence[str]) -> dict[str, str]:
    columns: dict[str, str] = {}
    plain = {name.strip().lower(): name for name in header}
    for column, aliases in ALIASES.items():
        name = next((plain[alias] for alias in aliases if alias in plain), None)
        if name is not None:
            columns[column] = name
        elif column != "source":
            raise FileRefused(f"The file has no '{column}' column; name the columns in the first line.")
    return columns


def _question(number: int, cells: dict[str, str]) -> LabelledQuestion:
    text, label = cells["question"].strip(), cells["category"].strip()
    if not text:
        raise FileRefused(
            "The question is empty; fill it in or remove the row.", row=number, column="question"
        )
    return LabelledQuestion(text, _category(number, label), cells.get("source", "").strip())


def _category(number: int, label: str) -> Category | None:
    if label.lower() in NONE_SPELLINGS:
        return None
    try:
        category = read_category(label)
    except ValueError:
        category = None
    if category is None:
        raise FileRefused(
            f"Row {number}: '{shortened(label)}' is not a category; use triage, literature, patient-facing or none.",
            row=number,
            column="category",
        )
    return category


OVERRIDE_COLUMNS = ("question", "category", "router_category", "probabilities", "asked_at")


@dataclass(frozen=True)
class RouteOverride:
    """One question whose category a person chose, and what the router had thought of it."""

    question: str
    category: Category
    probabilities: Mapping[Category, float]
    asked_at: datetime

    @property
    def router_category(self) -> Category | None:
        """The router's best category, whether it would have abstained or not; None where it was not asked."""
        return max(self.probabilities, key=self.probabilities.__getitem__, default=None)


def write_overrides(overrides: Iterable[RouteOverride], out: TextIO) -> int:
    """Write a table as the overrides come and return how many rows it has. Open `out` with `newline=""`."""
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(OVERRIDE_COLUMNS)
    rows = 0
    for override in overrides:
        writer.writerow(_cells(override))
        rows += 1
    return rows


def _cells(override: RouteOverride) -> tuple[str, ...]:
    router = override.router_category
    shares = {category.value: share for category, share in override.probabilities.items()}
    return (
        guarded(without_identifiers(override.question)),
        override.category.value,
        router.value if router else "",
        json.dumps(shares),
        iso(override.asked_at) or "",
    )
