"""Tables of the running service: vector, run, lease (who leads), process (who is alive)."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, UniqueConstraint, text
from sqlmodel import Field

from medx_core.storage.columns import PlainJson, UtcDateTime, new_public_id
from medx_core.storage.table_base import Table


class VectorTable(Table, table=True):
    """One version of a steering vector; the file itself lies under `MEDX_HOME/vectors`.

    At most one version of a (model, category) is active. `replaced_id` is the version that was active before it.
    """

    __tablename__ = "vector"
    __table_args__ = (
        UniqueConstraint("model_sha256", "name"),
        Index(
            "uq_vector_active",
            "model_sha256",
            "category",
            unique=True,
            sqlite_where=text("status = 'active'"),
            postgresql_where=text("status = 'active'"),
        ),
    )

    id: int = Field(default=None, primary_key=True)
    name: str
    version: int
    model: str
    model_sha256: str
    category: str
    preset: str
    strategy: str
    layer: int
    alpha: float
    file: str
    file_sha256: str
    diagnostics: dict[str, Any] = Field(sa_type=PlainJson)
    status: str
    replaced_id: int | None = Field(default=None, foreign_key="vector.id", ondelete="SET NULL")
    created_at: datetime = Field(sa_type=UtcDateTime)


class RunTable(Table, table=True):
    """One run of an evaluation, a training or a bench: what was set and what came out.

    A run asked for on a page waits until a worker claims it: `owner` names the claim, `heartbeat_at` says when it was
    last heard of, `attempts` counts the claims. `summary` is the part of a result that lists show.
    """

    __tablename__ = "run"
    __table_args__ = (Index("ix_run_model_sha256_kind", "model_sha256", "kind"),)

    id: int = Field(default=None, primary_key=True)
    public_id: str = Field(default_factory=new_public_id, unique=True)
    kind: str = Field(index=True)
    status: str
    settings: dict[str, Any] = Field(sa_type=PlainJson)
    requested_by: str = ""
    owner: str | None = None
    attempts: int = 0
    progress: dict[str, Any] | None = Field(default=None, sa_type=PlainJson)
    reason: str = ""
    model_sha256: str = ""
    summary: dict[str, Any] | None = Field(default=None, sa_type=PlainJson)
    result: dict[str, Any] | None = Field(default=None, sa_type=PlainJson)
    created_at: datetime = Field(sa_type=UtcDateTime)
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    heartbeat_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class LeaseTable(Table, table=True):
    """Who may do a thing that only one process at a time should do."""

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
