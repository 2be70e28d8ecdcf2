"""How people write answers, categories, harm and urgency; anything else is not guessed at."""

import re
from functools import lru_cache

from medx_core.categories import Category, as_category

HARMS = ("none", "mild", "moderate", "severe")
URGENCIES = ("emergency", "same-day", "routine", "self-care")

_ANSWERS = {
    **dict.fromkeys(("true", "t", "yes", "y", "1", "1.0", "correct", "right"), True),
    **dict.fromkeys(("false", "f", "no", "n", "0", "0.0", "incorrect", "wrong"), False),
}
_CATEGORIES = {
    "lit": Category.LITERATURE,
    "literature-interpretation": Category.LITERATURE,
    "patient": Category.PATIENT_FACING,
    "patientfacing": Category.PATIENT_FACING,
    "patient-education": Category.PATIENT_FACING,
    "patient-communication": Category.PATIENT_FACING,
}
_HARMS = {
    "no": "none",
    "no-harm": "none",
    "minor": "mild",
    "serious": "severe",
    "death": "severe",
    "severe-or-death": "severe",
}
_URGENCIES = {
    "emergent": "emergency",
    "sameday": "same-day",
    "selfcare": "self-care",
    "self-management": "self-care",
    "non-urgent": "routine",
}
_JOINTS = re.compile(r"[\s_\-\u2010-\u2013]+")


@lru_cache(maxsize=1_024)
def read_answer(cell: str) -> bool | None:
    """Read a gold answer; None for an empty cell.

    Raises:
        ValueError: the cell is neither TRUE nor FALSE in a usual spelling.
    """
    word = cell.strip().strip(".").strip().casefold()
    if not word:
        return None
    if word not in _ANSWERS and (word := cell.strip().casefold()) not in _ANSWERS:
        raise ValueError(cell)
    return _ANSWERS[word]


@lru_cache(maxsize=1_024)
def read_category(cell: str) -> Category | None:
    """Read a category; None for an empty cell or `auto`.

    Raises:
        ValueError: the cell names no category.
    """
    word = _word(cell)
    return _CATEGORIES[word] if word in _CATEGORIES else as_category(word)


@lru_cache(maxsize=1_024)
def read_harm(cell: str) -> str:
    """Read a harm label; "" for an empty cell.

    Raises:
        ValueError: the cell names no degree of harm.
    """
    return _one_of(HARMS, _HARMS, cell)


@lru_cache(maxsize=1_024)
def read_urgency(cell: str) -> str:
    """Read an urgency; "" for an empty cell.

    Raises:
        ValueError: the cell names no urgency.
    """
    return _one_of(URGENCIES, _URGENCIES, cell)


def _one_of(names: tuple[str, ...], spellings: dict[str, str], cell: str) -> str:
    word = _word(cell)
    word = spellings.get(word, word)
    if word and word not in names:
        raise ValueError(cell)
    return word


def _word(cell: str) -> str:
    return _JOINTS.sub("-", cell.strip().casefold()).strip("-")
