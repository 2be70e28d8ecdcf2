"""What all tests share; each subject has a module of fixtures of its own."""

from collections import Counter
from collections.abc import Iterator
from itertools import chain, zip_longest
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples in every run, whatever machine it runs on and however busy that is.
settings.register_profile(
    "the same every time", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("the same every time")

pytest_plugins = ["tests.broker", "tests.databases", "tests.language_models", "tests.tiny_disks"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the files of fault tests, which mostly wait for processes, among those that compute.

    Two processes that run tests side by side then seldom wait both at once. Browser tests come last: the browser keeps an
    event loop running in its process, and no other may be started there. Of those the files of many tests come first, so
    that both processes end at about the same time.
    """
    tests = Counter(item.path for item in items)
    waiting = [file for file in tests if file.parent.name == "faults"]
    browsing = sorted(
        (file for file in tests if file.parent.name == "browser"), key=tests.__getitem__, reverse=True
    )
    computing = [file for file in tests if file.parent.name not in {"faults", "browser"}]
    stride = -(-len(computing) // max(1, len(waiting)))
    stretches = [computing[at : at + stride] for at in range(0, len(computing), stride or 1)]
    pairs: Iterator[tuple[list[Path], list[Path]]] = zip_longest(
        ([file] for file in waiting), stretches, fillvalue=[]
    )
    order = [*chain.from_iterable(chain.from_iterable(pairs)), *browsing]
    places = {file: place for place, file in enumerate(order)}
    items.sort(key=lambda item: places[item.path])
