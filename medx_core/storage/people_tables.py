"""Tables of people and of what they did: person, rating, rating_history, audit."""

from datetime import datetime
from typing import Any

from sqlalchemy import UniqueConstraint
from sqlmodel import Field

from medx_core.storage.columns import PlainJson, UtcDateTime, new_public_id
from medx_core.storage.table_base import Table


class PersonTable(Table, table=True):
    """Somebody who may sign in. `name_key` is the name without regard to case, so that no two look alike."""

    __tablename__ = "person"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: int = Field(default=None, primary_key=True)
    name: str
    name_key: str = Field(unique=True)
    role: str
    password_hash: str
    disabled: bool = False
    session_epoch: int = 1
    created_at: datetime = Field(sa_type=UtcDateTime)


class RatingTable(Table, table=True):
    """One clinician's judgement of one answer: the raw fields of the form, never what is derived from them."""

    __tablename__ = "rating"
    __table_args__ = (UniqueConstraint("answer_id", "rater_id"),)

    id: int = Field(default=None, primary_key=True)
    public_id: str = Field(default_factory=new_public_id, unique=True)
    answer_id: int = Field(foreign_key="answer.id", ondelete="CASCADE")
    rater_id: int = Field(foreign_key="person.id", index=True)
    version: int = 1
    form_version: int
    form: dict[str, Any] = Field(sa_type=PlainJson)
    seconds: float
    seen: list[str] = Field(sa_type=PlainJson)
    created_at: datetime = Field(sa_type=UtcDateTime)
    changed_at: datetime = Field(sa_type=UtcDateTime)


class RatingHistoryTable(Table, table=True):
    """A rating as it stood before its rater changed it."""

    __tablename__ = "rating_history"
    __table_args__ = (UniqueConstraint("rating_id", "version"),)

    id: int = Field(default=None, primary_key=True)
    rating_id: int = Field(foreign_key="rating.id", ondelete="CASCADE")
    version: int
    form_version: int
    form: dict[str, Any] = Field(sa_type=PlainJson)
    seconds: float
    seen: list[str] = Field(sa_type=PlainJson)
    written_at: datetime = Field(sa_type=UtcDateTime)
    replaced_at: datetime = Field(sa_type=UtcDateTime)


class AuditTable(Table, table=True):
    """One act that must stay traceable. `hash` covers this row and the hash before it; `detail` is canonical JSON."""

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
