"""How people write answers, categories, harm and urgency; any other spelling raises ValueError, nothing is guessed."""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, TypeVar

from medx_core.categories import Category, as_category

HARMS = ("none", "mild", "moderate", "severe")
URGENCIES = ("emergency", "same-day", "routine", "self-care")

Value = TypeVar("Value")

_ANSWERS: dict[str, bool | None] = {
    **dict.fromkeys(("true", "t", "yes", "y", "1", "1.0", "correct", "right"), True),
    **dict.fromkeys(("false", "f", "no", "n", "0", "0.0", "incorrect", "wrong"), False),
    "": None,
}
_CATEGORIES = {
    "lit": "literature",
    "literature-interpretation": "literature",
    **dict.fromkeys(
        ("patient", "patientfacing", "patient-education", "patient-communication"), "patient-facing"
    ),
}
_HARMS = {
    **dict(zip(HARMS, HARMS, strict=True)),
    **dict.fromkeys(("no", "no-harm"), "none"),
    "minor": "mild",
    **dict.fromkeys(("serious", "death", "severe-or-death"), "severe"),
    "": "",
}
_URGENCIES = {
    **dict(zip(URGENCIES, URGENCIES, strict=True)),
    "emergent": "emergency",
    "sameday": "same-day",
    "non-urgent": "routine",
    **dict.fromkeys(("selfcare", "self-management"), "self-care"),
    "": "",
}
_JOINTS = re.compile(r"[\s_\-\u2010-\u2013]+")


@lru_cache(maxsize=1_024)
def read_answer(cell: str) -> bool | None:
    """Read a gold answer; None for an empty cell."""
    return _spelled(_ANSWERS, cell.strip().strip(".").strip().casefold())


@lru_cache(maxsize=1_024)
def read_category(cell: str) -> Category | None:
    """Read a category; None for an empty cell or `auto`."""
    word = _word(cell)
    return as_category(_CATEGORIES.get(word, word))


@lru_cache(maxsize=1_024)
def read_harm(cell: str) -> str:
    """Read one of `HARMS`; "" for an empty cell."""
    return _spelled(_HARMS, _word(cell))


@lru_cache(maxsize=1_024)
def read_urgency(cell: str) -> str:
    """Read one of `URGENCIES`; "" for an empty cell."""
    return _spelled(_URGENCIES, _word(cell))


def _spelled(spellings: dict[str, Value], word: str) -> Value:
    if word not in spellings:
        raise ValueError(f"'{word}' is not understood")
    return spellings[word]


def _word(cell: str) -> str:
    return _JOINTS.sub("-", cell.strip().casefold()).strip("-")


READERS: Mapping[str, Callable[[str], Any]] = {
    "answer": read_answer,
    "category": read_category,
    "harm": read_harm,
    "urgency": read_urgency,
}
"""How the cells of a column are read, by its name."""
