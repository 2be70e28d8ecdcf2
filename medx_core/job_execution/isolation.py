"""Keeps suspects apart: an item whose earlier attempt ended badly is tried alone.

When a worker dies, everything it held loses an attempt, and nothing tells which item was to blame. If all were tried
again in company, one poisonous row would take its neighbours into quarantine with it. Alone, it convicts only itself.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from medx_core.job_execution.lanes import Lane


class Isolation:
    """Who may be in hand at the same time in one process.

    New rows of files share the process; a suspect row of a file waits until none of them is in hand. What people wait
    for never waits for files: a new question passes always, a suspect one only waits for other suspects.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._file_chunks = 0
        self._suspects_waiting = 0
        self._suspect_inside = False

    @contextmanager
    def together(self, lane: Lane) -> Iterator[None]:
        """Hold items that were never tried."""
        if lane is Lane.INTERACTIVE:
            yield
            return
        with self._changed:
            self._changed.wait_for(lambda: not self._suspects_waiting and not self._suspect_inside)
            self._file_chunks += 1
        try:
            yield
        finally:
            with self._changed:
                self._file_chunks -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self, lane: Lane) -> Iterator[None]:
        """Hold one item that was tried before."""
        from_file = lane is Lane.BATCH
        with self._changed:
            self._suspects_waiting += from_file
            self._changed.wait_for(lambda: not self._suspect_inside and not (from_file and self._file_chunks))
            self._suspects_waiting -= from_file
            self._suspect_inside = True
        try:
            yield
        finally:
            with self._changed:
                self._suspect_inside = False
                self._changed.notify_all()
