"""How fast a job goes and how long it will still take, from what has been answered."""

from collections.abc import Iterable
from datetime import datetime

from medx_core.jobs.snapshots import JobSnapshot
from medx_core.jobs.status import JobKind, JobStatus
from medx_core.questions import Mode


def rows_a_second(job: JobSnapshot, now: datetime) -> float | None:
    """Return the job's pace since its first row was taken; None before anything is finished."""
    done = job.progress.answered + job.progress.quarantined
    if job.started_at is None or not done:
        return None
    elapsed = ((job.finished_at or now) - job.started_at).total_seconds()
    return done / elapsed if elapsed > 0 else None


def seconds_left(job: JobSnapshot, now: datetime) -> float | None:
    """Return the estimated seconds to the end; None when nothing can be said or nothing is left."""
    pace = rows_a_second(job, now)
    left = job.progress.total - job.progress.finished
    return left / pace if pace and left else None


def pace_before(jobs: Iterable[JobSnapshot], mode: Mode, now: datetime) -> float | None:
    """Return the pace of the newest finished batch of this mode, None when there is none."""
    finished = (
        job for job in jobs if job.kind is JobKind.BATCH and job.status is JobStatus.DONE and job.mode is mode
    )
    return next((pace for job in finished if (pace := rows_a_second(job, now))), None)
