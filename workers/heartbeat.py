"""The heartbeat of a worker process: written while it polls its queue or makes progress, not merely exists."""

import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol

from medx_core.errors import MedxError
from medx_core.settings import Settings
from medx_core.storage.health import HealthStore

log = logging.getLogger(__name__)

EXIT_STALLED = 70


@dataclass(frozen=True)
class Rhythm:
    """How often a worker beats, for how long a poll counts, and when a turn of the engine counts as hanging."""

    beat_seconds: float
    polled_within_seconds: float
    stall_seconds: float

    @classmethod
    def of(cls, settings: Settings) -> "Rhythm":
        """Return a rhythm whose beats arrive well before the worker counts as away."""
        seconds = settings.worker_seen_seconds
        return cls(min(2.0, seconds / 4), seconds / 2, settings.stall_seconds)


class Progress(Protocol):
    """What the heartbeat asks of the engine's thread."""

    @property
    def stalled_seconds(self) -> float:
        """For how long the present turn has run."""
        ...

    @property
    def seconds_since_progress(self) -> float:
        """How long ago the last turn was finished."""
        ...


class Heartbeat:
    """Beats while the worker polls its queue or its engine moves; ends the process when the engine hangs.

    Of a process without an engine, only the polling counts.
    """

    def __init__(
        self,
        health: HealthStore,
        name: str,
        *,
        kind: str,
        rhythm: Rhythm,
        detail: Callable[[], Mapping[str, Any]],
        engine: Progress | None = None,
    ) -> None:
        self._health = health
        self._name = name
        self._kind = kind
        self._rhythm = rhythm
        self._engine = engine
        self._detail = detail
        self._polled = float("-inf")
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """Stop beating and sign off; why a model was refused stays to be read, once per host."""
        self._stopped = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        detail = self._detail()
        try:
            self._health.leave(self._name)
            if detail.get("refused"):
                self._health.beat(_ended_name(), self._kind, detail)
        except MedxError as error:
            log.warning("could not sign off: %s", error)

    def forget_refusal(self) -> None:
        """Take back that a model was refused on this host: the one of this process can be used."""
        try:
            self._health.leave(_ended_name())
        except MedxError as error:
            log.warning("could not take back that a model was refused: %s", error)

    def polled(self) -> None:
        """Note that the consumer looked for work just now."""
        self._polled = monotonic()

    def beat_soon(self) -> None:
        """Beat at once, because there is news."""
        self._wake.set()

    def _run(self) -> None:
        while not self._stopped:
            self._end_if_stalled()
            if self._lives():
                self._beat()
            self._wake.wait(self._rhythm.beat_seconds)
            self._wake.clear()

    def _lives(self) -> bool:
        window = self._rhythm.polled_within_seconds
        if monotonic() - self._polled < window:
            return True
        return self._engine is not None and self._engine.seconds_since_progress < window

    def _beat(self) -> None:
        try:
            self._health.beat(self._name, self._kind, self._detail())
        except MedxError as error:
            log.warning("the heartbeat did not reach the database: %s", error)

    def _end_if_stalled(self) -> None:
        seconds = 0.0 if self._engine is None else self._engine.stalled_seconds
        if seconds > self._rhythm.stall_seconds:
            log.critical(
                "the engine has hung for %.0f seconds; this process ends, its work is leased again", seconds
            )
            os._exit(EXIT_STALLED)


def _ended_name() -> str:
    return f"{socket.gethostname()} (ended)"
