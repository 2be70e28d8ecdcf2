"""The time of day, in one place: always aware, always UTC."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the present moment with its UTC offset, whole microseconds."""
    return datetime.now(UTC)


def iso(moment: datetime | None) -> str | None:
    """Return `moment` as ISO 8601 in UTC to the second, or None."""
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="seconds")
