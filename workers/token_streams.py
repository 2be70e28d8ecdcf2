"""Sends the text of answers to whoever watches it being written, over Redis streams.

Streams are a courtesy: the database gets the whole answer. So the engine's thread only puts pieces into a queue, and
what cannot be sent is dropped. No text goes to a broker that writes what it is sent to its disk, where it would stay
after it has expired; the answer then appears as a whole.
"""

import logging
import queue
import threading
from time import monotonic

import redis

from medx_core.jobs.messages import redis_client_url, token_stream_name

log = logging.getLogger(__name__)

STREAM_ENTRIES = 4096
KEEP_SECONDS = 600
PIECES_WAITING = 10_000
PIECES_AT_ONCE = 64
ASK_AGAIN_SECONDS = 30.0

Fields = dict[
    bytes | bytearray | memoryview | str | int | float, bytes | bytearray | memoryview | str | int | float
]
Record = tuple[str, Fields]


class TokenStreams:
    """Writes token streams on a thread of its own."""

    def __init__(self, broker_url: str) -> None:
        self._client = redis.Redis.from_url(
            redis_client_url(broker_url), socket_connect_timeout=2, socket_timeout=5
        )
        self._records: queue.Queue[Record | None] = queue.Queue(maxsize=PIECES_WAITING)
        self._carries_text = False
        self._asked_at = float("-inf")
        self._thread = threading.Thread(target=self._run, name="token-streams", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """Send what waits, and end."""
        if self._thread.is_alive():
            self._records.put(None)
            self._thread.join(timeout=10)
        self._client.close()

    def begin(self, item_id: int, arm: str) -> None:
        """Announce that an answer is written from its beginning; a reader forgets what it had."""
        self._put((token_stream_name(item_id, arm), {"restart": "1"}))

    def piece(self, item_id: int, arm: str, text: str) -> None:
        """Send a new piece of text."""
        self._put((token_stream_name(item_id, arm), {"text": text}))

    def done(self, item_id: int, arm: str) -> None:
        """Announce that the answer is complete and stored."""
        self._put((token_stream_name(item_id, arm), {"done": "1"}))

    def _put(self, record: Record) -> None:
        try:
            self._records.put_nowait(record)
        except queue.Full:
            log.warning("token streams fall behind; a piece of text is not streamed")

    def _run(self) -> None:
        while (record := self._records.get()) is not None:
            records = [record]
            while len(records) < PIECES_AT_ONCE and not self._records.empty():
                following = self._records.get_nowait()
                if following is None:
                    self._send(records)
                    return
                records.append(following)
            self._send(records)

    def _send(self, records: list[Record]) -> None:
        try:
            if not self._may_carry_text():
                records = [(name, fields) for name, fields in records if "text" not in fields]
            with self._client.pipeline(transaction=False) as pipe:
                for name, fields in records:
                    pipe.xadd(name, fields, maxlen=STREAM_ENTRIES, approximate=True)
                for name in {name for name, _ in records}:
                    pipe.expire(name, KEEP_SECONDS)
                pipe.execute()
        except (redis.RedisError, OSError) as error:
            log.warning("token streams cannot be sent just now (%s)", type(error).__name__)

    def _may_carry_text(self) -> bool:
        """Whether the broker keeps what it is sent in memory alone; asked now and then, because it may be replaced."""
        if monotonic() - self._asked_at > ASK_AGAIN_SECONDS:
            before, self._carries_text = self._carries_text, not writes_to_disk(self._client)
            if not self._carries_text and (before or self._asked_at < 0):
                log.warning(
                    "the broker writes to its disk (its settings appendonly and save), or does not say: "
                    "answers are not streamed through it and appear when they are complete"
                )
            self._asked_at = monotonic()
        return self._carries_text


def writes_to_disk(broker: "redis.Redis") -> bool:
    """Whether a broker keeps an append-only file or snapshots; True as well where it may not be asked."""
    try:
        settings = [broker.config_get(name) for name in ("appendonly", "save")]
    except redis.ResponseError:
        return True
    values = {str(value) for setting in settings for value in dict(setting).values()}
    return not values <= {"no", ""}
