"""`medx router train`: the default router's head, or a fine-tuned classifier."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medx_core.data.routing_files import LabelledQuestion, read_routing_file
from medx_core.data.routing_texts import training_texts
from medx_core.errors import RouterUnavailable
from medx_core.settings import Settings, settings

if TYPE_CHECKING:
    from medx_core.routing.encoder_learning import FineTuning
    from medx_core.routing.encoder_training import EpochReport
    from medx_core.routing.heads import RouterHead

Seed = Annotated[int, typer.Option(help="The seed of folds, order and fitting.")]
Missing = Annotated[
    bool, typer.Option("--missing", help="Train only if there is no head for this encoder and these texts.")
]
With = Annotated[
    Path | None,
    typer.Option(
        "--with",
        help="Questions to train on besides the bundled texts (question, category), such as `medx router overrides` writes.",
    ),
]
EncoderName = Annotated[
    str,
    typer.Option("--encoder", help="Fine-tune this encoder (folder or hub id) as a classifier instead."),
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="With --encoder: the folder to write.")]
Device = Annotated[str, typer.Option(help="With --encoder: cpu or cuda:N.")]
MaxEpochs = Annotated[int, typer.Option(min=1, help="With --encoder: the most epochs.")]


@dataclass(frozen=True)
class _Task:
    """What to train on, with which seed."""

    options: Settings
    added: Sequence[LabelledQuestion]
    seed: int


def train(  # noqa: PLR0913 - one parameter an option of the command
    seed: Seed = 1,
    missing: Missing = False,
    with_file: With = None,
    encoder: EncoderName = "",
    output: Output = None,
    device: Device = "cpu",
    max_epochs: MaxEpochs = 8,
) -> None:
    """Train the router on the bundled texts, and on those of --with, and store it."""
    options = settings()
    task = _Task(options, read_routing_file(with_file).questions if with_file else (), seed)
    if encoder:
        from medx_core.routing.encoder_learning import FineTuning

        folder = output or options.routers_folder / f"encoder-{Path(encoder).name}"
        _fine_tune(task, encoder, folder, FineTuning(seed=seed, device=device, max_epochs=max_epochs))
    elif not (missing and _is_trained(task)):
        _train_head(task)


def _train_head(task: _Task) -> None:
    from medx_core.routing.encoders import load_encoder
    from medx_core.routing.heads import head_path, save_head
    from medx_core.routing.training import train_embedding_router

    encoder = load_encoder(task.options.router_encoder)
    texts = training_texts()
    print(
        f"Training the router on {len(texts) + len(task.added)} texts with {encoder.name} (under a minute) ...",
        flush=True,
    )
    head = train_embedding_router(texts, encoder, added=task.added, seed=task.seed)
    path = head_path(task.options.routers_folder, encoder.sha256)
    save_head(head, path)
    print(
        f"Stored at {path}. Accuracy in cross-validation: {head.figures['accuracy_in_cross_validation']:.3f}"
    )


def _fine_tune(task: _Task, encoder: str, folder: Path, how: "FineTuning") -> None:
    from medx_core.routing.encoder_router import save_encoder_router
    from medx_core.routing.encoder_training import train_encoder_router

    texts = training_texts()
    print(f"Fine-tuning {encoder} on {len(texts) + len(task.added)} texts (minutes on a CPU) ...", flush=True)
    router = train_encoder_router(texts, encoder, settings=how, added=task.added, progress=_say)
    save_encoder_router(folder, router.network, router.tokenizer, router.provenance)
    accuracy = router.provenance.figures["accuracy_kept_aside"]
    print(f"Stored in {folder}. Accuracy on texts kept aside: {accuracy:.3f}")
    print(f"To use it, set MEDX_ROUTER_ENCODER={folder}")


def _say(report: "EpochReport") -> None:
    print(
        f"  epoch {report.epoch} of {report.max_epochs} at most: loss {report.loss:.3f}, accuracy {report.accuracy:.3f}",
        flush=True,
    )


def _is_trained(task: _Task) -> bool:
    """Whether there is nothing to do; says so."""
    from medx_core.routing.encoder_files import is_encoder_router
    from medx_core.routing.rules_router import RULES

    name = task.options.router_encoder
    if name != RULES and not is_encoder_router(Path(name).expanduser()):
        head = _stored_head(task.options)
        if head is None or not _is_up_to_date(head, task.added):
            return False
    print(f"The router for {name} is trained.")
    return True


def _is_up_to_date(head: "RouterHead", added: Sequence[LabelledQuestion]) -> bool:
    """Whether the head knows the texts at hand. One that was trained with added texts is never replaced by one without."""
    from medx_core.routing.router import texts_sha256
    from medx_core.routing.training import with_added

    bundled = training_texts()
    if added:
        return head.data_sha256 == texts_sha256(with_added(bundled, added))
    if head.bundled_sha256 == texts_sha256(bundled):
        return True
    if head.added_texts:
        print(
            f"The bundled texts have changed since the router was trained with {head.added_texts} texts of yours; "
            "it is kept. To train it anew, run `medx router train --with FILE`."
        )
    return head.added_texts > 0


def _stored_head(options: Settings) -> "RouterHead | None":
    from medx_core.routing.encoder_files import encoder_folder, folder_sha256
    from medx_core.routing.heads import head_path, load_head

    sha256 = folder_sha256(encoder_folder(options.router_encoder))
    try:
        return load_head(head_path(options.routers_folder, sha256), encoder_sha256=sha256)
    except RouterUnavailable:
        return None
