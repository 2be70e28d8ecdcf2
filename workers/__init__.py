"""The worker process: Celery carries ids to it, one engine answers, the database keeps the outcome."""
