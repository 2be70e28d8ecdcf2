"""The three categories of questions, and the route that is decided for a question."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any


class Category(StrEnum):
    """The task categories of MEDASSESS-X (arXiv 2601.12812, section 3)."""

    TRIAGE = "triage"
    LITERATURE = "literature"
    PATIENT_FACING = "patient-facing"


class RouteSource(StrEnum):
    """Who decided the category."""

    ROUTER = "router"
    USER = "user"
    FILE = "file"


@dataclass(frozen=True)
class Route:
    """The decision for one question.

    `category` is None when the router abstained: the question is then answered unsteered.
    `probabilities` holds one value per category (they sum to 1), also when a user overrode the router. `red_flag` says
    whether the question tells of an emergency, whatever its category.
    """

    category: Category | None
    probabilities: Mapping[Category, float] = field(default_factory=lambda: MappingProxyType({}))
    source: RouteSource = RouteSource.ROUTER
    red_flag: bool = False
    router: str = ""

    @property
    def abstained(self) -> bool:
        """Whether no category was decided."""
        return self.category is None

    @property
    def probability(self) -> float | None:
        """The router's probability of the decided category, None where there is none."""
        return None if self.category is None else self.probabilities.get(self.category)

    def as_json(self) -> dict[str, Any]:
        """Return the route as `medx ask --json` shows it."""
        return {
            "category": self.category.value if self.category else None,
            "probabilities": {category.value: share for category, share in self.probabilities.items()},
            "abstained": self.abstained,
            "source": self.source.value,
            "red_flag": self.red_flag,
        }


def as_category(text: str | None) -> Category | None:
    """Read a category as people write it; None for an empty cell or `auto`.

    Raises:
        ValueError: the text names no category.
    """
    name = (text or "").strip().lower().replace("_", "-").replace(" ", "-")
    if name in {"", "auto"}:
        return None
    return Category(name)
