"""From a question file to a submission, the same for the web page and for `medx batch`."""

from medx_core.categories import Category
from medx_core.data.file_rows import FileRow
from medx_core.data.question_files import QuestionFile
from medx_core.jobs.status import JobKind
from medx_core.jobs.submission import Submission, SubmittedItem
from medx_core.questions import Arm, Mode


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
