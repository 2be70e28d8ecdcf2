"""What a submission must be before it is stored."""

from collections.abc import Iterable

from medx_core.errors import BadInput
from medx_core.jobs.status import JobKind
from medx_core.jobs.submission import Submission


def refuse_unusable(submission: Submission) -> None:
    """Refuse a submission that cannot be stored or answered.

    Raises:
        BadInput: it has no question, no arm or a row twice, or holds what is no text.
    """
    if not submission.items:
        raise BadInput("There is no question in this submission.")
    if not submission.arms:
        raise BadInput("Choose at least one arm to answer in.")
    rows = set()
    for item in submission.items:
        if item.row in rows:
            raise BadInput(f"Row {item.row} stands twice in this submission.")
        rows.add(item.row)
        if not _storable([item.text, item.given_id, *item.carried, *item.carried.values()]):
            raise BadInput(_no_text(submission.kind, f"Row {item.row}"))
    if not _storable([submission.title]):
        raise BadInput(_no_text(submission.kind, "The file's name"))


def _no_text(kind: JobKind, what: str) -> str:
    if kind is JobKind.QUESTION:
        return "The question holds characters that are no text; write it anew, or leave them out."
    return f"{what} holds characters that are no text (damaged encoding); correct the file."


def _storable(texts: Iterable[str]) -> bool:
    # PostgreSQL stores no NUL and neither engine stores half of a surrogate pair; both come from damaged files.
    try:
        return not any(b"\0" in text.encode() for text in texts)
    except UnicodeEncodeError:
        return False
