"""Texts with their categories: those the routers are trained on, labelled files, and routes that people overrode."""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TextIO

from medx_core.categories import Category
from medx_core.clock import iso
from medx_core.data.decoding import decoded
from medx_core.data.identifiers import without_identifiers
from medx_core.data.problems import FileRefused, shortened
from medx_core.data.result_files import guarded, unguarded
from medx_core.data.spellings import read_category

BORDER = "border"
OVERRIDE_COLUMNS = ("question", "category", "router_category", "probabilities", "asked_at")
_BUNDLED = ("triage.csv", "literature.csv", "patient-facing.csv", "borders.csv", "none.csv")
_ALIASES = {
    "question": ("question", "statement", "text"),
    "category": ("category", "task"),
    "source": ("source",),
}
_NONE_SPELLINGS = ("none", "out-of-scope", "other")


@dataclass(frozen=True)
class RoutingText:
    """One text with its category, None when it belongs to none of the three.

    `source` says where a text of a file comes from. For a bundled text, `voice` says how it is written, `border` for
    one on the border of two categories, or the kind of a text that belongs to none; texts that are `held_out` are
    never trained on: they measure.
    """

    text: str
    category: Category | None
    source: str = ""
    voice: str = ""
    held_out: bool = False
    why: str = ""


@lru_cache(maxsize=1)
def all_routing_texts() -> tuple[RoutingText, ...]:
    """Return every bundled text, the held-out ones included."""
    folder = files("medx_core.data") / "bundled" / "routing"
    return tuple(
        RoutingText(
            text=row["question"],
            category=None if row["category"] == "none" else Category(row["category"]),
            voice=row.get("voice") or row.get("kind") or BORDER,
            held_out=row.get("held_out") == "yes",
            why=row.get("why", ""),
        )
        for name in _BUNDLED
        for row in csv.DictReader(io.StringIO((folder / name).read_text("utf-8"), newline=""))
    )


def training_texts() -> tuple[RoutingText, ...]:
    """Return the bundled texts to train on."""
    return tuple(text for text in all_routing_texts() if not text.held_out)


def held_out_texts() -> tuple[RoutingText, ...]:
    """Return the bundled texts that belong to no category and are kept aside to measure with."""
    return tuple(text for text in all_routing_texts() if text.held_out)


@dataclass(frozen=True)
class RoutingFile:
    """The texts of a file and the hash of its bytes."""

    questions: tuple[RoutingText, ...]
    sha256: str


def read_routing_file(path: Path) -> RoutingFile:
    """Read a CSV or TSV file of `question, category[, source]`; `text` and `task` name the first two as well.

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
    names = reader.fieldnames or ()
    columns = _columns(names)
    restore = unguarded if set(OVERRIDE_COLUMNS) <= set(names) else str
    try:
        questions = tuple(
            _labelled(number, {name: restore(row.get(key) or "").strip() for name, key in columns.items()})
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
    for column, aliases in _ALIASES.items():
        name = next((plain[alias] for alias in aliases if alias in plain), None)
        if name is not None:
            columns[column] = name
        elif column != "source":
            raise FileRefused(f"The file has no '{column}' column; name the columns in the first line.")
    return columns


def _labelled(number: int, cells: dict[str, str]) -> RoutingText:
    text, label = cells["question"], cells["category"]
    if not text:
        raise FileRefused(
            "The question is empty; fill it in or remove the row.", row=number, column="question"
        )
    try:
        category = None if label.lower() in _NONE_SPELLINGS else read_category(label)
    except ValueError:
        category = None
    if category is None and label.lower() not in _NONE_SPELLINGS:
        raise FileRefused(
            f"Row {number}: '{shortened(label)}' is not a category; use triage, literature, patient-facing or none.",
            row=number,
            column="category",
        )
    return RoutingText(text, category, cells.get("source", ""))


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
        router = override.router_category
        writer.writerow(
            (
                guarded(without_identifiers(override.question)),
                override.category.value,
                router.value if router else "",
                json.dumps({category.value: share for category, share in override.probabilities.items()}),
                iso(override.asked_at) or "",
            )
        )
        rows += 1
    return rows
