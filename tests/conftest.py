"""What all tests share; each subject has a module of fixtures of its own."""

from itertools import chain, zip_longest

import pytest
from hypothesis import HealthCheck, settings

# The same examples in every run, whatever machine it runs on and however busy that is.
settings.register_profile(
    "the same every time", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("the same every time")

pytest_plugins = ["tests.broker", "tests.databases", "tests.language_models"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the files of fault tests, which mostly wait for processes, among those that compute.

    Two processes that run tests side by side then seldom wait both at once. Browser tests stay last: the browser keeps an
    event loop running in its process, and no other may be started there.
    """
    files = list(dict.fromkeys(item.path for item in items))
    waiting = [file for file in files if file.parent.name == "faults"]
    computing = [file for file in files if file.parent.name != "faults"]
    stride = -(-len(computing) // max(1, len(waiting)))
    stretches = [computing[at : at + stride] for at in range(0, len(computing), stride or 1)]
    pairs = zip_longest(([file] for file in waiting), stretches, fillvalue=[])
    places = {file: place for place, file in enumerate(chain.from_iterable(chain.from_iterable(pairs)))}
    items.sort(key=lambda item: places[item.path])
