"""`medx vectors`: build, list, show, check, promote, retire, roll back."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medx_core.categories import Category
from medx_core.cli.database import opened_database
from medx_core.errors import NotFound
from medx_core.settings import settings
from medx_core.storage.audit_store import AuditStore
from medx_core.storage.engine import Database
from medx_core.storage.vector_store import VectorRecord, VectorStatus, VectorStore

if TYPE_CHECKING:
    from medx_core.vector_building import LabelledStatement

ACTOR = "command line"
SMALL = 0.01

app = typer.Typer(no_args_is_help=True, help="Steering vectors: build, inspect, choose.")
Number = Annotated[int, typer.Argument(help="The vector's number in `medx vectors list`.")]


@app.command()
def build(
    missing: Annotated[
        bool, typer.Option("--missing", help="Build only for categories without an active vector.")
    ] = False,
    examples: Annotated[int, typer.Option(min=4, help="Contrast pairs a category (the paper: 200).")] = 200,
) -> None:
    """Build one vector a category for the model in use, from the bundled statements' training part."""
    # torch takes seconds to import: only the commands that need it wait for it.
    from medx_core.assembly import build_model, build_registry
    from medx_core.vector_building import VectorBuilder, VectorRecipe

    with opened_database() as database:
        model = build_model(settings())
        registry = build_registry(settings(), database)
        present = registry.store.active(model.weight_sha256) if missing else {}
        wanted = [category for category in Category if category not in present]
        if not wanted:
            print(f"Every category has an active vector for {model.name}.")
            return
        builder = VectorBuilder(model, VectorRecipe(examples=examples))
        for category in wanted:
            train, held_out = bundled(category)
            vector = builder.build(category, train, held_out, version="", on_progress=_progress(category))
            record = registry.publish(vector)
            _note(database, "vector built", record)
            print(
                f"\r{record.name}: {record.status.value}, {vector.pairs} contrast pairs, norm {vector.norm:.3g}      "
            )


def bundled(category: Category) -> "tuple[list[LabelledStatement], list[LabelledStatement]]":
    """Return the bundled statements of a category: the part for building, and the part that is held out."""
    from medx_core.data.bundled_statements import bundled_statements
    from medx_core.vector_building import LabelledStatement

    parts: dict[str, list[LabelledStatement]] = {"train": [], "test": []}
    for one in bundled_statements():
        if one.category is category:
            parts[one.split].append(LabelledStatement(text=one.statement, truth=one.answer, group=one.quad))
    return parts["train"], parts["test"]


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
    cosines = cosines_between({name: vector.direction for name, vector in same_model.items()})
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
        _note(database, "vector promoted", record)
    print(f"{record.name} is in use for {record.model}.")


@app.command()
def retire(number: Number) -> None:
    """Take a version out of use."""
    with opened_database() as database:
        record = VectorStore(database).retire(number)
        _note(database, "vector retired", record)
    print(f"{record.name} is retired.")


@app.command("roll-back")
def roll_back(number: Number) -> None:
    """Go back to the version that was in use before this one."""
    with opened_database() as database:
        store = VectorStore(database)
        present = store.get(number)
        record = store.roll_back(present.model_sha256, present.category)
        _note(database, "vector rolled back", record)
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
    found = record.diagnostics
    shift = found["shift"]
    print(f"{record.model}: {record.name} (layer {record.layer}, alpha {record.alpha:g}, {record.strategy})")
    print(
        f"  norm                         {found['norm']:.4g}, {100 * found['relative_norm']:.2f} % of the residual stream"
    )
    print(
        f"  shift of the hidden states   {shift['mean_shift']:.4g}, {shift['in_deviations']:.3f} standard deviations"
    )
    print(f"  separation of the traces     {found['separation']:.3f} standard deviations")
    print(f"  cosine between split halves  {found['halves_cosine']:.3f}")
    print(f"  cosine with shuffled labels  {found['shuffled_cosine']:.3f}")
    print("  gain on validation data      not evaluated")
    if found["relative_norm"] < SMALL:
        print(
            "  This vector is too small to change many answers at this alpha. Where wording gives nothing away, little is left."
        )


def _progress(category: Category) -> Any:
    def show_progress(done: int, total: int) -> None:
        if sys.stdout.isatty():
            print(f"\r{category.value}: {done} of {total} traces", end="", flush=True)

    return show_progress


def _note(database: Database, action: str, record: VectorRecord) -> None:
    AuditStore(database).append(
        ACTOR, action, f"{record.model} {record.name}", {"file_sha256": record.file_sha256}
    )
