"""Measuring: how good answers are, with intervals."""
