"""`medx jobs`: questions and batches in the database, whoever handed them in, under the ids that the pages show."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from medx_core import __version__
from medx_core.cli.database import note, opened_database
from medx_core.cli.outputs import AsJson, print_json
from medx_core.clock import iso
from medx_core.errors import BadInput
from medx_core.jobs.snapshots import ItemSnapshot, JobSnapshot, recipes_in_words
from medx_core.jobs.status import ItemStatus, JobStatus
from medx_core.settings import settings
from medx_core.storage.health import HealthStore
from medx_core.storage.jobs import JobStore

SET_ASIDE_SHOWN = 20
STATUS_WORDS = {
    JobStatus.QUEUED: "waiting",
    JobStatus.RUNNING: "running",
    JobStatus.DONE: "finished",
    JobStatus.CANCELLED: "cancelled",
}
WORKER_AWAY = "No worker has been seen lately; waiting questions are kept and answered once a worker runs (medx serve worker)."

# An id may begin with a dash, and is not an option then.
TAKES_ID: dict[str, Any] = {"context_settings": {"ignore_unknown_options": True}}

app = typer.Typer(help="Questions and batches: list, follow, try again, cancel.", no_args_is_help=True)

JobId = Annotated[
    str, typer.Argument(metavar="ID", help="The job's id, from `medx jobs list` or a page's address.")
]


@app.command("list")
def list_jobs(
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the newest jobs of everybody."""
    with opened_database() as database:
        recent = JobStore(database).recent(limit=limit)
    if as_json:
        _print({"jobs": [_contract(job) for job in recent]})
        return
    for job in recent:
        print(_line(job))
    if not recent:
        print("There is no job yet.")


@app.command(**TAKES_ID)
def show(job_id: JobId, as_json: AsJson = False) -> None:
    """Show how far a job is, and which of its questions were set aside, and why."""
    with opened_database() as database:
        jobs = JobStore(database)
        job = jobs.get(job_id)
        aside = _set_aside(jobs, job)
        recipes = jobs.recipes(job_id)
    if as_json:
        fields = [
            {"row": item.row, "id": item.given_id, "attempts": item.attempts, "reason": item.reason}
            for item in aside
        ]
        _print(_contract(job) | {"set_aside": fields, "recipes": [asdict(count) for count in recipes]})
        return
    print(_line(job))
    if several := recipes_in_words(recipes):
        print(f"  {several}")
    for item in aside[:SET_ASIDE_SHOWN]:
        attempts = "1 attempt" if item.attempts == 1 else f"{item.attempts} attempts"
        print(f"  row {item.row} was set aside after {attempts}: {item.reason}")
    if len(aside) > SET_ASIDE_SHOWN:
        print(f"  and {len(aside) - SET_ASIDE_SHOWN:,} more; --json lists them all.")


@app.command(**TAKES_ID)
def retry(
    job_id: JobId,
    row: Annotated[
        int | None, typer.Option(help="Only this row; without it, all that were set aside.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Queue the questions of a job that were set aside again, with their attempts counted from zero."""
    with opened_database() as database:
        jobs, health = JobStore(database), HealthStore(database)
        if jobs.get(job_id).status is JobStatus.CANCELLED:
            raise BadInput("There is nothing to try again: this job was cancelled.")
        aside = [item for item in _set_aside(jobs, jobs.get(job_id)) if row in {None, item.row}]
        if not aside:
            which = "no question of this job was" if row is None else f"row {row} of this job was not"
            raise BadInput(f"There is nothing to try again: {which} set aside.")
        again = 0
        try:
            for item in aside:
                health.retry_quarantined(item.id)
                again += 1
        finally:  # each retry is a transaction of its own: a fault in between must not hide those before it
            note(database, "retry", f"job {job_id}", count=again)
        job = jobs.get(job_id)
        workers = health.live_workers(seen_within_seconds=settings().worker_seen_seconds)
        refused = health.refusal(seen_within_seconds=settings().worker_seen_seconds)
    if as_json:
        _print(_contract(job) | {"retried": [item.row for item in aside]})
        return
    print(f"{len(aside):,} question{'s wait' if len(aside) > 1 else ' waits'} again.")
    if not workers:
        print(refused or WORKER_AWAY)


@app.command(**TAKES_ID)
def cancel(job_id: JobId, as_json: AsJson = False) -> None:
    """Cancel what is not answered yet; what is finished stays."""
    with opened_database() as database:
        jobs = JobStore(database)
        before = jobs.get(job_id)
        if before.finished_at is not None:
            raise BadInput(f"There is nothing to cancel: this job is {STATUS_WORDS[before.status]}.")
        job = jobs.cancel(job_id)
        note(database, "cancel job", f"job {job_id}")
    if as_json:
        _print(_contract(job))
        return
    print(_line(job))
    if job.finished_at is None:
        print("What is being answered at this moment ends when its worker looks next.")


def _contract(job: JobSnapshot) -> dict[str, Any]:
    """Return the state of a job and what it is about."""
    about = {"kind": job.kind, "title": job.title, "person": job.person, "mode": job.mode, "arms": job.arms}
    return job.as_json() | about


def _line(job: JobSnapshot) -> str:
    progress = job.progress
    counts = [f"answered {progress.answered:,} of {progress.total:,}"]
    rest = {"running": progress.running, "set aside": progress.quarantined, "cancelled": progress.cancelled}
    counts += [f"{state} {count:,}" for state, count in rest.items() if count]
    title = " ".join(job.title.split())
    about = f"{job.kind.value} “{title}”" + (f" of {job.person}" if job.person else "")
    return f"{job.public_id}  {STATUS_WORDS[job.status]} · {' · '.join(counts)} · {about} · {iso(job.created_at)}"


def _set_aside(jobs: JobStore, job: JobSnapshot) -> list[ItemSnapshot]:
    # At least 1: a limit of 0 would miss a question that was set aside a moment ago.
    most = max(1, job.progress.quarantined)
    return jobs.items(job.public_id, status=ItemStatus.QUARANTINED, limit=most)[0]


def _print(content: dict[str, Any]) -> None:
    print_json(content | {"medx_version": __version__})
