"""`medx router`: train, show, measure and explain the router."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medx_core import __version__
from medx_core.cli.outputs import AsJson, JsonOut, print_json, refuse_input_as_output, text_file, write_json
from medx_core.cli.router_flags import flags
from medx_core.data.emergency_messages import bundled_messages
from medx_core.data.routing_texts import (
    RoutingFile,
    RoutingText,
    held_out_texts,
    read_routing_file,
    training_texts,
    write_overrides,
)
from medx_core.errors import BadInput
from medx_core.settings import settings

if TYPE_CHECKING:
    from medx_core.routing.classifier import EpochReport, FineTuning
    from medx_core.routing.embedding_router import Explanation
    from medx_core.routing.heads import RouterHead

app = typer.Typer(no_args_is_help=True, help="Train, show, measure and explain the router.")
app.command()(flags)

RouterName = Annotated[
    str,
    typer.Option(
        "--router",
        help="`rules`, an encoder, or a fine-tuned router's folder; MEDX_ROUTER_ENCODER if not given.",
    ),
]
Seed = Annotated[int, typer.Option(help="The seed of folds, order and fitting.")]
Missing = Annotated[
    bool, typer.Option("--missing", help="Train only if no head for this encoder knows these texts.")
]
With = Annotated[
    Path | None,
    typer.Option(
        "--with",
        help="Questions to train on besides the bundled texts (question, category), such as `medx router overrides` writes.",
    ),
]
Validate = Annotated[
    Path | None,
    typer.Option(help="Labelled questions to measure the new head on; the figures are stored with it."),
]
EncoderName = Annotated[
    str,
    typer.Option("--encoder", help="Fine-tune this encoder (folder or hub id) as a classifier instead."),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Where to write: the head's file or, with --encoder, the folder."),
]
Device = Annotated[str, typer.Option(help="With --encoder: cpu or cuda:N.")]
MaxEpochs = Annotated[int, typer.Option(min=1, help="With --encoder: the most epochs.")]


@app.command()
def train(  # noqa: PLR0913 - one parameter per option of the command
    seed: Seed = 1,
    missing: Missing = False,
    with_file: With = None,
    validate: Validate = None,
    encoder: EncoderName = "",
    output: Output = None,
    device: Device = "cpu",
    max_epochs: MaxEpochs = 8,
) -> None:
    """Train the router on the bundled texts and those of --with, and the recognition of emergencies; store both."""
    added = read_routing_file(with_file).questions if with_file else ()
    if encoder:
        from medx_core.routing.classifier import FineTuning

        folder = output or settings().routers_folder / f"encoder-{Path(encoder).name}"
        _fine_tune(encoder, folder, added, FineTuning(seed=seed, device=device, max_epochs=max_epochs))
        return
    if not (missing and _is_trained(added)):
        questions = read_routing_file(validate) if validate else None
        _store(_trained_head(added, seed, questions), output)
    if not (missing and _knows_emergencies()):
        _train_emergencies(seed, output)


def _knows_emergencies() -> bool:
    from medx_core.routing.loading import knows_emergencies

    return knows_emergencies(settings().router_encoder, settings().routers_folder, bundled_messages())


def _train_emergencies(seed: int, output: Path | None) -> None:
    """Train the head that recognises emergencies and store it beside the router's."""
    print("Training the recognition of emergencies: loading the encoder ...", flush=True)
    from medx_core.routing.emergencies import emergency_head_path, save_emergency_head
    from medx_core.routing.emergency_training import train_emergency_head
    from medx_core.routing.encoders import load_encoder

    head = train_emergency_head(
        bundled_messages(),
        load_encoder(settings().router_encoder),
        seed=seed,
        progress=lambda step: print(f"  {step}", flush=True),
    )
    for writer, counts in head.provenance.figures["unseen_writers"].items():
        print(
            f"Without writer {writer}, on that writer's messages: {counts['recognised']} of {counts['emergencies']} "
            f"emergencies recognised, {counts['false_alarms']} of {counts['look_alikes']} look-alikes flagged."
        )
    beside = output.with_suffix(".emergency.safetensors") if output else None
    path = beside or emergency_head_path(settings().routers_folder, head.provenance.encoder_sha256)
    with _said_when_it_cannot_be_written(path):
        save_emergency_head(head, path)
    print(f"Trained on {head.provenance.texts} messages; stored at {path}.")


@contextmanager
def _said_when_it_cannot_be_written(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInput(f"The router cannot be written to {path}: {error.strerror}.") from error


def _is_trained(added: Sequence[RoutingText]) -> bool:
    """Whether there is nothing to train; says which router is in use."""
    from medx_core.routing.loading import head_in_use, needs_training, uses_head
    from medx_core.routing.router import texts_sha256

    options, texts = settings(), training_texts()
    if needs_training(options.router_encoder, options.routers_folder, texts, added):
        return False
    print(f"The router for {options.router_encoder} is trained; `medx router show` describes it.")
    if uses_head(options.router_encoder):
        known = head_in_use(options.router_encoder, options.routers_folder)[0].provenance
        if known.bundled_sha256 != texts_sha256(texts):
            print(
                f"The bundled texts have changed since it was trained with {known.added_texts} texts of yours; it is "
                "kept. To train it anew, run `medx router train --with FILE`."
            )
    return True


def _trained_head(added: Sequence[RoutingText], seed: int, questions: RoutingFile | None) -> "RouterHead":
    print("Training the router: loading the encoder ...", flush=True)
    from medx_core.routing.embedding_router import EmbeddingRouter
    from medx_core.routing.encoders import load_encoder
    from medx_core.routing.evaluation import evaluate
    from medx_core.routing.training import train_embedding_router

    encoder = load_encoder(settings().router_encoder)
    head = train_embedding_router(
        training_texts(),
        encoder,
        added=added,
        seed=seed,
        progress=lambda step: print(f"  {step}", flush=True),
    )
    print(f"Accuracy in cross-validation: {head.provenance.figures['accuracy_in_cross_validation']:.3f}")
    if questions is None:
        return head
    figures = evaluate(EmbeddingRouter(encoder, head), _measured_on(questions.questions))
    shown = {name: figures[name] for name in ("n", "accuracy", "macro_f1", "ece", "by_source", "abstained")}
    validation = {"data_sha256": questions.sha256, **shown, "out_of_scope": figures["out_of_scope"]}
    print(f"Accuracy on {figures['n']:,} questions of --validate: {figures['accuracy']:.3f}")
    return replace(head, provenance=replace(head.provenance, validation=validation))


def _store(head: "RouterHead", output: Path | None) -> None:
    from medx_core.routing.heads import head_path, save_head

    path = output or head_path(settings().routers_folder, head.provenance.encoder_sha256)
    with _said_when_it_cannot_be_written(path):
        save_head(head, path)
    print(f"Trained on {head.provenance.texts} texts; stored at {path}.")


def _fine_tune(encoder: str, folder: Path, added: Sequence[RoutingText], how: "FineTuning") -> None:
    from medx_core.routing.classifier import save_classifier, train_classifier

    texts = training_texts()
    print(f"Fine-tuning {encoder} on {len(texts) + len(added)} texts (minutes on a CPU) ...", flush=True)
    router = train_classifier(texts, encoder, settings=how, added=added, progress=_say_epoch)
    save_classifier(folder, router.network, router.tokenizer, router.provenance)
    accuracy = router.provenance.figures["accuracy_kept_aside"]
    print(f"Stored in {folder}. Accuracy on texts kept aside: {accuracy:.3f}")
    print(f"To use it, set MEDX_ROUTER_ENCODER={folder}")


def _say_epoch(report: "EpochReport") -> None:
    print(
        f"  epoch {report.epoch} of {report.max_epochs} at most: loss {report.loss:.3f}, accuracy {report.accuracy:.3f}",
        flush=True,
    )


@app.command()
def show() -> None:
    """Print which router is in use and where it comes from, as JSON."""
    from medx_core.routing.heads import shipped_heads
    from medx_core.routing.loading import head_in_use, load_router, uses_head

    options = settings()
    if uses_head(options.router_encoder):
        head, path = head_in_use(options.router_encoder, options.routers_folder)
        known: dict[str, Any] = {
            "router": f"embedding/{head.version}",
            "threshold": options.route_threshold or head.threshold,
            "origin": "ships with MedX" if path.parent == shipped_heads() else "trained here",
            "file": str(path),
            "temperature": head.temperature,
            **asdict(head.provenance),
        }
    else:
        router = load_router(
            options.router_encoder, options.routers_folder, threshold=options.route_threshold
        )
        known = {"router": router.name, "threshold": router.threshold, "origin": options.router_encoder}
        known |= asdict(router.provenance) if hasattr(router, "provenance") else {}
    print_json(known, indent=2)


@app.command()
def evaluate(
    data: Annotated[Path, typer.Option("--data", help="CSV: question, category and, if known, source.")],
    json_out: JsonOut = "-",
    router: RouterName = "",
    leave_one_source_out: Annotated[
        bool, typer.Option(help="Also train without each source in turn and measure on it (minutes).")
    ] = False,
) -> None:
    """Measure a router on labelled questions; rows of category `none` count as out of scope."""
    refuse_input_as_output(data, json_out)
    file = read_routing_file(data)
    options = settings()
    name = router or options.router_encoder
    if leave_one_source_out:
        _refuse_what_cannot_be_left_out(name, file.questions)
    from medx_core.routing import evaluation
    from medx_core.routing.loading import load_router

    texts = _measured_on(file.questions)
    loaded = load_router(name, options.routers_folder, threshold=options.route_threshold)
    about = {"medx_version": __version__, "data_sha256": file.sha256}
    figures = {**about, **evaluation.evaluate(loaded, texts)}
    if leave_one_source_out:
        from medx_core.routing import training
        from medx_core.routing.encoders import load_encoder

        figures["leave_one_source_out"] = training.leave_one_source_out(
            load_encoder(name), training_texts(), texts
        )
    write_json(figures, json_out)


def _refuse_what_cannot_be_left_out(router: str, questions: Sequence[RoutingText]) -> None:
    from medx_core.routing.loading import uses_head

    if not uses_head(router):
        raise BadInput(
            f"--leave-one-source-out trains a head on an encoder anew for each source; {router} is not an encoder."
        )
    if not all(question.source for question in questions if question.category):
        raise BadInput("--leave-one-source-out needs a `source` in every row.")


def _measured_on(questions: Sequence[RoutingText]) -> tuple[RoutingText, ...]:
    """Return the questions to measure on, with the bundled texts out of scope where the file has none."""
    if not any(question.category for question in questions):
        raise BadInput("The file has no question of the three categories; there is nothing to measure.")
    all_inside = all(question.category for question in questions)
    return (*questions, *(held_out_texts() if all_inside else ()))


@app.command()
def explain(
    text: Annotated[str, typer.Argument(help="The question.")],
    as_json: AsJson = False,
) -> None:
    """Show a question's route, the training texts nearest to it and the words that weighed most."""
    from medx_core.jobs.submission import read_question_text
    from medx_core.routing.loading import uses_head

    options = settings()
    text = read_question_text(text, max_characters=options.max_question_characters)
    if not uses_head(options.router_encoder):
        raise BadInput(
            f"The router in use, {options.router_encoder}, keeps nothing to explain its routes by; "
            "`explain` needs a sentence encoder in MEDX_ROUTER_ENCODER."
        )
    from medx_core.routing import embedding_router

    router = embedding_router.load_embedding_router(
        options.router_encoder, options.routers_folder, threshold=options.route_threshold, few_texts=True
    )
    explanation = embedding_router.explain(router, text, training_texts())
    answer = _as_json(text, explanation) | {"threshold": router.threshold}
    if as_json:
        print_json(answer)
    else:
        _show(answer)


def _as_json(text: str, explanation: "Explanation") -> dict[str, Any]:
    route = explanation.route
    return {
        "question": text,
        "category": route.category.value if route.category else None,
        "abstained": route.abstained,
        "probabilities": {category.value: share for category, share in route.probabilities.items()},
        "in_scope": explanation.in_scope,
        "emergency": explanation.emergency.flag,
        "emergency_because": explanation.emergency.why,
        "red_flags": list(explanation.emergency.rules),
        "nearest": [
            {
                "question": near.text,
                "category": near.category.value if near.category else "none",
                "likeness": near.likeness,
            }
            for near in explanation.nearest
        ],
        "words": {label: list(terms) for label, terms in explanation.terms.items()},
    }


def _show(answer: dict[str, Any]) -> None:
    print(f"Category: {answer['category'] or 'none (abstained)'}")
    for name, share in answer["probabilities"].items():
        print(f"  {name}: {share:.3f}")
    print(f"In scope: {answer['in_scope']:.3f} (abstains below {answer['threshold']:.3f})")
    print(f"Emergency: {'yes' if answer['emergency'] else 'no'}. {answer['emergency_because']}")
    print("Nearest training texts:")
    for near in answer["nearest"]:
        print(f"  {near['likeness']:.2f} {near['category']}: {near['question'][:120]}")
    print("Words that weighed most for")
    for label, words in answer["words"].items():
        print(f"  {label}: {', '.join(words) or '-'}")


@app.command()
def overrides(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The CSV to write; standard output if not given.")
    ] = None,
) -> None:
    """Write the questions whose category a person chose, as CSV to train with. The audit log notes it."""
    from medx_core.cli.database import note, opened_database
    from medx_core.storage.jobs import JobStore

    table = io.StringIO(newline="")
    with opened_database() as database:
        count = write_overrides(JobStore(database).overrides(), table)
        note(database, "overrides exported", "router", rows=count)
    if output is None:
        print(table.getvalue(), end="")
        return
    with text_file(output) as out:
        out.write(table.getvalue())
    print(f"{count} overridden routes written to {output}.")
    if count:
        print(f"To train with them: medx router train --with {output}")
