"""`medx models`: what there is, fetching it, checking it, and measuring what it is worth by itself."""

from typing import Annotated

import typer

from medx_core import __version__
from medx_core.cli.outputs import AsJson, clear_stage, print_json, show_stage
from medx_core.errors import ModelUnavailable
from medx_core.model_check import Can, Check, ModelCheck
from medx_core.models.catalog import CATALOGUE, catalogued, is_pulled, pull
from medx_core.settings import settings

app = typer.Typer(no_args_is_help=True, help="Language models: list, fetch, check, measure.")


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
def check(
    name: Annotated[
        str,
        typer.Argument(
            help="A name from `medx models list`, a folder or a hub id; without one, the model in use."
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Load a model and try all that MedX relies on, as its first load does; status 1 where something does not work."""
    from medx_core.assembly import build_model
    from medx_core.steering.layers import decoder_layers, hidden_size, penultimate_layer

    chosen = settings().model_copy(update={"model": name or settings().model})
    try:
        model = build_model(chosen, check_anew=True)
    except ModelUnavailable as fault:
        _show_refusal(chosen.model, str(fault), as_json=as_json)
        raise typer.Exit(1) from None
    found = model.check
    if found is None:
        raise ModelUnavailable(f"The model {model.name} was not checked.")
    facts = {
        "model": model.name,
        "model_sha256": model.weight_sha256,
        "identity_sha256": model.identity_sha256,
        "placement": str(model.placement),
        "attention": found.attention,
        "layers": len(decoder_layers(model.network)),
        "penultimate_layer": penultimate_layer(model.network),
        "hidden_size": hidden_size(model.network),
        "medx_version": __version__,
    }
    if as_json:
        print_json({**found.as_json(), **facts})
    else:
        for key, value in facts.items():
            print(f"{key:<18} {value}")
        _show_checks(found)
    raise typer.Exit(0 if found.ok else 1)


@app.command("measure")
def measure(as_json: AsJson = False) -> None:
    """Measure how many of the bundled test statements the model in use answers right without steering, and keep it.

    Pages, API and answers then name the model with that figure, until the model, its recipe or the statements change.
    """
    from medx_core.cli.ask import load_engine
    from medx_core.cli.database import opened_database
    from medx_core.evaluation.model_accuracy import ModelAccuracy, bundled_test_sha256, measured_accuracy
    from medx_core.storage.evidence import Evidence

    with opened_database() as database:
        engine = load_engine(database)
        found = engine.description
        metric = measured_accuracy(
            engine.verdicts, on_progress=lambda done, total: show_stage("answering", done, total)
        )
        clear_stage()
        accuracy = ModelAccuracy(
            model=found.model_name,
            model_sha256=found.weight_sha256,
            identity_sha256=found.identity_sha256,
            recipe=found.unsteered_recipe,
            data_sha256=bundled_test_sha256(),
            device=found.device,
            medx_version=__version__,
            accuracy=metric,
        )
        evidence = Evidence(database)
        evidence.keep_accuracy(accuracy, owner="medx models measure")
        line = evidence.of_model(found.report(settings()))
    if as_json:
        print_json(accuracy.model_dump(mode="json"), indent=2)
    else:
        print(line)


def _show_refusal(name: str, sentence: str, *, as_json: bool) -> None:
    """Show the check of a model that could not even be loaded."""
    nothing = Can(verdict=False, text=False, steer=False, batch=False, shared_prefix=False, shared_arms=False)
    refused = ModelCheck(model=name, checks=(Check(name="weights", ok=False, detail=sentence),), can=nothing)
    if as_json:
        print_json({**refused.as_json(), "model": name, "medx_version": __version__})
    else:
        _show_checks(refused)


def _show_checks(found: ModelCheck) -> None:
    print()
    for each in found.checks:
        print(f"{'ok' if each.ok else 'NOT OK':<7} {each.name:<16} {each.detail}")
    able = [ability.replace("_", " ") for ability, can in found.can.model_dump().items() if can]
    print(f"{'':<7} {'can':<16} {', '.join(able) or 'nothing'}")
