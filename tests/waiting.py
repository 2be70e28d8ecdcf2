"""Waiting for a condition with a deadline, in place of sleeping."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
SECONDS = 180.0  # on a machine that does much else; only a test that fails waits so long


def until(
    condition: Callable[[], T], event: str = "the condition comes true", *, seconds: float = SECONDS
) -> T:
    """Return what `condition` returns once that is true; fail after `seconds`, saying which event did not happen."""
    pause, deadline = threading.Event(), time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {event}"
        pause.wait(0.03)
    return value
