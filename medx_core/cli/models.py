"""`medx models`: what there is, fetching it, and checking it."""

from typing import Annotated

import typer

from medx_core import __version__
from medx_core.cli.outputs import AsJson, print_json
from medx_core.models.catalog import CATALOGUE, catalogued, is_pulled, pull
from medx_core.settings import settings

app = typer.Typer(no_args_is_help=True, help="Language models: list, fetch, check.")


@app.command("list")
def list_models() -> None:
    """List the catalogue; any other causal language model is named by folder or hub id in MEDX_MODEL."""
    for entry in CATALOGUE.values():
        is_here = is_pulled(settings().models_folder, entry.name)
        state = "here" if is_here else f"not here; medx models pull {entry.name}"
        licence = f"{entry.licence} (not open source)" if entry.terms else entry.licence
        print(f"{entry.name:<16} {entry.title} · {licence} · {entry.megabytes} MB · {state}")
    print(f"In use (MEDX_MODEL): {settings().model}")


@app.command("pull")
def pull_model(name: Annotated[str, typer.Argument(help="A name from `medx models list`.")]) -> None:
    """Fetch a catalogued model, verify its checksum and convert it once; its licence is its own (`medx models list`)."""
    pull(catalogued(name), settings().models_folder, say=print)


@app.command("check")
def check(as_json: AsJson = False) -> None:
    """Load the model in use and say where it runs and which weights it has."""
    from medx_core.assembly import build_model
    from medx_core.steering.layers import decoder_layers, hidden_size, penultimate_layer

    model = build_model(settings())
    facts = {
        "model": model.name,
        "model_sha256": model.weight_sha256,
        "placement": str(model.placement),
        "layers": len(decoder_layers(model.network)),
        "penultimate_layer": penultimate_layer(model.network),
        "hidden_size": hidden_size(model.network),
        "medx_version": __version__,
    }
    if as_json:
        print_json(facts)
        return
    for key, value in facts.items():
        print(f"{key:<18} {value}")
