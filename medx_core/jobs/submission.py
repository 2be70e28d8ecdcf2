"""What a person hands in, before it has an id."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from medx_core.categories import Category
from medx_core.data.question_files import FileRow, QuestionFile
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


def submission_of(
    file: QuestionFile,
    *,
    mode: Mode,
    arms: tuple[Arm, ...],
    category: Category | None = None,
    person_id: int | None = None,
) -> Submission:
    """Return the batch of all rows that were taken; `category` is the submitter's choice for all of them."""
    return Submission(
        kind=JobKind.BATCH,
        mode=mode,
        arms=arms,
        items=tuple(map(_item, file.rows)),
        person_id=person_id,
        category=category,
        title=file.name,
        file_sha256=file.sha256,
    )


def _item(row: FileRow) -> SubmittedItem:
    return SubmittedItem(
        row=row.number,
        text=row.text,
        given_id=row.id,
        category=row.category,
        expected=row.answer,
        harm=row.harm,
        urgency=row.urgency,
        carried=row.along(),
    )
