"""`medx router`: train, show, measure and explain the router."""

import io
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medx_core import __version__
from medx_core.cli.administration import ACTOR, opened_database
from medx_core.cli.outputs import refuse_input_as_output
from medx_core.data.bundled_texts import held_out_texts, training_texts
from medx_core.data.routing_files import LabelledQuestion, read_routing_file, write_overrides
from medx_core.errors import BadInput, RouterUnavailable
from medx_core.jobs.submission import read_question_text
from medx_core.settings import Settings, settings
from medx_core.storage.audit import AuditStore
from medx_core.storage.jobs import OverrideStore

if TYPE_CHECKING:
    from medx_core.routing.encoder_training import EpochReport, FineTuning
    from medx_core.routing.evaluation import Labelled
    from medx_core.routing.heads import RouterHead


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
        from medx_core.routing.encoder_training import FineTuning

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


app = typer.Typer(no_args_is_help=True, help="Train, show, measure and explain the router.")

HEAD_FIELDS = (
    "temperature",
    "encoder",
    "encoder_sha256",
    "data_sha256",
    "bundled_sha256",
    "texts",
    "added_texts",
    "seed",
    "created_at",
)

RouterName = Annotated[
    str,
    typer.Option(
        "--router",
        help="`rules`, an encoder, or a fine-tuned router's folder; MEDX_ROUTER_ENCODER if not given.",
    ),
]


app.command()(train)
app.command()(overrides)


@app.command()
def show() -> None:
    """Print what is known about the trained router, as JSON."""
    from medx_core.routing.encoder_router import EncoderRouter
    from medx_core.routing.loading import load_router

    options = settings()
    router = load_router(options.router_encoder, options.routers_folder)
    known: dict[str, Any] = {"router": router.name, "threshold": router.threshold}
    if isinstance(router, EncoderRouter):
        known |= asdict(router.provenance)
    elif head := getattr(router, "head", None):
        known |= {name: getattr(head, name) for name in HEAD_FIELDS} | {"figures": dict(head.figures)}
    print(json.dumps(known, indent=2))


@app.command()
def evaluate(
    data: Annotated[Path, typer.Option("--data", help="CSV: question, category and, if known, source.")],
    json_out: Annotated[
        str, typer.Option("--json", help="The file for the figures; - is standard output.")
    ] = "-",
    router: RouterName = "",
    leave_one_source_out: Annotated[
        bool, typer.Option(help="Also train without each source in turn and measure on it (minutes).")
    ] = False,
) -> None:
    """Measure a router on labelled questions; rows of category `none` count as out of scope."""
    refuse_input_as_output(data, json_out)
    from medx_core.routing import evaluation
    from medx_core.routing import training as leave_one_out
    from medx_core.routing.encoders import load_encoder
    from medx_core.routing.loading import load_router

    options = settings()
    name = router or options.router_encoder
    file = read_routing_file(data)
    labelled = _labelled(file.questions)
    if leave_one_source_out:
        _refuse_what_cannot_be_left_out(name, labelled)
    loaded = load_router(name, options.routers_folder, threshold=options.route_threshold)
    figures = {
        "medx_version": __version__,
        "data_sha256": file.sha256,
        **evaluation.evaluate(loaded, labelled),
    }
    if leave_one_source_out:
        figures["leave_one_source_out"] = leave_one_out.leave_one_source_out(
            load_encoder(name), training_texts(), labelled
        )
    text = json.dumps(figures, indent=2, ensure_ascii=False)
    if json_out == "-":
        print(text)
    else:
        _write(Path(json_out), text)


@app.command()
def explain(
    text: Annotated[str, typer.Argument(help="The question.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Show a question's route, the training texts nearest to it and the words that weighed most."""
    text = read_question_text(text, max_characters=settings().max_question_characters)
    from medx_core.routing.embedding_router import load_embedding_router
    from medx_core.routing.explanation import explain as explained
    from medx_core.routing.red_flags import red_flags

    options = settings()
    router = load_embedding_router(
        options.router_encoder, options.routers_folder, threshold=options.route_threshold
    )
    route = router.route([text])[0]
    reasons = explained(router, text, training_texts())
    answer = {
        "question": text,
        "category": route.category.value if route.category else None,
        "abstained": route.abstained,
        "probabilities": {category.value: share for category, share in route.probabilities.items()},
        "in_scope": float(router.scores([text])[1][0]),
        "threshold": router.threshold,
        "red_flags": list(red_flags(text)),
        "nearest": [
            {
                "question": near.text,
                "category": near.category.value if near.category else "none",
                "likeness": near.likeness,
            }
            for near in reasons.nearest
        ],
        "words": {label: list(words) for label, words in reasons.words.items()},
    }
    if as_json:
        print(json.dumps(answer, ensure_ascii=False))
    else:
        _show(answer)


def _refuse_what_cannot_be_left_out(router: str, labelled: "Labelled") -> None:
    from medx_core.routing.encoder_files import is_encoder_router
    from medx_core.routing.rules_router import RULES

    if router == RULES or is_encoder_router(Path(router).expanduser()):
        raise BadInput(
            f"--leave-one-source-out trains a head on an encoder anew for each source; {router} is no encoder."
        )
    if not all(labelled.sources):
        raise BadInput("--leave-one-source-out needs a `source` in every row.")


def _labelled(questions: Any) -> "Labelled":
    from medx_core.routing.evaluation import Labelled

    inside = [question for question in questions if question.category is not None]
    if not inside:
        raise BadInput("The file holds no question of the three categories; there is nothing to measure.")
    outside = [question.text for question in questions if question.category is None]
    return Labelled(
        texts=tuple(question.text for question in inside),
        categories=tuple(question.category for question in inside),
        sources=tuple(question.source for question in inside),
        out_of_scope=tuple(outside or (text.text for text in held_out_texts())),
    )


def _show(answer: dict[str, Any]) -> None:
    print(f"Category: {answer['category'] or 'none (abstained)'}")
    for name, share in answer["probabilities"].items():
        print(f"  {name}: {share:.3f}")
    print(f"In scope: {answer['in_scope']:.3f} (abstains below {answer['threshold']:.3f})")
    if answer["red_flags"]:
        print(f"Red flags: {', '.join(answer['red_flags'])}")
    print("Nearest training texts:")
    for near in answer["nearest"]:
        print(f"  {near['likeness']:.2f} {near['category']}: {near['question'][:120]}")
    print("Words that spoke for")
    for label, words in answer["words"].items():
        print(f"  {label}: {', '.join(words) or '-'}")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise BadInput(f"The figures cannot be written to {path}: {error.strerror}.") from error
