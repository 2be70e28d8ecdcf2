"""`medx vectors damage`: what a vector does to written text, whatever it does to verdicts."""

import json
from typing import Annotated, Any

import typer

from medx_core.categories import Category
from medx_core.cli.database import opened_database
from medx_core.data.bundled_statements import bundled_statements
from medx_core.data.routing_texts import training_texts
from medx_core.errors import VectorRefused
from medx_core.settings import settings
from medx_core.storage.vector_store import VectorStore


def damage(
    number: Annotated[int, typer.Argument(help="The vector's number in `medx vectors list`.")],
    texts: Annotated[int, typer.Option(min=1, help="True statements whose perplexity is read.")] = 60,
    questions: Annotated[int, typer.Option(min=1, help="Questions that are answered in writing.")] = 16,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure whether the model still writes: perplexity of true statements, repetition in its answers."""
    from medx_core.assembly import build_model, build_registry
    from medx_core.steering.hooks import SteeringPlan
    from medx_core.traces.damage import damage as measured

    with opened_database() as database:
        record = VectorStore(database).get(number)
        vector = build_registry(settings(), database).read(record)
    model = build_model(settings())
    if vector.model_sha256 != model.weight_sha256:
        raise VectorRefused(
            f"{record.name} was made for {record.model}, not for {model.name}; set MEDX_MODEL to its model."
        )
    found = measured(
        model,
        SteeringPlan(tuple(vector.steps)),
        texts=_true_statements(record.category, texts),
        questions=_questions(record.category, questions),
    )
    figures = found.as_json()
    if as_json:
        print(json.dumps({"vector": record.name, "positions": vector.positions.value, **figures}))
        return
    _tell(record.name, figures)


def _true_statements(category: Category, most: int) -> list[str]:
    held_out = [one for one in bundled_statements() if one.split == "test"]
    return [one.statement for one in held_out if one.answer and one.category is category][:most]


def _questions(category: Category, most: int) -> list[str]:
    """Take questions from all over the bundled ones: neighbours in the file are alike."""
    asked = [one.text for one in training_texts() if one.category is category]
    return asked[:: max(1, len(asked) // most)][:most]


def _tell(name: str, figures: dict[str, Any]) -> None:
    print(
        f"{name}: perplexity of {figures['texts']} true statements {figures['perplexity_before']:.1f} unsteered, "
        f"{figures['perplexity_after']:.1f} steered (ratio {figures['perplexity_ratio']:.3f})."
    )
    print(
        f"Repeated runs of four words in {figures['questions']} answers: {100 * figures['repetition_before']:.1f} % "
        f"unsteered, {100 * figures['repetition_after']:.1f} % steered."
    )
