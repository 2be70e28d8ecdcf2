"""Steering: changing a frozen network's residual stream while it runs, and where the change comes from.

Knows networks and tensors; knows nothing of prompts, files of questions or jobs.
"""
