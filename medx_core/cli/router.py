"""`medx router`: train, show and measure the router."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from medx_core.data.routing_texts import training_texts
from medx_core.settings import Settings, settings

app = typer.Typer(no_args_is_help=True, help="Train, show and measure the router.")


@app.command()
def train(
    seed: Annotated[int, typer.Option(help="The seed of folds and fitting.")] = 1,
    missing: Annotated[
        bool, typer.Option("--missing", help="Train only if there is no head for this encoder.")
    ] = False,
) -> None:
    """Train the router on the bundled texts and store it."""
    from medx_core.routing.encoders import load_encoder
    from medx_core.routing.heads import head_path, save_head
    from medx_core.routing.training import train_embedding_router

    options = settings()
    if missing and _is_trained(options):
        print(f"The router for {options.router_encoder} is trained.")
        return
    encoder = load_encoder(options.router_encoder)
    texts = training_texts()
    print(f"Training the router on {len(texts)} texts with {encoder.name} ...")
    head = train_embedding_router(texts, encoder, seed=seed)
    path = head_path(options.routers_folder, encoder.sha256)
    save_head(head, path)
    print(
        f"Stored at {path}. Accuracy in cross-validation: {head.figures['accuracy_in_cross_validation']:.3f}"
    )


@app.command()
def show() -> None:
    """Print what is known about the trained router, as JSON."""
    from medx_core.routing.encoders import encoder_folder, folder_sha256
    from medx_core.routing.heads import head_path, load_head

    options = settings()
    sha256 = folder_sha256(encoder_folder(options.router_encoder))
    path = head_path(options.routers_folder, sha256)
    head = asdict(load_head(path, encoder_sha256=sha256))
    del head["weights"], head["bias"]
    print(json.dumps({"path": str(path), **head}, indent=2))


def _is_trained(options: Settings) -> bool:
    from medx_core.routing.encoders import encoder_folder, folder_sha256
    from medx_core.routing.heads import head_path

    return head_path(options.routers_folder, folder_sha256(encoder_folder(options.router_encoder))).exists()
