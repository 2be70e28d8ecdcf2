"""`medx db`: the tables of the database."""

import typer

from medx_core.settings import settings
from medx_core.storage.engine import Database

app = typer.Typer(
    help="The database: bring its tables up to date, or see whether they are.", no_args_is_help=True
)


@app.command()
def upgrade() -> None:
    """Make the database, or bring its tables to the version this program needs. Safe to repeat."""
    database = Database(settings().database)
    try:
        database.upgrade()
        print(f"The database at {database.shown_url} is up to date.")
    finally:
        database.close()


@app.command()
def check() -> None:
    """See whether the database can be reached and is at the version this program needs."""
    database = Database(settings().database)
    try:
        database.check()
        print(f"The database at {database.shown_url} is up to date.")
    finally:
        database.close()
