"""What a person hands in, before it has an id."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from medx_core.categories import Category
from medx_core.jobs.status import JobKind
from medx_core.questions import Arm, Mode


@dataclass(frozen=True)
class SubmittedItem:
    """One question of a submission.

    `row` counts the records of the file from 1 without its header. `expected` is the gold answer (True, False or
    None). `carried` holds the file's other columns as they stood, in their order.
    """

    row: int
    text: str
    given_id: str = ""
    category: Category | None = None
    expected: bool | None = None
    harm: str = ""
    urgency: str = ""
    carried: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Submission:
    """One job to be: committed whole, with its items and outbox, or not at all.

    `category` is the submitter's choice for all items (None: the router decides, or an item's own category).
    """

    kind: JobKind
    mode: Mode
    arms: tuple[Arm, ...]
    items: tuple[SubmittedItem, ...]
    person_id: int | None = None
    category: Category | None = None
    title: str = ""
    file_sha256: str = ""
