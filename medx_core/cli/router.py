"""`medx router`: train, show, measure and explain the router."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medx_core import __version__
from medx_core.cli.ask import read_question
from medx_core.cli.outputs import refuse_input_as_output
from medx_core.cli.router_overrides import overrides
from medx_core.cli.router_training import train
from medx_core.data.routing_files import read_routing_file
from medx_core.data.routing_texts import held_out_texts, training_texts
from medx_core.errors import BadInput
from medx_core.questions import Mode
from medx_core.settings import settings

if TYPE_CHECKING:
    from medx_core.routing.evaluation import Labelled

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
    from medx_core.routing import evaluation, leave_one_out
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
    text = read_question(text, mode=Mode.VERDICT, category="auto", arm="steered").text
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
