"""`medx vectors`: build, list, show, check, damage, sweep, promote, retire, roll back, export, import."""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from medx_core.cli.database import opened_database
from medx_core.cli.vector_building import build, note
from medx_core.cli.vector_damage import damage
from medx_core.cli.vector_exchange import export_vector, import_vector
from medx_core.cli.vector_sweep import sweep
from medx_core.errors import NotFound
from medx_core.settings import settings
from medx_core.storage.vector_store import VectorRecord, VectorStatus, VectorStore

app = typer.Typer(no_args_is_help=True, help="Steering vectors: build, inspect, choose, exchange.")
app.command("build")(build)
app.command("sweep")(sweep)
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
    if as_json:
        print(json.dumps({"vectors": [as_contract(record) for record in records]}))
        return
    for record in records:
        print(
            f"{record.id:>4}  {record.name:<20} {record.status.value:<10} {record.model}  layer {record.layer}  "
            f"alpha {record.alpha:g}  {record.strategy}"
        )
    if not records:
        print("There are no steering vectors yet; run `medx vectors build`.")


@app.command()
def show(number: Number) -> None:
    """Show one version with its diagnostics as JSON."""
    with opened_database() as database:
        print(json.dumps(as_contract(VectorStore(database).get(number)), indent=2))


@app.command()
def check(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Check the active vectors: norm, cosines between categories, shift of the hidden states.

    Exit code 1 when there is none, or when one is missing, was changed or does not fit.
    """
    from medx_core.assembly import build_registry
    from medx_core.steering.diagnostics import cosines_between

    with opened_database() as database:
        registry = build_registry(settings(), database)
        records = [record for record in registry.store.list() if record.status is VectorStatus.ACTIVE]
        if not records:
            raise NotFound("There are no active steering vectors; run `medx vectors build`.")
        vectors = {f"{record.model}: {record.name}": registry.read(record) for record in records}
    same_model = {
        name: vector for name, vector in vectors.items() if vector.model_sha256 == records[0].model_sha256
    }
    cosines = cosines_between(
        {name: vector.gate.weight if vector.gate else vector.direction for name, vector in same_model.items()}
    )
    report = {
        "vectors": [as_contract(record) for record in records],
        "cosines": cosines,
    }
    if as_json:
        print(json.dumps(report))
        return
    for record in records:
        _print_diagnostics(record)
    print("Cosine between categories:")
    for name, row in cosines.items():
        print(f"  {name:<36} " + "  ".join(f"{value:6.3f}" for value in row.values()))


@app.command()
def promote(number: Number) -> None:
    """Put a version to use; the one before it is retired and can be rolled back to."""
    with opened_database() as database:
        record = VectorStore(database).promote(number)
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
        present = store.get(number)
        record = store.roll_back(present.model_sha256, present.category)
        note(database, "vector rolled back", record)
    print(f"{record.name} is in use again for {record.model}.")


def as_contract(record: VectorRecord) -> dict[str, Any]:
    """Return one version as JSON values."""
    return {
        "id": record.id,
        "name": record.name,
        "status": record.status.value,
        "category": record.category.value,
        "model": record.model,
        "model_sha256": record.model_sha256,
        "strategy": record.strategy,
        "preset": record.preset,
        "layer": record.layer,
        "alpha": record.alpha,
        "file": record.file,
        "file_sha256": record.file_sha256,
        "diagnostics": dict(record.diagnostics),
    }


def _print_diagnostics(record: VectorRecord) -> None:
    from medx_core.evaluation.vector_findings import gain_sentence, warnings_of

    found = record.diagnostics
    print(f"{record.model}: {record.name} (layer {record.layer}, alpha {record.alpha:g}, {record.strategy})")
    for line in _figures(found):
        print(f"  {line}")
    print(f"  {gain_sentence(found)}")
    for warning in warnings_of(found):
        print(f"  {warning}")


def _figures(found: Mapping[str, Any]) -> Iterator[str]:
    """Say each figure that was computed; imported vectors have few."""
    if "relative_norm" in found:
        yield f"norm                         {found['norm']:.4g}, moves states by {100 * found['relative_norm']:.2f} % of the residual stream"
    if "shift" in found:
        shift = found["shift"]
        yield f"shift of the hidden states   {shift['mean_shift']:.4g}, {shift['in_deviations']:.3f} standard deviations"
    for key, words in (
        ("separation", "separation of the traces    "),
        ("halves_cosine", "cosine between split halves "),
        ("shuffled_cosine", "cosine with shuffled labels "),
    ):
        if found.get(key) is not None:
            yield f"{words} {found[key]:.3f}"
