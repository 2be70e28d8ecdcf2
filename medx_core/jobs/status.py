"""The states a job and its items go through.

An item: queued -> running -> answered; or cancelled; or quarantined after too many failed attempts.
A job is finished once none of its items is queued or running.
"""

from enum import StrEnum


class JobKind(StrEnum):
    """What was submitted. Interactive questions travel in a queue of their own, ahead of batches.

    An exploration is a question that an engineer tries vectors on: it is no measured answer, and never rated.
    """

    QUESTION = "question"
    BATCH = "batch"
    EXPLORATION = "exploration"


class JobStatus(StrEnum):
    """The state of a submission."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


class ItemStatus(StrEnum):
    """The state of one question of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    ANSWERED = "answered"
    QUARANTINED = "quarantined"
    CANCELLED = "cancelled"


UNFINISHED = (ItemStatus.QUEUED, ItemStatus.RUNNING)
