"""Waiting for a condition with a deadline, in place of sleeping."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], *, seconds: float = 60.0) -> T:
    """Return what `condition` returns once that is true; fail after `seconds`."""
    pause, deadline = threading.Event(), time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"the condition did not come true within {seconds} s"
        pause.wait(0.02)
    return value
