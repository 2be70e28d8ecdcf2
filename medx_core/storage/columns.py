"""Column types that read the same from SQLite and PostgreSQL, and ids that cannot be guessed."""

import secrets
from datetime import UTC, datetime

from sqlalchemy import JSON, DateTime, Dialect
from sqlalchemy.types import TypeDecorator


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
