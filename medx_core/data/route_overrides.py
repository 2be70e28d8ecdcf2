"""Routes that people overrode, as a table to train the router with: `medx router train --with FILE` takes it.

Masked and guarded: what may identify a patient is taken out, and no spreadsheet runs a cell.
"""

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TextIO

from medx_core.categories import Category
from medx_core.clock import iso
from medx_core.data.identifiers import without_identifiers
from medx_core.data.spreadsheet_cells import guarded

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
