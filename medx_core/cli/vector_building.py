"""`medx vectors build`: from labelled statements to registered vectors."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from medx_core.categories import Category
from medx_core.cli.database import opened_database
from medx_core.cli.vector_resuming import Parts, ResumableBuild
from medx_core.data.bundled_statements import bundled_statements
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.errors import BadInput
from medx_core.settings import settings
from medx_core.storage.audit_store import AuditStore
from medx_core.storage.engine import Database
from medx_core.storage.vector_store import PAPER_PRESET, VectorRecord, VectorStatus, VectorStore

if TYPE_CHECKING:
    from medx_core.models.loading import LoadedModel
    from medx_core.steering.steering_vector import SteeringVector
    from medx_core.vector_building import VectorRecipe

ACTOR = "command line"
TRAIN_SHARE = 0.8
CUSTOM_PRESET = "custom"

AnyCategory = Annotated[
    Category | None, typer.Option(help="Only this category; needed for a file without categories.")
]
Strategy = Annotated[str, typer.Option(help="mean_difference, pca, gated, amplify, random or shuffled.")]
Reading = Annotated[str, typer.Option(help="answer_word, statement, model_right or full_trace.")]
Layers = Annotated[
    str, typer.Option("--layer", help="Decoder layer from 0, or several: 20,24,28. [default: penultimate]")
]
Alpha = Annotated[
    float | None, typer.Option(help="Strength; for gated in logits. [default: 1.0, gated: chosen]")
]
Examples = Annotated[
    int | None, typer.Option(min=4, help="Statements a category. [default: 200, gated: all]")
]
FitOn = Annotated[str, typer.Option(help="gated: auto, twins or statements.")]
At = Annotated[str, typer.Option("--positions", help="Which tokens of a text: last, last-prompt or all.")]
ALL_POSITIONS_OF_A_GATE = (
    "A gated vector steers written answers only where MEDX_GATED_TEXT is set, and verdicts at the answer's token alone; "
    "without that setting --positions all changes nothing."
)


def build(  # noqa: PLR0913 - one parameter an option
    *,
    missing: Annotated[
        bool, typer.Option("--missing", help="Build only for categories without an active vector.")
    ] = False,
    data: Annotated[
        str, typer.Option(help="A file with labelled statements. [default: the bundled ones]")
    ] = "",
    category: AnyCategory = None,
    strategy: Strategy = "mean_difference",
    layers: Layers = "",
    alpha: Alpha = None,
    reading: Reading = "answer_word",
    examples: Examples = None,
    fit_on: FitOn = "auto",
    positions: At = "last",
    choose: Annotated[
        bool,
        typer.Option("--choose", help="Choose layer and strength by cross-fitting on the training part."),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Decides split, random and shuffled vectors.")] = 1,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep finished batches on disk and go on from them.")
    ] = False,
) -> None:
    """Build one vector a category for the model in use; by default the paper's, from the bundled statements.

    What is built first by the paper's recipe is put to use at once; every other version waits to be promoted.
    """
    # torch takes seconds to import: only the commands that need it wait for it.
    from medx_core.assembly import build_model
    from medx_core.steering.hooks import Positions
    from medx_core.vector_building import VectorRecipe

    if positions not in list(Positions):
        raise BadInput(f"--positions {positions!r} is not known; use {', '.join(Positions)}.")
    recipe = VectorRecipe(
        examples=examples,
        alpha=alpha,
        layers=layers_from(layers),
        reading=reading,
        strategy=strategy,
        fit_on=fit_on,
        choose=choose,
        positions=Positions(positions),
        seed=seed,
    )
    if recipe.is_gated and recipe.positions is Positions.ALL and not settings().gated_text:
        print(ALL_POSITIONS_OF_A_GATE, file=sys.stderr)
    parts = statements_by_category(data, category, seed)
    with opened_database() as database:
        model = build_model(settings())
        # a vector of another number type is another vector
        made_by = f"{model.weight_sha256} {model.placement}"
        kept = ResumableBuild.of(settings().home, recipe, made_by, parts) if resume else None
        present = VectorStore(database).active(model.weight_sha256) if missing else {}
        wanted = {name: found for name, found in parts.items() if name not in present}
        if wanted:
            _build_each(wanted, model, recipe, database, kept)
        else:
            print(f"Every category has an active vector for {model.name}.")
        if kept:
            kept.forget()


def _build_each(
    wanted: Mapping[Category, Parts],
    model: "LoadedModel",
    recipe: "VectorRecipe",
    database: Database,
    kept: ResumableBuild | None,
) -> None:
    """Build and register one vector a category, each as soon as it is done."""
    from medx_core.assembly import build_registry
    from medx_core.vector_building import VectorBuilder

    registry = build_registry(settings(), database)
    builder = VectorBuilder(
        model, recipe, batch_rows=settings().max_batch_rows, finished=kept.batches if kept else None
    )
    known = {one.file_sha256: one for one in registry.store.list(model.weight_sha256)}
    for name, (train, held_out) in wanted.items():
        before = known.get(kept.built(name)) if kept else None
        if before:
            print(f"{before.name} was built before the interruption.")
            continue
        vector = builder.build(name, train, held_out, on_progress=_progress(name))
        record = registry.publish(vector, preset=PAPER_PRESET if recipe.is_the_papers else CUSTOM_PRESET)
        note(database, "vector built", record)
        if kept:
            kept.note_built(name, record.file_sha256)
        _report(record, vector)


def layers_from(text: str) -> tuple[int, ...]:
    """Read "28" or "20,24,28".

    Raises:
        BadInput: something else is written there.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() for part in parts):
        raise BadInput(f"--layer {text!r} is not understood; write decoder layers from 0, as 28 or 20,24,28.")
    return tuple(sorted({int(part) for part in parts}))


def statements_by_category(data: str, category: Category | None, seed: int) -> Mapping[Category, Parts]:
    """Return the statements to build from and to measure on, for each category asked for.

    Raises:
        BadInput: the file cannot be used, or has no category and none was chosen.
    """
    if not data:
        return {name: bundled(name) for name in Category if category in (None, name)}
    from medx_core.data.labelled_files import load_labelled
    from medx_core.data.limits import FileLimits

    loaded = load_labelled(data, limits=FileLimits.of(settings()))
    for notice in loaded.notices:
        print(notice, file=sys.stderr)
    # Swaps of FALSE statements are a control to measure with, nothing to learn from.
    usable = [one for one in loaded.statements if one.source_answer is not False]
    named = {one.category for one in usable if one.category is not None}
    if not named and category is None:
        raise BadInput(
            f"{data} has no category column; say which category its vector is for: --category triage."
        )
    found: dict[Category, Parts] = {}
    for name in Category:
        part = usable if not named else [one for one in usable if one.category is name]
        if category in (None, name) and (name in named or not named):
            found[name] = _parts(part, has_split=loaded.has_split, seed=seed)
    return found


def bundled(category: Category) -> Parts:
    """Return the bundled statements of a category: the part for building, and the part that is held out."""
    parts: dict[str, list[LabelledStatement]] = {"train": [], "test": []}
    for one in bundled_statements():
        if one.category is category:
            parts[one.split].append(
                LabelledStatement(
                    text=one.statement,
                    answer=one.answer,
                    group=one.quad,
                    category=one.category,
                    pair=one.pair,
                    harm=one.harm,
                    split=one.split,
                )
            )
    return parts["train"], parts["test"]


def note(database: Database, action: str, record: VectorRecord) -> None:
    """Write into the audit log what was done to a version."""
    AuditStore(database).append(
        ACTOR, action, f"{record.model} {record.name}", {"file_sha256": record.file_sha256}
    )


def _parts(statements: Sequence[LabelledStatement], *, has_split: bool, seed: int) -> Parts:
    from medx_core.data.splits import split_by_share

    if has_split:
        train = [one for one in statements if one.split.casefold() == "train"]
        return train, [one for one in statements if one.split.casefold() == "test"]
    return split_by_share(statements, TRAIN_SHARE, seed)


def _report(record: VectorRecord, vector: "SteeringVector") -> None:
    from medx_core.evaluation.vector_findings import gain_sentence, warnings_of

    start = "\r" if sys.stdout.isatty() else ""
    print(
        f"{start}{record.name}: {record.status.value}, {vector.pairs} statements, layer {vector.layer}, "
        f"alpha {vector.alpha:g}, norm {vector.norm:.3g}      "
    )
    print(f"  {gain_sentence(vector.diagnostics)}")
    for warning in warnings_of(vector.diagnostics):
        print(f"  {warning}")
    if record.status is VectorStatus.CANDIDATE:
        print(f"  It waits to be put to use: medx vectors promote {record.id}")


def _progress(category: Category) -> Callable[[int, int], None]:
    def show_progress(done: int, total: int) -> None:
        if sys.stdout.isatty():
            print(f"\r{category.value}: {done} of {total} statements", end="", flush=True)

    return show_progress
