"""What all tests share; each subject has a module of fixtures of its own."""

from hypothesis import settings

# The same examples in every run, whatever machine it runs on and however busy that is.
settings.register_profile("the same every time", derandomize=True, deadline=None)
settings.load_profile("the same every time")

pytest_plugins = ["tests.databases", "tests.language_models"]
