"""Tables of the work: job, item, answer, outbox.

Keys are integers inside; whatever stands in an address has a `public_id`. States are stored as the words of
`medx_core.jobs.status`.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, UniqueConstraint, text
from sqlmodel import Field

from medx_core.storage.columns import PlainJson, UtcDateTime, new_public_id
from medx_core.storage.table_base import Table


class JobTable(Table, table=True):
    """One submission. `status` follows its items, except that a cancelled job stays cancelled."""

    __tablename__ = "job"

    id: int = Field(default=None, primary_key=True)
    public_id: str = Field(default_factory=new_public_id, unique=True)
    kind: str
    status: str
    mode: str
    arms: list[str] = Field(sa_type=PlainJson)
    category: str | None = None
    title: str = ""
    file_sha256: str = ""
    carried_columns: list[str] = Field(sa_type=PlainJson)
    person_id: int | None = Field(default=None, foreign_key="person.id", ondelete="SET NULL", index=True)
    created_at: datetime = Field(sa_type=UtcDateTime, index=True)
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class ItemTable(Table, table=True):
    """One question of a job.

    `fence` rises with every lease; results are taken only from the holder of the present one. `sent_at` is when its
    outbox row last went to the broker; None while a row waits to be sent.
    """

    __tablename__ = "item"
    __table_args__ = (
        UniqueConstraint("job_id", "row_number"),
        Index("ix_item_job_id_status", "job_id", "status"),
        Index("ix_item_status_lease_until", "status", "lease_until"),
        Index("ix_item_status_sent_at", "status", "sent_at"),
        # A message may outlive the row it names; an id must then name nothing, never another question.
        {"sqlite_autoincrement": True},
    )

    id: int = Field(default=None, primary_key=True)
    job_id: int = Field(foreign_key="job.id", ondelete="CASCADE")
    row_number: int
    given_id: str = ""
    text: str
    category: str | None = None
    expected: bool | None = None
    harm: str = ""
    urgency: str = ""
    carried: dict[str, str] = Field(sa_type=PlainJson)
    status: str
    reason: str = ""
    attempts: int = 0
    fence: int = 0
    owner: str | None = None
    lease_until: datetime | None = Field(default=None, sa_type=UtcDateTime)
    sent_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    route_source: str | None = None
    route_category: str | None = None
    route_probabilities: dict[str, float] | None = Field(default=None, sa_type=PlainJson)
    route_red_flag: bool = False
    route_router: str = ""


class AnswerTable(Table, table=True):
    """One arm's answer to one item, with everything needed to make it again.

    `shuffle` is a random number below 2^31 from which each rater's order of answers is derived.
    """

    __tablename__ = "answer"
    __table_args__ = (UniqueConstraint("item_id", "arm"), {"sqlite_autoincrement": True})

    id: int = Field(default=None, primary_key=True)
    public_id: str = Field(default_factory=new_public_id, unique=True)
    item_id: int = Field(foreign_key="item.id", ondelete="CASCADE")
    arm: str
    verdict: str | None = None
    raw_verdict: str | None = None
    score: float | None = None
    calibrated: bool = False
    text: str | None = None
    model: str
    model_sha256: str
    vector: str | None = None
    layer: int | None = None
    alpha: float | None = None
    prompt_version: str
    seconds: float
    tokens: int | None = None
    finish: str
    note: str = ""
    detail: dict[str, Any] | None = Field(default=None, sa_type=PlainJson)
    shuffle: int = Field(sa_type=BigInteger)
    created_at: datetime = Field(sa_type=UtcDateTime)


class OutboxTable(Table, table=True):
    """A message that was committed with what it is about and still has to reach the broker."""

    __tablename__ = "outbox"
    __table_args__ = (
        Index(
            "ix_outbox_unsent",
            "priority",
            "id",
            sqlite_where=text("sent_at IS NULL"),
            postgresql_where=text("sent_at IS NULL"),
        ),
    )

    id: int = Field(default=None, primary_key=True)
    job_id: int = Field(foreign_key="job.id", ondelete="CASCADE", index=True)
    queue: str
    priority: int
    message: dict[str, Any] = Field(sa_type=PlainJson)
    created_at: datetime = Field(sa_type=UtcDateTime)
    sent_at: datetime | None = Field(default=None, sa_type=UtcDateTime, index=True)
