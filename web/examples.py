"""The examples of the Ask page: one a kind, from the statements and questions bundled with MedX.

The statements are from the part that no vector is built from.
"""

from dataclasses import dataclass

from medx_core.categories import Category
from medx_core.data.bundled_texts import bundled_statements, free_text_questions
from medx_core.questions import Mode

CHOSEN = ("triage-044f", "free-literature-18", "patient-facing-039f")


@dataclass(frozen=True)
class Example:
    """A question to try, with its kind and the form of answer that suits it."""

    text: str
    category: Category
    mode: Mode


def examples() -> tuple[Example, ...]:
    """Return the chosen examples that this installation holds."""
    known = {one.id: Example(one.statement, one.category, Mode.VERDICT) for one in bundled_statements()}
    known |= {one.id: Example(one.question, one.category, Mode.TEXT) for one in free_text_questions()}
    return tuple(known[name] for name in CHOSEN if name in known)
