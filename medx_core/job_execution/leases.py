"""Renews the leases of one process, and notices when an item in hand was cancelled or lost."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

from medx_core.errors import MedxError
from medx_core.jobs.snapshots import LeasedItem
from medx_core.storage.leases import LeaseStore

log = logging.getLogger(__name__)

LOOK_EVERY_SECONDS = 0.5


@dataclass(frozen=True)
class LeaseTerms:
    """The holder of the leases, how long a lease lives without renewal, and the most attempts per item."""

    owner: str
    seconds: float = 30.0
    max_attempts: int = 3


class LeaseKeeper:
    """Renews the leases of all items that this process holds, on a thread of its own.

    `alive` is asked before each renewal: a process whose engine hangs lets its leases run out.
    """

    def __init__(
        self, leases: LeaseStore, terms: LeaseTerms, *, alive: Callable[[], bool] = lambda: True
    ) -> None:
        self._leases = leases
        self._terms = terms
        self._alive = alive
        self._lock = threading.Lock()
        self._held: dict[int, LeasedItem] = {}
        self._unwanted: set[tuple[int, int]] = set()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; leases that are still held run out by themselves."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    @contextmanager
    def holding(self, leased: Sequence[LeasedItem]) -> Iterator[None]:
        """Renew these leases inside the block."""
        with self._lock:
            self._held.update({item.id: item for item in leased})
        try:
            yield
        finally:
            for item in leased:
                self.let_go(item)

    def let_go(self, item: LeasedItem) -> None:
        """Stop renewing one item, because it is finished."""
        with self._lock:
            if self._held.get(item.id) == item:
                del self._held[item.id]
            self._unwanted.discard((item.id, item.fence))

    def is_unwanted(self, item: LeasedItem) -> bool:
        """Whether the item's job was cancelled or another process holds the item now. Reads no database."""
        return (item.id, item.fence) in self._unwanted

    def _run(self) -> None:
        renew_every = self._terms.seconds / 3
        renewed = monotonic()
        while not self._stopped.wait(min(LOOK_EVERY_SECONDS, renew_every)):
            with self._lock:
                held = list(self._held.values())
            if not held:
                renewed = monotonic()
                continue
            try:
                cancelled = self._leases.cancelled_jobs({item.job_id for item in held})
                self._mark(item for item in held if item.job_id in cancelled)
                if monotonic() - renewed >= renew_every:
                    renewed = monotonic()
                    self._renew(held)
            except MedxError as error:
                log.warning("leases could not be renewed, trying again: %s", error)

    def _renew(self, held: Sequence[LeasedItem]) -> None:
        if not self._alive():
            log.error("the engine makes no progress; %d leases are not renewed", len(held))
            return
        still_held = self._leases.renew(held, seconds=self._terms.seconds)
        self._mark(item for item in held if item.id not in still_held)

    def _mark(self, unwanted: Iterable[LeasedItem]) -> None:
        with self._lock:
            self._unwanted |= {(item.id, item.fence) for item in unwanted if item.id in self._held}
