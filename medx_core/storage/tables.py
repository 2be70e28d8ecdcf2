"""All tables: what is stored about jobs, people, ratings, vectors, runs and the running service."""

import secrets
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Index, MetaData, String, UniqueConstraint, text
from sqlalchemy.orm import registry
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel

from medx_core.categories import Category, RouteSource
from medx_core.jobs.status import ItemStatus, JobKind, JobStatus
from medx_core.questions import Arm, Mode, Verdict

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_CATALOGUE = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Table(SQLModel, registry=registry(metadata=_CATALOGUE)):
    """The base of MedX's tables, in a catalogue of their own."""

    metadata: ClassVar[MetaData]


Value = TypeVar("Value", bound="DataclassInstance")


def as_value(kind: type[Value], row: Table, /, **others: Any) -> Value:
    """Return a frozen value made of a row's columns of the same names; `others` are its remaining fields."""
    names = (field.name for field in fields(kind) if field.name not in others)
    return kind(**{name: getattr(row, name) for name in names}, **others)


class Word(TypeDecorator[StrEnum]):
    """A member of `members`, stored as its text."""

    impl = String
    cache_ok = True

    def __init__(self, members: type[StrEnum]) -> None:
        super().__init__()
        self.members = members

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - signature of SQLAlchemy
        """Return the text that is stored."""
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> StrEnum | None:  # noqa: ARG002 - as above
        """Return the member whose text was stored."""
        return None if value is None else self.members(value)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment that is aware and in UTC on both engines; SQLite by itself would drop the offset."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn `value` into UTC; a naive moment is a mistake and is refused."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("A moment without an offset cannot be stored; use clock.utc_now().")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - signature of SQLAlchemy
        """Give the moment back with its UTC offset, whatever the session's time zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# Plain JSON, not JSONB: the carried columns of a file keep their order. None is SQL NULL, not the JSON word.
PlainJson = JSON(none_as_null=True)


def new_public_id() -> str:
    """Return an id for addresses: 128 random bits in 22 letters."""
    return secrets.token_urlsafe(16)


class LeasedTable(Table):
    """Work that one process at a time holds under a lease: a question of a job, or a run.

    `fence` rises with every lease; results are taken from the holder of the present one only. `attempts` counts the
    leases of workers. `sent_at` is when the message about it last went to the broker; None while that waits to be sent.
    """

    status: str
    reason: str = ""
    attempts: int = 0
    fence: int = 0
    owner: str | None = None
    lease_until: datetime | None = Field(default=None, sa_type=UtcDateTime)
    sent_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)

    def has_expired(self, now: datetime) -> bool:
        """Whether its lease has run out."""
        has_run_out = self.lease_until is None or self.lease_until <= now
        return self.status == ItemStatus.RUNNING and has_run_out

    def is_free(self, now: datetime) -> bool:
        """Whether it waits, or its lease has run out."""
        return self.status == ItemStatus.QUEUED or self.has_expired(now)

    def is_held_by(self, owner: str, fence: int) -> bool:
        """Whether this lease is the present one; it may have run out."""
        return (self.status, self.owner, self.fence) == (ItemStatus.RUNNING, owner, fence)

    def take(self, owner: str, now: datetime, seconds: float) -> None:
        """Begin a new lease."""
        self.status, self.owner = ItemStatus.RUNNING, owner
        self.lease_until = now + timedelta(seconds=seconds)
        self.fence += 1

    def wait_again(self) -> None:
        """End the lease, so that somebody else may take one; a new message has to be sent."""
        self.status = ItemStatus.QUEUED
        self.owner = self.lease_until = self.sent_at = None

    def close(self, status: StrEnum, now: datetime, reason: str = "") -> None:
        """End the lease and the work."""
        self.status, self.reason, self.finished_at = status, reason, now
        self.owner = self.lease_until = None


class JobTable(Table, table=True):
    """One submission. `status` follows its items, except that a cancelled job stays cancelled.

    A `local` job is answered by the command that submitted it: no message about it goes to the broker. `exploration`
    holds the fields of an `Exploration`, None in all other jobs. `recipe` is the id of the one that it is bound to: that in use
    where its first question was leased, or the one that took its place; None before, and in explorations.
    """

    __tablename__ = "job"

    id: int = Field(default=None, primary_key=True)
    public_id: str = Field(default_factory=new_public_id, unique=True)
    kind: JobKind = Field(sa_type=Word(JobKind))
    status: JobStatus = Field(sa_type=Word(JobStatus))
    mode: Mode = Field(sa_type=Word(Mode))
    arms: list[str] = Field(sa_type=PlainJson)
    category: Category | None = Field(default=None, sa_type=Word(Category))
    title: str = ""
    file_sha256: str = ""
    carried_columns: list[str] = Field(sa_type=PlainJson)
    person_id: int | None = Field(default=None, foreign_key="person.id", ondelete="SET NULL", index=True)
    created_at: datetime = Field(sa_type=UtcDateTime, index=True)
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    local: bool = False
    exploration: dict[str, Any] | None = Field(default=None, sa_type=PlainJson)
    recipe: str | None = None


class ItemTable(LeasedTable, table=True):
    """One question of a job."""

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
    category: Category | None = Field(default=None, sa_type=Word(Category))
    expected: bool | None = None
    harm: str = ""
    urgency: str = ""
    carried: dict[str, str] = Field(sa_type=PlainJson)
    status: ItemStatus = Field(sa_type=Word(ItemStatus))
    route_source: RouteSource | None = Field(default=None, sa_type=Word(RouteSource))
    route_category: Category | None = Field(default=None, sa_type=Word(Category))
    route_probabilities: dict[str, float] | None = Field(default=None, sa_type=PlainJson)
    route_red_flag: bool = False
    route_router: str = ""


class AnswerTable(Table, table=True):
    """One arm's answer to one item, with everything needed to reproduce it.

    `shuffle` is a random number below 2^31 from which each rater's order of answers is derived.
    """

    __tablename__ = "answer"
    __table_args__ = (UniqueConstraint("item_id", "arm"), {"sqlite_autoincrement": True})

    id: int = Field(default=None, primary_key=True)
    public_id: str = Field(default_factory=new_public_id, unique=True)
    item_id: int = Field(foreign_key="item.id", ondelete="CASCADE")
    arm: Arm = Field(sa_type=Word(Arm))
    verdict: Verdict | None = Field(default=None, sa_type=Word(Verdict))
    raw_verdict: Verdict | None = Field(default=None, sa_type=Word(Verdict))
    score: float | None = None
    probability: float | None = None
    text: str | None = None
    model: str
    model_sha256: str
    recipe: str | None = None
    vector: str | None = None
    layer: int | None = None
    alpha: float | None = None
    dose: float | None = None
    perplexity: float | None = None
    repetition: float | None = None
    prompt_version: str
    seconds: float
    tokens: int | None = None
    finish: str
    note: str = ""
    shuffle: int = Field(sa_type=BigInteger)
    created_at: datetime = Field(sa_type=UtcDateTime)


class OutboxTable(Table, table=True):
    """A message that was committed with its job or its run and still has to reach the broker."""

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
    job_id: int | None = Field(default=None, foreign_key="job.id", ondelete="CASCADE", index=True)
    run_id: int | None = Field(default=None, foreign_key="run.id", ondelete="CASCADE", index=True)
    queue: str
    priority: int
    message: dict[str, Any] = Field(sa_type=PlainJson)
    created_at: datetime = Field(sa_type=UtcDateTime)
    sent_at: datetime | None = Field(default=None, sa_type=UtcDateTime, index=True)


class PersonTable(Table, table=True):
    """A person who may sign in. `name_key` is the name without regard to case, so that no two look alike."""

    __tablename__ = "person"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: int = Field(default=None, primary_key=True)
    name: str
    name_key: str = Field(unique=True)
    role: str
    password_hash: str
    disabled: bool = False
    created_at: datetime = Field(sa_type=UtcDateTime)


class CredentialKind(StrEnum):
    """What lets somebody in without a password: a session, the token of a program, or a one-time link."""

    SESSION = "session"
    TOKEN = "token"  # noqa: S105 - a kind, not a secret
    LINK = "link"


class CredentialTable(Table, table=True):
    """A session, a token or a one-time link of one person. Only the SHA-256 of its secret is stored."""

    __tablename__ = "credential"

    id: int = Field(default=None, primary_key=True)
    public_id: str = Field(default_factory=new_public_id, unique=True)
    kind: CredentialKind = Field(sa_type=Word(CredentialKind))
    secret_sha256: str = Field(unique=True)
    person_id: int = Field(foreign_key="person.id", ondelete="CASCADE", index=True)
    title: str = ""
    address: str = ""
    scopes: list[str] = Field(sa_type=PlainJson)
    created_at: datetime = Field(sa_type=UtcDateTime)
    seen_at: datetime = Field(sa_type=UtcDateTime)
    ends_at: datetime = Field(sa_type=UtcDateTime, index=True)


class InstallationTable(Table, table=True):
    """One row: the id that cookies and signatures are bound to, the same for all processes on this database."""

    __tablename__ = "installation"

    id: int = Field(default=1, primary_key=True)
    public_id: str
    created_at: datetime = Field(sa_type=UtcDateTime)


class RatedTable(Table):
    """A rating as it was given at one time: the raw fields of the form, never what is derived from them."""

    version: int = 1
    form_version: int
    form: dict[str, Any] = Field(sa_type=PlainJson)
    seconds: float
    seen: list[str] = Field(sa_type=PlainJson)


class RatingTable(RatedTable, table=True):
    """One clinician's present judgement of one answer."""

    __tablename__ = "rating"
    __table_args__ = (UniqueConstraint("answer_id", "rater_id"),)

    id: int = Field(default=None, primary_key=True)
    public_id: str = Field(default_factory=new_public_id, unique=True)
    answer_id: int = Field(foreign_key="answer.id", ondelete="CASCADE")
    rater_id: int = Field(foreign_key="person.id", index=True)
    created_at: datetime = Field(sa_type=UtcDateTime)
    changed_at: datetime = Field(sa_type=UtcDateTime)


class RatingHistoryTable(RatedTable, table=True):
    """A rating as it was before its rater changed it."""

    __tablename__ = "rating_history"
    __table_args__ = (UniqueConstraint("rating_id", "version"),)

    id: int = Field(default=None, primary_key=True)
    rating_id: int = Field(foreign_key="rating.id", ondelete="CASCADE")
    written_at: datetime = Field(sa_type=UtcDateTime)
    replaced_at: datetime = Field(sa_type=UtcDateTime)


class AuditTable(Table, table=True):
    """One action that must stay traceable. `hash` covers this row and the hash before it; `detail` is canonical JSON."""

    __tablename__ = "audit"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: int = Field(default=None, primary_key=True)
    at: datetime = Field(sa_type=UtcDateTime)
    actor: str
    action: str
    target: str
    detail: str
    previous_hash: str
    hash: str = Field(unique=True)


class VectorTable(Table, table=True):
    """One version of a steering vector; the file itself lies under `MEDX_HOME/vectors`.

    `category` is None for a vector of all categories together.
    """

    __tablename__ = "vector"
    __table_args__ = (UniqueConstraint("model_sha256", "name"),)

    id: int = Field(default=None, primary_key=True)
    name: str
    version: int
    model: str
    model_sha256: str
    category: Category | None = Field(default=None, sa_type=Word(Category))
    preset: str
    strategy: str
    layer: int
    alpha: float
    positions: str = ""
    file: str
    file_sha256: str
    diagnostics: dict[str, Any] = Field(sa_type=PlainJson)
    status: str
    created_at: datetime = Field(sa_type=UtcDateTime)


class RecipeTable(Table, table=True):
    """One recipe under the hash of its content, which never changes.

    At most one per model and number type is in use. `replaced_id` is the recipe that was in use before it.
    """

    __tablename__ = "recipe"
    __table_args__ = (
        Index(
            "uq_recipe_in_use",
            "model_sha256",
            "number_type",
            unique=True,
            sqlite_where=text("status = 'in use'"),
            postgresql_where=text("status = 'in use'"),
        ),
    )

    id: str = Field(primary_key=True)
    name: str
    model: str
    model_sha256: str
    number_type: str
    content: dict[str, Any] = Field(sa_type=PlainJson)
    status: str
    replaced_id: str | None = Field(default=None, foreign_key="recipe.id", ondelete="SET NULL")
    created_at: datetime = Field(sa_type=UtcDateTime)


class RunTable(LeasedTable, table=True):
    """One run of an evaluation or another long job: what was set and what came out.

    `attempts` is 0 for a run that a command began in its own process. `summary` is the part of a result that lists
    show; `items` holds what was measured per statement, as a Parquet file.
    """

    __tablename__ = "run"
    __table_args__ = (Index("ix_run_model_sha256_kind", "model_sha256", "kind"),)

    id: int = Field(default=None, primary_key=True)
    public_id: str = Field(default_factory=new_public_id, unique=True)
    kind: str = Field(index=True)
    settings: dict[str, Any] = Field(sa_type=PlainJson)
    requested_by: str = ""
    progress: dict[str, Any] | None = Field(default=None, sa_type=PlainJson)
    model_sha256: str = ""
    summary: dict[str, Any] | None = Field(default=None, sa_type=PlainJson)
    result: dict[str, Any] | None = Field(default=None, sa_type=PlainJson)
    items: bytes | None = None
    created_at: datetime = Field(sa_type=UtcDateTime)
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class LeaseTable(Table, table=True):
    """The holder of a duty that only one process at a time should have."""

    __tablename__ = "lease"

    name: str = Field(primary_key=True)
    owner: str
    until: datetime = Field(sa_type=UtcDateTime)


class ProcessTable(Table, table=True):
    """When a worker or web process last made progress or polled."""

    __tablename__ = "process"

    name: str = Field(primary_key=True)
    kind: str
    detail: dict[str, Any] = Field(sa_type=PlainJson)
    started_at: datetime = Field(sa_type=UtcDateTime)
    seen_at: datetime = Field(sa_type=UtcDateTime)


metadata = Table.metadata
