"""Reads the text of answers while a worker writes it.

Redis being away is not an error: the text then appears when the database has the answer.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from medx_core.jobs.messages import redis_client_url, token_stream_name

log = logging.getLogger(__name__)

AWAY_SECONDS = 5.0


@dataclass
class StreamedText:
    """What has been read so far of one item's streams: the text per arm and the next stream offset."""

    item_id: int
    arms: tuple[str, ...]
    text: dict[str, str] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    last: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.last = {token_stream_name(self.item_id, arm): "0-0" for arm in self.arms}

    def take(self, name: str, entry_id: str, fields: Mapping[str, str]) -> None:
        """Add one stream entry; an answer that starts again drops its earlier text."""
        arm = name.rsplit(":", 1)[-1]
        self.last[name] = entry_id
        so_far = "" if fields.get("restart") else self.text.get(arm, "")
        self.text[arm] = so_far + fields.get("text", "")
        if fields.get("done"):
            self.done.add(arm)
            del self.last[name]


class TokenStreams:
    """A reader for the whole web process."""

    def __init__(self, url: str) -> None:
        self._url = redis_client_url(url) if url else ""
        self._away_until = 0.0

    @property
    def reachable(self) -> bool:
        """Whether reading is worth trying: there is a Redis and it answered the last time."""
        return bool(self._url) and time.monotonic() >= self._away_until

    def client(self) -> "Redis":
        """Return a client for one follower; close it with `aclose()`."""
        return Redis.from_url(self._url, decode_responses=True, socket_connect_timeout=2, socket_timeout=5)

    async def read_on(self, client: "Redis", streamed: StreamedText, *, wait_seconds: float) -> bool:
        """Add what has arrived to `streamed`, waiting up to `wait_seconds` for it; say whether anything did."""
        try:
            streams: dict[Any, Any] = dict(streamed.last)
            arrived: Any = await client.xread(streams, count=64, block=max(1, int(wait_seconds * 1000)))
        except (RedisError, OSError) as error:
            log.warning("token streams are away: %s", type(error).__name__)
            self._away_until = time.monotonic() + AWAY_SECONDS
            return False
        entries = arrived.items() if isinstance(arrived, dict) else arrived
        any_text = False
        for name, records in entries:
            for entry_id, fields in _flat(records):
                streamed.take(name, entry_id, fields)
                any_text = True
        return any_text


def _flat(records: Any) -> list[tuple[str, dict[str, str]]]:
    """Records come as a list of pairs, or nested once more under RESP3."""
    if records and isinstance(records[0], list) and records[0] and isinstance(records[0][0], (list, tuple)):
        return [pair for group in records for pair in group]
    return list(records)
