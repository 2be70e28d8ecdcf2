"""Alembic migrations, run by `medx db upgrade` inside the program's own transaction."""
