"""`medx router overrides`: the routes people overrode, to train the router with."""

import io
import sys
from pathlib import Path
from typing import Annotated

import typer

from medx_core.cli.database import opened_database
from medx_core.cli.users import ACTOR
from medx_core.data.route_overrides import write_overrides
from medx_core.errors import BadInput
from medx_core.storage.audit_store import AuditStore
from medx_core.storage.override_store import OverrideStore


def overrides(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The CSV to write; standard output if not given.")
    ] = None,
) -> None:
    """Write the questions whose category a person chose, as CSV to train with. The audit log notes it."""
    table = io.StringIO(newline="")
    with opened_database() as database:
        count = write_overrides(OverrideStore(database).every_override(), table)
        AuditStore(database).append(ACTOR, "overrides exported", "router", {"rows": count})
    if output is None:
        sys.stdout.write(table.getvalue())
        return
    try:
        output.write_text(table.getvalue(), encoding="utf-8", newline="")
    except OSError as error:
        raise BadInput(f"The overrides cannot be written to {output}: {error.strerror}.") from error
    print(f"{count} overridden routes written to {output}.")
    if count:
        print(f"To train with them: medx router train --with {output}")
