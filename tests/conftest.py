"""Fixtures that all tests share; each subject has a module of its own."""

pytest_plugins = ["tests.databases", "tests.language_models"]
