"""What all tests share; each subject has a module of fixtures of its own."""

from hypothesis import HealthCheck, settings

# The same examples in every run, whatever machine it runs on and however busy that is.
settings.register_profile(
    "the same every time", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("the same every time")

pytest_plugins = ["tests.broker", "tests.databases", "tests.language_models"]
