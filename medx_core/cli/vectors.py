"""`medx vectors`: build, list, show, check, damage, sweep, promote, retire, roll back, export, import."""

import json
from typing import Annotated

import typer

from medx_core.cli.database import opened_database
from medx_core.cli.vector_building import build, note
from medx_core.cli.vector_checking import check
from medx_core.cli.vector_contract import as_contract, told_by_file
from medx_core.cli.vector_damage import damage
from medx_core.cli.vector_exchange import export_vector, import_vector
from medx_core.cli.vector_sweep import sweep
from medx_core.settings import settings
from medx_core.storage.vector_store import VectorRecord, VectorStore

app = typer.Typer(no_args_is_help=True, help="Steering vectors: build, inspect, choose, exchange.")
app.command("build")(build)
app.command("sweep")(sweep)
app.command("check")(check)
app.command("export")(export_vector)
app.command("import")(import_vector)
app.command("damage")(damage)
Number = Annotated[int, typer.Argument(help="The vector's number in `medx vectors list`.")]


@app.command("list")
def list_vectors(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List all versions."""
    with opened_database() as database:
        records = VectorStore(database).list()
    folder = settings().vectors_folder
    if as_json:
        print(json.dumps({"vectors": [as_contract(record, folder) for record in records]}))
        return
    for record in records:
        made, fault = told_by_file(record, folder)
        print(
            f"{record.id:>4}  {record.name:<20} {record.status.value:<10} {record.model}  layer {record.layer}  "
            f"alpha {record.alpha:g}  {record.strategy}  {made.in_words(record.strategy) if made else fault}"
        )
    if not records:
        print("There are no steering vectors yet; run `medx vectors build`.")


@app.command()
def show(number: Number) -> None:
    """Show one version as JSON: how it was made, and its diagnostics."""
    with opened_database() as database:
        record = VectorStore(database).get(number)
    print(json.dumps(as_contract(record, settings().vectors_folder), indent=2))


@app.command()
def promote(number: Number) -> None:
    """Put a version to use; the one before it is retired and can be rolled back to."""
    with opened_database() as database:
        store = VectorStore(database)
        _refuse_unusable(store, store.get(number))
        record = store.promote(number)
        note(database, "vector promoted", record)
    print(f"{record.name} is in use for {record.model}.")


@app.command()
def retire(number: Number) -> None:
    """Take a version out of use."""
    with opened_database() as database:
        record = VectorStore(database).retire(number)
        note(database, "vector retired", record)
    print(f"{record.name} is retired.")


@app.command("roll-back")
def roll_back(number: Number) -> None:
    """Go back to the version that was in use before this one."""
    with opened_database() as database:
        store = VectorStore(database)
        chosen = store.get(number)
        present = store.active(chosen.model_sha256).get(chosen.category)
        if present is not None and present.replaced_id is not None:
            _refuse_unusable(store, store.get(present.replaced_id))
        record = store.roll_back(chosen.model_sha256, chosen.category)
        note(database, "vector rolled back", record)
    print(f"{record.name} is in use again for {record.model}.")


def _refuse_unusable(store: VectorStore, record: VectorRecord) -> None:
    """Refuse to put to use what a worker could not read: it would answer that category unsteered.

    Raises:
        VectorRefused: the file is missing, was changed, or holds no sound vector.
    """
    # torch takes seconds to import: only the commands that need it wait for it.
    from medx_core.vector_registry import VectorRegistry

    VectorRegistry(store, settings().vectors_folder).read(record)
