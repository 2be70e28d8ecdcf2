"""From what a person typed or uploaded to a job: checked, rate-limited, committed in one transaction."""

from pathlib import Path

from medx_core.categories import Category, as_category
from medx_core.data.problems import FileLimits
from medx_core.data.question_files import QuestionFile, read_question_file
from medx_core.errors import BadInput
from medx_core.jobs.snapshots import JobSnapshot
from medx_core.jobs.status import JobKind
from medx_core.jobs.submission import Submission, SubmittedItem, submission_of
from medx_core.questions import ARM_CHOICES, Arm, Mode
from medx_core.storage.people import Person
from web import wording
from web.services import Services


def chosen_mode(text: str) -> Mode:
    """Read the form of the answer.

    Raises:
        BadInput: there is no such form.
    """
    try:
        return Mode(text)
    except ValueError as error:
        raise BadInput(f"There is no mode {text!r}; use verdict or text.") from error


def chosen_arms(text: str) -> tuple[Arm, ...]:
    """Read which arms to answer in.

    Raises:
        BadInput: there is no such choice.
    """
    try:
        return ARM_CHOICES[text]
    except KeyError as error:
        raise BadInput(f"There is no arm {text!r}; use steered, unsteered or both.") from error


def chosen_kind(text: str) -> Category | None:
    """Read the category; None lets the router decide.

    Raises:
        BadInput: there is no such category.
    """
    try:
        return as_category(text)
    except ValueError as error:
        raise BadInput(
            f"There is no kind {text!r}; use auto, triage, literature or patient-facing."
        ) from error


def checked_question(services: Services, text: str) -> str:
    """Return the question as it would be asked; nothing is queued.

    Raises:
        BadInput: it is empty or too long.
    """
    question = text.strip()
    limit = services.settings.max_question_characters
    if not question:
        raise BadInput(wording.EMPTY_QUESTION)
    if len(question) > limit:
        raise BadInput(f"The question has {len(question):,} characters; {limit:,} is the most. Shorten it.")
    return question


def submit_question(
    services: Services, person: Person, text: str, *, mode: str, category: str, arm: str
) -> JobSnapshot:
    """Commit one question and return its job.

    Raises:
        BadInput: the question is empty, too long, or asked too often.
    """
    question = checked_question(services, text)
    submission = Submission(
        kind=JobKind.QUESTION,
        mode=chosen_mode(mode),
        arms=chosen_arms(arm),
        items=(SubmittedItem(row=1, text=question.replace("\x00", "")),),
        person_id=person.id,
        category=chosen_kind(category),
        title=question[:120],
    )
    if not services.question_limit.take(person.name):
        raise BadInput(wording.too_often(services.settings.questions_a_minute, per="minute"))
    return services.jobs.submit(submission, chunk_rows=services.settings.chunk_rows)


def read_upload(services: Services, path: str | None) -> QuestionFile:
    """Read and check an uploaded file; nothing is queued.

    Raises:
        BadInput: there is no file.
    """
    if not path:
        raise BadInput(wording.CHOOSE_FILE)
    return read_question_file(Path(path), limits=FileLimits.of(services.settings))


def submit_file(
    services: Services, person: Person, path: str | None, *, mode: str, category: str, arm: str
) -> JobSnapshot:
    """Commit a file's rows as one job.

    Raises:
        BadInput: the file is refused or holds no question, or too many files were sent.
    """
    form, kind, arms = chosen_mode(mode), chosen_kind(category), chosen_arms(arm)
    file = read_upload(services, path)
    if file.refused or not file.rows:
        reason = file.problems[0].message if file.problems else "The file holds no question."
        raise BadInput(reason)
    if not services.batch_limit.take(person.name):
        raise BadInput(wording.too_often(services.settings.batches_an_hour, per="hour"))
    submission = submission_of(file, mode=form, arms=arms, category=kind, person_id=person.id)
    return services.jobs.submit(submission, chunk_rows=services.settings.chunk_rows)
