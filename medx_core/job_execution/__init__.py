"""Doing the work of jobs: lease, answer in micro-batches, store. Knows neither Celery nor Redis."""
