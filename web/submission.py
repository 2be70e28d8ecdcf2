"""From what a person typed or uploaded to a job: checked, rate-limited, committed in one transaction."""

import hashlib
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from medx_core.data.patient_data import Screening, file_by_rule, masked_file, screened_text
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
from medx_core.settings import PatientDataRule
from medx_core.storage.people import Person
from web import wording
from web.services import Services


def submit_question(  # noqa: PLR0913 - one parameter per choice of the form
    services: Services,
    person: Person,
    text: str,
    *,
    mode: str,
    category: str,
    arm: str,
    as_written: bool = False,
) -> tuple[JobSnapshot, Screening]:
    """Commit one question; return its job and what was found in it that may identify a patient.

    `as_written`: the person saw what would be masked and says that it names no patient.

    Raises:
        BadInput: the question is empty, too long, asked too often, or may identify a patient and the setting refuses that.
    """
    limit = services.settings.max_question_characters
    question = read_question(text, mode=mode, category=category, arm=arm, max_characters=limit)
    stored, screening = screened_text(question.text, _rule(services, as_written=as_written))
    if not services.question_limit.take(person.name):
        raise BadInput(wording.too_often(services.settings.questions_a_minute, per="minute"))
    submission = question_submission(replace(question, text=stored), person_id=person.id)
    job = services.jobs.submit(submission, chunk_rows=services.settings.chunk_rows)
    note_screening(services, person, job, screening)
    return job, screening


def _rule(services: Services, *, as_written: bool) -> PatientDataRule:
    """Return the rule of the setting; a person's word lifts masking, never refusal."""
    rule = services.settings.patient_data
    return PatientDataRule.WARN if as_written and rule is PatientDataRule.MASK else rule


def note_screening(services: Services, person: Person, job: JobSnapshot, screening: Screening) -> None:
    """Note in the audit log what was masked or left as written: kinds and counts."""
    if screening:
        action = (
            "mask patient data" if screening.rule is PatientDataRule.MASK else "keep patient data as written"
        )
        services.audit.append(
            person.name, action, f"job {job.public_id}", {"kinds": screening.as_json()["kinds"]}
        )


def submit_exploration(
    services: Services, person: Person, text: str, exploration: Exploration
) -> dict[Mode, JobSnapshot]:
    """Commit one question twice as an exploration, for a verdict and for a text, and return its jobs.

    Raises:
        BadInput: the question is empty, too long, asked too often, or may identify a patient and the setting refuses
            that; or no vector was chosen.
    """
    question = read_question_text(text, max_characters=services.settings.max_question_characters)
    question, screening = screened_text(question, services.settings.patient_data)
    if not exploration.vectors:
        raise BadInput("Choose at least one vector to try.")
    if not services.question_limit.take(person.name):
        raise BadInput(wording.too_often(services.settings.questions_a_minute, per="minute"))
    jobs = {}
    for mode in Mode:
        asked = Question(question, mode=mode, arms=ARM_CHOICES["both"], exploration=exploration)
        submission = question_submission(asked, person_id=person.id)
        jobs[mode] = services.jobs.submit(submission, chunk_rows=services.settings.chunk_rows)
    note_screening(services, person, jobs[Mode.VERDICT], screening)
    return jobs


def read_upload(services: Services, path: str | None) -> QuestionFile:
    """Read and check an uploaded file; nothing is queued.

    Raises:
        BadInput: there is no file.
    """
    return read_question_file(_chosen(path), limits=FileLimits.of(services.settings))


def _chosen(path: str | None) -> Path:
    if not path:
        raise BadInput(wording.CHOOSE_FILE)
    return Path(path)


def screened_upload(services: Services, path: str | None) -> Screening:
    """Return what a file holds that may identify a patient, whatever the setting does with it.

    Raises:
        BadInput: there is no file.
    """
    _, screening = _masked_upload(services, _chosen(path))
    return replace(screening, rule=services.settings.patient_data)


def _masked_upload(services: Services, path: Path) -> tuple[QuestionFile, Screening]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return _masked_content(path, digest, FileLimits.of(services.settings))


# A file is looked at when it is chosen and again when it is run; large ones take minutes. Only what is masked is kept.
@lru_cache(maxsize=4)
def _masked_content(path: Path, digest: str, limits: FileLimits) -> tuple[QuestionFile, Screening]:  # noqa: ARG001 - a key
    return masked_file(read_question_file(path, limits=limits))


def submit_file(  # noqa: PLR0913 - one parameter per choice of the form
    services: Services,
    person: Person,
    path: str | None,
    *,
    mode: str,
    category: str,
    arm: str,
    as_written: bool = False,
) -> tuple[JobSnapshot, Screening]:
    """Commit a file's rows as one job; return it and what was found in them that may identify a patient.

    The uploaded copy is removed from the disk. `as_written`: the person saw what would be masked and says that it names
    no patient.

    Raises:
        BadInput: the file is refused or holds no question, too many files were sent, or it may identify a patient and the
            setting refuses that.
    """
    form, chosen, arms = read_mode(mode), read_category(category), read_arms(arm)
    file = read_upload(services, path)
    if file.refused or not file.rows:
        reason = file.problems[0].message if file.problems else "The file holds no question."
        raise BadInput(reason)
    if not services.batch_limit.take(person.name):
        raise BadInput(wording.too_often(services.settings.batches_an_hour, per="hour"))
    rule = _rule(services, as_written=as_written)
    stored, screening = file_by_rule(file, *_masked_upload(services, _chosen(path)), rule)
    submission = file_submission(stored, mode=form, arms=arms, category=chosen, person_id=person.id)
    job = services.jobs.submit(submission, chunk_rows=services.settings.chunk_rows)
    note_screening(services, person, job, screening)
    _chosen(path).unlink(missing_ok=True)
    return job, screening
