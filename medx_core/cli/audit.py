"""`medx audit`: the log of who did what."""

import typer

from medx_core.cli.database import opened_database
from medx_core.storage.audit_store import AuditStore

app = typer.Typer(help="The audit log: check that nobody changed it.", no_args_is_help=True)


@app.callback()
def audit() -> None:
    """The audit log."""


@app.command()
def verify() -> None:
    """Check the chain of the audit log; fails at the first row that was changed, put in or taken out."""
    with opened_database() as database:
        store = AuditStore(database)
        rows = store.verify()
        newest = store.entries(limit=1)
    print(f"The audit log is whole: {rows} rows.")
    if newest:
        print(f"Last hash: {newest[0].hash}")
