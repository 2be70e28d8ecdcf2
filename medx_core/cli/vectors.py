"""`medx vectors`: build, list, show, check, damage, sweep, explore, promote, retire, export, import."""

import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medx_core.categories import Category
from medx_core.cli.ask import answer_lines, load_engine
from medx_core.cli.database import note, opened_database
from medx_core.cli.outputs import AsJson, print_json, refuse_unwritable
from medx_core.cli.recipes import Yes, model_in_use, put_to_use, with_vector, without_key
from medx_core.cli.vector_building import build, note_vector, statements_by_category, sweep
from medx_core.data.bundled_texts import bundled_statements
from medx_core.data.routing_texts import training_texts
from medx_core.errors import NotFound, VectorRefused
from medx_core.jobs.submission import read_question
from medx_core.questions import Exploration, Mode
from medx_core.recipes import ModelIdentity
from medx_core.settings import settings
from medx_core.steering.conventions import ASKED, Convention, Maker, unsaid
from medx_core.storage.engine import Database
from medx_core.storage.recipes import RecipeStore
from medx_core.storage.vectors import VectorProvenance, VectorRecord, VectorStore, provenance_of

if TYPE_CHECKING:
    from torch import Tensor

    from medx_core.steering.steering_vector import SteeringVector

IMPORTED_PRESET = "imported"
ACTIVE = "active"
FIGURES = {
    "separation": "separation of the traces",
    "shuffled_separation": "with shuffled labels at most",
    "halves_cosine": "cosine between split halves",
    "shuffled_cosine": "cosine with shuffled labels",
    "shuffled_cosine_size": "the same, sign left out",
}
SHOWN = (
    "id", "name", "status", "category", "model", "model_sha256", "strategy", "preset", "layer", "alpha", "file",
    "file_sha256", "diagnostics",
)  # fmt: skip

Number = Annotated[int, typer.Argument(help="The vector's number in `medx vectors list`.")]

app = typer.Typer(no_args_is_help=True, help="Steering vectors: build, inspect, choose, exchange.")
app.command()(build)
app.command()(sweep)


@app.command("list")
def list_vectors(as_json: AsJson = False) -> None:
    """List all versions."""
    with opened_database() as database:
        records = VectorStore(database).list()
        states = _states(database, records)
    if as_json:
        print_json({"vectors": [_contract(record, states) for record in records]})
        return
    for record in records:
        made, fault = _told_by_file(record)
        print(
            f"{record.id:>4}  {record.name:<20} {states[record.id]:<10} {record.model}  layer {record.layer}  "
            f"alpha {record.alpha:g}  {record.strategy}  {made.in_words(record.strategy) if made else fault}"
        )
    if not records:
        print("There are no steering vectors yet; run `medx vectors build`.")


@app.command()
def show(number: Number) -> None:
    """Show one version as JSON: how it was made, and its diagnostics."""
    with opened_database() as database:
        record = VectorStore(database).get(number)
        states = _states(database, [record])
    print_json(_contract(record, states), indent=2)


def _states(database: Database, records: Sequence[VectorRecord]) -> Mapping[int, str]:
    """Return the state of each version: active where a recipe in use holds it."""
    recipes = RecipeStore(database)
    in_use = {each: recipes.vectors_in_use(each) for each in {record.model_sha256 for record in records}}
    return {
        record.id: ACTIVE if record.file_sha256 in in_use[record.model_sha256] else record.status.value
        for record in records
    }


def _contract(record: VectorRecord, states: Mapping[int, str]) -> dict[str, Any]:
    """Return one version as JSON values. `status` is active where a recipe in use holds it, else candidate or retired.

    `provenance` comes from its file in the vectors folder; where that cannot be used it is null, and `file_fault` says why.
    """
    made, fault = _told_by_file(record)
    shown = {name: getattr(record, name) for name in SHOWN}
    return (
        shown
        | {"status": states[record.id]}
        | {"file_fault": fault or None, "provenance": made.as_json() if made else None}
    )


def _told_by_file(record: VectorRecord) -> tuple[VectorProvenance | None, str]:
    """Return how a version was made, or None and the sentence that says why its file does not tell."""
    try:
        return provenance_of(settings().vectors_folder, record), ""
    except VectorRefused as error:
        return None, str(error)


@app.command()
def promote(number: Number, yes: Yes = False) -> None:
    """Put a version to use: promotes a recipe that is the one in use with this vector for its category."""
    with opened_database() as database:
        vector = VectorStore(database).get(number)
        _refuse_unsound(database, vector)
        store = RecipeStore(database)
        present = store.standing(_model_of(vector), settings())
        recipe = with_vector(present.recipe, vector)
        record = store.drafted(recipe, f"{present.name} with {vector.name}", model=present.model)
        put_to_use(database, record, yes=yes)
        note_vector(database, "vector promoted", vector)
    print(f"{vector.name} is in use for {vector.model}, as part of the recipe {record.shown}.")


@app.command()
def retire(number: Number, yes: Yes = False) -> None:
    """Withdraw a version: no recipe takes it up again, and one without it is promoted where the one in use holds it."""
    with opened_database() as database:
        vector = VectorStore(database).get(number)
        store = RecipeStore(database)
        present = store.standing(_model_of(vector), settings())
        held = [
            key for key, entry in present.recipe.steering.items() if entry.file_sha256 == vector.file_sha256
        ]
        if held:
            recipe = without_key(present.recipe, held[0])
            record = store.drafted(recipe, f"{present.name} without {vector.name}", model=present.model)
            put_to_use(database, record, yes=yes)
        VectorStore(database).retire(number)
        note_vector(database, "vector retired", vector)
    print(f"{vector.name} is retired.")


def _model_of(vector: VectorRecord) -> ModelIdentity:
    """Return a vector's model in the number type of this machine."""
    return replace(model_in_use(vector.model_sha256), name=vector.model)


def _refuse_unsound(database: Database, record: VectorRecord) -> None:
    """Refuse to put to use what a worker could not read: it would answer that category unsteered.

    Raises:
        VectorRefused: the file is missing, was changed, or holds no sound vector.
    """
    # torch takes seconds to import: only the commands that need it wait for it.
    from medx_core.assembly import build_registry

    build_registry(settings(), database).read(record)


@dataclass(frozen=True)
class Comparison:
    """The cosines among the active vectors of one model, strategy and layer, by their names.

    Gated vectors are compared by their gates' weights: their directions are the answer's gradient, alike by making.
    """

    model: str
    model_sha256: str
    strategy: str
    layer: int
    cosines: dict[str, dict[str, float]]


@app.command()
def check(as_json: AsJson = False) -> None:
    """Check the active vectors: norm, cosines between categories, shift of the hidden states.

    Exit code 1 when there is none, or when one is missing, was changed or does not fit.
    """
    from medx_core.assembly import build_registry

    with opened_database() as database:
        registry = build_registry(settings(), database)
        every = registry.store.list()
        states = _states(database, every)
        records = [record for record in every if states[record.id] == ACTIVE]
        if not records:
            raise NotFound("There are no active steering vectors; run `medx vectors build`.")
        compared = comparisons([(record, registry.read(record)) for record in records])
    if as_json:
        vectors = [_contract(record, states) for record in records]
        print_json({"vectors": vectors, "cosines": [asdict(comparison) for comparison in compared]})
        return
    for record in records:
        _print_diagnostics(record)
    _print_cosines(compared)


def comparisons(active: "Sequence[tuple[VectorRecord, SteeringVector]]") -> list[Comparison]:
    """Return the cosines between categories, among vectors of like kind only: same model, strategy and layer.

    Others cannot be compared: a cosine between the spaces of two models, or of two layers, says nothing.
    """
    from medx_core.steering.diagnostics import cosines_between

    kinds: dict[tuple[str, str, int], list[tuple[VectorRecord, SteeringVector]]] = defaultdict(list)
    for record, vector in active:
        kinds[record.model_sha256, record.strategy, record.layer].append((record, vector))
    return [
        Comparison(
            model=alike[0][0].model,
            model_sha256=model_sha256,
            strategy=strategy,
            layer=layer,
            cosines=cosines_between({record.name: _what_tells_apart(vector) for record, vector in alike}),
        )
        for (model_sha256, strategy, layer), alike in kinds.items()
        if len(alike) > 1
    ]


def _what_tells_apart(vector: "SteeringVector") -> "Tensor":
    return vector.gate.weight if vector.gate else vector.direction


def _print_cosines(compared: Sequence[Comparison]) -> None:
    if not compared:
        print(
            "No cosines between categories: no two active vectors are of one model, one strategy and one layer."
        )
    for kind in compared:
        compared_by = "gates" if kind.strategy == "gated" else "directions"
        print(
            f"Cosine between categories, {kind.model}, {compared_by} of {kind.strategy} at layer {kind.layer}:"
        )
        for name, row in kind.cosines.items():
            print(f"  {name:<24} " + "  ".join(f"{value:6.3f}" for value in row.values()))


def _print_diagnostics(record: VectorRecord) -> None:
    from medx_core.evaluation.vector_findings import gain_sentence, warnings_of

    print(f"{record.model}: {record.name} (layer {record.layer}, alpha {record.alpha:g}, {record.strategy})")
    made = provenance_of(settings().vectors_folder, record)
    print(
        f"  {made.in_words(record.strategy)}; data {made.data_sha256[:12]}, prompt {made.prompt_version}, "
        f"positions {made.positions}, made {made.created_at[:10]}"
    )
    for line in _figures(record.diagnostics):
        print(f"  {line}")
    print(f"  {gain_sentence(record.diagnostics)}")
    for warning in warnings_of(record.diagnostics):
        print(f"  {warning}")


def _figures(diagnostics: Mapping[str, Any]) -> Iterator[str]:
    """Say each figure that was computed; imported vectors have few."""
    if "relative_norm" in diagnostics:
        relative = 100 * diagnostics["relative_norm"]
        yield f"norm                         {diagnostics['norm']:.4g}, moves states by {relative:.2f} % of the residual stream"
    if "shift" in diagnostics:
        shift = diagnostics["shift"]
        yield f"shift of the hidden states   {shift['mean_shift']:.4g}, {shift['in_deviations']:.3f} standard deviations"
    for name, words in FIGURES.items():
        if diagnostics.get(name) is not None:
            yield f"{words:<28} {diagnostics[name]:.3f}"


@app.command()
def damage(
    number: Number,
    texts: Annotated[int, typer.Option(min=1, help="True statements whose perplexity is read.")] = 60,
    questions: Annotated[int, typer.Option(min=1, help="Questions that are answered in writing.")] = 16,
    as_json: AsJson = False,
) -> None:
    """Measure whether the model still writes: perplexity of true statements, repetition in its answers."""
    from medx_core.assembly import build_model, build_registry
    from medx_core.traces.damage import damage as measured

    with opened_database() as database:
        record = VectorStore(database).get(number)
        vector = build_registry(settings(), database).read(record)
    model = build_model(settings())
    if vector.model_sha256 != model.weight_sha256:
        raise VectorRefused(
            f"{record.name} was made for {record.model}, not for {model.name}; set MEDX_MODEL to its model."
        )
    figures = measured(
        model,
        vector.plan,
        texts=_true_statements(record.category, texts),
        questions=_questions(record.category, questions),
    ).as_json()
    if as_json:
        print_json({"vector": record.name, "positions": str(vector.positions), **figures})
        return
    print(
        f"{record.name}: perplexity of {figures['texts']} true statements {figures['perplexity_before']:.1f} unsteered, "
        f"{figures['perplexity_after']:.1f} steered (ratio {figures['perplexity_ratio']:.3f})."
    )
    print(
        f"Repeated runs of four words in {figures['questions']} answers: {100 * figures['repetition_before']:.1f} % "
        f"unsteered, {100 * figures['repetition_after']:.1f} % steered."
    )


def _true_statements(category: Category | None, most: int) -> list[str]:
    usable = [each for each in bundled_statements() if each.split == "test" and each.answer]
    return [each.statement for each in usable if category in (None, each.category)][:most]


def _questions(category: Category | None, most: int) -> list[str]:
    """Take questions from all over the bundled ones: neighbours in the file are alike."""
    texts = [labelled.text for labelled in training_texts() if category in (None, labelled.category)]
    return texts[:: max(1, len(texts) // most)][:most]


@app.command()
def explore(
    text: Annotated[str, typer.Argument(help="The question, or a statement to be judged TRUE or FALSE.")],
    vector: Annotated[
        list[int], typer.Option(help="A vector's number in `medx vectors list`; may be repeated.")
    ],
    strength: Annotated[float, typer.Option(help="Each vector is so many times as strong as it is.")] = 1.0,
    mode: Annotated[Mode, typer.Option(help="The form of the answers.")] = Mode.VERDICT,
    as_json: AsJson = False,
) -> None:
    """Try vectors, together, on one question in this process; nothing is stored, and it is no measured answer."""
    limit = settings().max_question_characters
    asked = read_question(text, mode=mode, category="auto", arm="both", max_characters=limit)
    with opened_database() as database:
        store = VectorStore(database)
        files = tuple(store.get(number).file_sha256 for number in vector)
        engine = load_engine(database)
        answered = engine.answer(replace(asked, exploration=Exploration(files, strength)))
        if answered.refusal:
            raise VectorRefused(answered.refusal)
    if as_json:
        print_json(answered.as_json())
        return
    for answer in answered.answers:
        print(*answer_lines(answer), sep="\n")
        if answer.perplexity is not None and answer.repetition is not None:
            print(f"  perplexity {answer.perplexity:.3g}, repetition {100 * answer.repetition:.0f} %")


@app.command("export")
def export_vector(
    number: Number,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the GGUF file.")],
    model_hint: Annotated[
        str, typer.Option(help="The architecture, where the vector does not name it.")
    ] = "",
) -> None:
    """Write a constant vector as a GGUF control vector; alpha is multiplied in, so strength 1 there is this one."""
    refuse_unwritable(output)
    from medx_core.assembly import build_registry
    from medx_core.steering.control_vectors import export_control_vector, how_in_llama_cpp

    with opened_database() as database:
        registry = build_registry(settings(), database)
        vector = registry.read(VectorStore(database).get(number))
        export_control_vector(vector, output, model_hint=model_hint)
        note(database, "vector exported", f"{vector.model} {vector.version}")
    layers = ", ".join(str(layer) for layer in vector.directions)
    print(
        f"Wrote {vector.version} for {vector.model} to {output} (direction for layer {layers}, counted from 0)."
    )
    print(how_in_llama_cpp(vector))


@app.command("import")
def import_vector(  # noqa: PLR0913 - one parameter per option
    file: Annotated[Path, typer.Argument(help="A GGUF control vector.")],
    category: Annotated[Category, typer.Option(help="The category it shall steer.")],
    alpha: Annotated[float, typer.Option(help="Strength.")] = 1.0,
    made_by: Annotated[
        str, typer.Option(help="The tool that made it: repeng, llama.cpp, medx or other.")
    ] = "",
    layers: Annotated[
        str,
        typer.Option(help="What direction.N means: output (of layer N, from 0) or hidden-states (entry N)."),
    ] = "",
    sign: Annotated[
        str, typer.Option(help="What a positive strength moves states towards: correct or incorrect answers.")
    ] = "",
    scale: Annotated[str, typer.Option(help="unit (directions of length 1) or raw.")] = "",
    positions: Annotated[
        str, typer.Option(metavar="WINDOW", help="Which tokens it steers. [default: as its maker's tool]")
    ] = "",
) -> None:
    """Register a control vector for the model in use and show what it does; it waits to be promoted.

    What the file does not say of how it was made is asked, or must be given by the options.
    """
    from medx_core.assembly import build_model, build_registry
    from medx_core.evaluation.gain import with_gain
    from medx_core.evaluation.vector_findings import gain_sentence, warnings_of
    from medx_core.prompts import STATEMENT_PROMPT
    from medx_core.steering.control_vectors import imported_vector, read_control_vector
    from medx_core.traces.statement_runner import StatementRunner

    given = {"made_by": made_by, "layers": layers, "sign": sign, "scale": scale, "positions": positions}
    said = dict(read_control_vector(file).said) | {name: word for name, word in given.items() if word}
    convention = Convention.of(_asked(said))
    train, held_out = statements_by_category("", category, seed=1)[category]
    with opened_database() as database:
        model = build_model(settings())
        names = (model.name, model.weight_sha256)
        vector = imported_vector(
            file, model.network, category=category, alpha=alpha, names=names, convention=convention
        )
        runner = StatementRunner(model, STATEMENT_PROMPT, settings().max_batch_rows)
        vector = with_gain(runner, vector, train, held_out, seed=1)
        record = build_registry(settings(), database).publish(vector, preset=IMPORTED_PRESET)
        note_vector(database, "vector imported", record)
    steered = ", ".join(str(layer) for layer in vector.directions)
    print(f"{record.name}: layers {steered} (from 0), alpha {vector.alpha:g}.")
    print(f"  steers {vector.positions} tokens of written answers, {vector.verdict_positions} of verdicts")
    for line in _figures(vector.diagnostics):
        print(f"  {line}")
    print(f"  {gain_sentence(vector.diagnostics)}")
    for warning in warnings_of(vector.diagnostics):
        print(f"  {warning}")
    print(f"  It waits to be put to use: medx vectors promote {record.id}")


def _asked(said: Mapping[str, str]) -> Mapping[str, str]:
    """Ask a person at a terminal for what is not known of a vector; elsewhere nothing is asked."""
    answers = dict(said)
    while sys.stdin.isatty() and (missing := unsaid(answers)):
        choices = ", ".join(ASKED.get(missing[0], Maker))
        answers[missing[0]] = typer.prompt(f"{missing[0].replace('_', ' ')} ({choices})")
    return answers
