"""The texts that MedX's routers are trained on: written for it, in many voices, with their labels."""

import csv
import io
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from medx_core.categories import Category

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
