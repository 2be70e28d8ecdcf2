"""`medx vectors export` and `import`: control vectors in GGUF, for llama.cpp and repeng."""

from pathlib import Path
from typing import Annotated

import typer

from medx_core.categories import Category
from medx_core.cli.database import opened_database
from medx_core.cli.vector_building import note
from medx_core.settings import settings
from medx_core.storage.vector_store import VectorStore

IMPORTED_PRESET = "imported"


def export_vector(
    number: Annotated[int, typer.Argument(help="The vector's number in `medx vectors list`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the GGUF file.")],
    model_hint: Annotated[
        str, typer.Option(help="The architecture, where the vector does not name it.")
    ] = "",
) -> None:
    """Write a constant vector as a GGUF control vector; alpha is multiplied in, so strength 1 there is this one."""
    from medx_core.assembly import build_registry
    from medx_core.steering.control_vectors import export_control_vector

    with opened_database() as database:
        registry = build_registry(settings(), database)
        vector = registry.read(VectorStore(database).get(number))
    export_control_vector(vector, output, model_hint=model_hint)
    layers = ", ".join(str(layer) for layer in vector.directions)
    print(
        f"Wrote {vector.version} for {vector.model} to {output} (direction for layer {layers}, counted from 0)."
    )
    print("llama.cpp and repeng add it to every token; MedX adds it where the answer is read.")


def import_vector(
    file: Annotated[Path, typer.Argument(help="A GGUF control vector.")],
    category: Annotated[Category, typer.Option(help="The category it shall steer.")],
    alpha: Annotated[float, typer.Option(help="Strength.")] = 1.0,
) -> None:
    """Register a control vector for the model in use; it waits to be promoted, and nothing is known of its effect."""
    from medx_core.assembly import build_model, build_registry
    from medx_core.steering.control_vectors import imported_vector

    with opened_database() as database:
        model = build_model(settings())
        vector = imported_vector(
            file, model.network, category=category, alpha=alpha, names=(model.name, model.weight_sha256)
        )
        record = build_registry(settings(), database).publish(vector, preset=IMPORTED_PRESET)
        note(database, "vector imported", record)
    print(
        f"{record.name}: {record.status.value}, layers {', '.join(str(layer) for layer in vector.directions)}."
    )
    print(
        f"Nothing is known of its effect; measure it, and put it to use with: medx vectors promote {record.id}"
    )
