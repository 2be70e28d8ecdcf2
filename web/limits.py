"""Rate limits on signing in and asking, shared by all web processes of an installation.

Counts are kept in Redis by the `limits` library, in windows that begin with the first attempt. Counting and deciding
are one step, so that two requests at the same moment cannot both take the last attempt. While the broker cannot be
reached each web process counts on its own.
"""

import hashlib
import logging
import time
from dataclasses import dataclass

from limits import RateLimitItem, RateLimitItemPerHour, RateLimitItemPerMinute
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import FixedWindowRateLimiter
from redis import ConnectionPool
from redis.exceptions import RedisError

from medx_core.jobs.messages import redis_client_url

log = logging.getLogger(__name__)

AWAY_SECONDS = 5.0
TIMEOUT_SECONDS = 2


class AttemptCounts:
    """The counts of all limits: in Redis, else in this process."""

    def __init__(self, redis_url: str) -> None:
        self._own = FixedWindowRateLimiter(MemoryStorage())
        self._shared: FixedWindowRateLimiter | None = None
        self._away_until = 0.0
        if redis_url:
            pool = ConnectionPool.from_url(
                redis_client_url(redis_url),
                socket_connect_timeout=TIMEOUT_SECONDS,
                socket_timeout=TIMEOUT_SECONDS,
            )
            storage = RedisStorage("redis://", connection_pool=pool, key_prefix="medx-limits")
            self._shared = FixedWindowRateLimiter(storage)

    def add(self, limit: RateLimitItem, key: str, *, attempts: int) -> bool:
        """Add to the count of `key`; return whether it is still within the limit."""
        # Hashed: people type passwords into the field for the name, and Redis may be read by others.
        hashed = hashlib.sha256(key.encode()).hexdigest()
        if self._shared is not None and time.monotonic() >= self._away_until:
            try:
                return self._shared.hit(limit, hashed, cost=attempts)
            except (RedisError, OSError) as error:
                self._note_away(type(error).__name__)
        return self._own.hit(limit, hashed, cost=attempts)

    def is_shared(self) -> bool:
        """Whether the counts hold across web processes now."""
        if self._shared is None or time.monotonic() < self._away_until:
            return False
        if not self._shared.storage.check():
            self._note_away("no answer to PING")
            return False
        return True

    def _note_away(self, reason: str) -> None:
        log.warning("the broker is away, limits are counted per web process: %s", reason)
        self._away_until = time.monotonic() + AWAY_SECONDS


@dataclass(frozen=True)
class AttemptLimit:
    """One limit: how often a key (a person, an address) may do one thing within one window."""

    counts: AttemptCounts
    limit: RateLimitItem

    def take(self, key: str) -> bool:
        """Count one attempt; return whether it is allowed."""
        return self.counts.add(self.limit, key, attempts=1)

    def give_back(self, key: str) -> None:
        """Take back one attempt that should not have counted."""
        self.counts.add(self.limit, key, attempts=-1)


def per_minute(counts: AttemptCounts, name: str, attempts: int) -> AttemptLimit:
    """Return a limit on attempts per minute."""
    return AttemptLimit(counts, RateLimitItemPerMinute(attempts, namespace=name))


def per_hour(counts: AttemptCounts, name: str, attempts: int) -> AttemptLimit:
    """Return a limit on attempts per hour."""
    return AttemptLimit(counts, RateLimitItemPerHour(attempts, namespace=name))
