"""From what a person typed or uploaded to a job: checked, rate-limited, committed in one transaction."""

from pathlib import Path

from medx_core.data.identifiers import identifier_kinds
from medx_core.data.problems import FileLimits
from medx_core.data.question_files import QuestionFile, read_question_file
from medx_core.errors import BadInput
from medx_core.jobs.snapshots import JobSnapshot
from medx_core.jobs.submission import (
    file_submission,
    question_submission,
    read_arms,
    read_category,
    read_mode,
    read_question,
    read_question_text,
)
from medx_core.questions import ARM_CHOICES, Exploration, Mode, Question
from medx_core.storage.people import Person
from web import wording
from web.services import Services


def submit_question(
    services: Services, person: Person, text: str, *, mode: str, category: str, arm: str
) -> JobSnapshot:
    """Commit one question and return its job.

    Raises:
        BadInput: the question is empty, too long, or asked too often.
    """
    limit = services.settings.max_question_characters
    question = read_question(text, mode=mode, category=category, arm=arm, max_characters=limit)
    if not services.question_limit.take(person.name):
        raise BadInput(wording.too_often(services.settings.questions_a_minute, per="minute"))
    submission = question_submission(question, person_id=person.id)
    return services.jobs.submit(submission, chunk_rows=services.settings.chunk_rows)


def submit_exploration(
    services: Services, person: Person, text: str, exploration: Exploration
) -> dict[Mode, JobSnapshot]:
    """Commit one question twice as an exploration, for a verdict and for a text, and return its jobs.

    Raises:
        BadInput: the question is empty, too long, may identify a patient, or was asked too often; or no vector was chosen.
    """
    question = read_question_text(text, max_characters=services.settings.max_question_characters)
    if kinds := identifier_kinds(question):
        raise BadInput(wording.explored_identifiers(list(kinds)))
    if not exploration.vectors:
        raise BadInput("Choose at least one vector to try.")
    if not services.question_limit.take(person.name):
        raise BadInput(wording.too_often(services.settings.questions_a_minute, per="minute"))
    jobs = {}
    for mode in Mode:
        asked = Question(question, mode=mode, arms=ARM_CHOICES["both"], exploration=exploration)
        submission = question_submission(asked, person_id=person.id)
        jobs[mode] = services.jobs.submit(submission, chunk_rows=services.settings.chunk_rows)
    return jobs


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
    form, chosen, arms = read_mode(mode), read_category(category), read_arms(arm)
    file = read_upload(services, path)
    if file.refused or not file.rows:
        reason = file.problems[0].message if file.problems else "The file holds no question."
        raise BadInput(reason)
    if not services.batch_limit.take(person.name):
        raise BadInput(wording.too_often(services.settings.batches_an_hour, per="hour"))
    submission = file_submission(file, mode=form, arms=arms, category=chosen, person_id=person.id)
    return services.jobs.submit(submission, chunk_rows=services.settings.chunk_rows)
