"""`medx vectors build` and `sweep`: from labelled statements to registered vectors, and the map of layers and strengths."""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medx_core import __version__
from medx_core.categories import Category
from medx_core.cli.database import note, opened_database
from medx_core.cli.outputs import JsonOut, clear_stage, refuse_input_as_output, show_stage, tell, write_json
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.errors import BadInput
from medx_core.fitting.examples import refuse_what_cannot_be_fitted_on
from medx_core.fitting.spec import FitSpec, SweepSpec
from medx_core.settings import settings
from medx_core.steering.positions import Positions
from medx_core.storage.engine import Database
from medx_core.storage.vectors import PAPER_PRESET, VectorRecord, VectorStore

if TYPE_CHECKING:
    from medx_core.fitting.build import ResumableBuild
    from medx_core.models.loading import LoadedModel
    from medx_core.steering.steering_vector import SteeringVector

Parts = tuple[Sequence[LabelledStatement], Sequence[LabelledStatement]]
"""Statements to build from, and held-out ones to measure on."""

TRAIN_SHARE = 0.8
CUSTOM_PRESET = "custom"

AnyCategory = Annotated[
    Category | None, typer.Option(help="Only this category; needed for a file without categories.")
]
Strategy = Annotated[
    str, typer.Option(help="mean_difference, pca, gated, amplify, project, clamp, random or shuffled.")
]
Reading = Annotated[str, typer.Option(help="answer_word, statement, model_right or full_trace.")]
Layers = Annotated[
    str, typer.Option("--layer", help="Decoder layer from 0, or several: 20,24,28. [default: penultimate]")
]
Alpha = Annotated[
    float | None,
    typer.Option(
        help="Strength; for gated in logits, for project the share removed, for clamp the target from -1 (incorrect) "
        "to 1 (correct). [default: 1.0, gated: chosen]"
    ),
]
Examples = Annotated[
    int | None, typer.Option(min=4, help="Statements per category. [default: 200, gated: all]")
]
FitOn = Annotated[str, typer.Option(help="gated: auto, twins or statements.")]
Resume = Annotated[bool, typer.Option("--resume", help="Keep finished batches on disk and go on from them.")]
At = Annotated[
    str,
    typer.Option(
        "--positions",
        metavar="WINDOW",
        help="Which tokens of a written answer are steered: last, last-prompt, prompt, answer, all, or FROM:TO "
        "counted from the answer's first token (-12:0 is the prompt's last twelve).",
    ),
]
InVerdicts = Annotated[
    str,
    typer.Option(
        "--verdict-positions",
        metavar="WINDOW",
        help="Which tokens are steered where a verdict is read, which is at -1, the prompt's last token.",
    ),
]
ALL_POSITIONS_OF_A_GATE = (
    "A gated vector steers written answers only where MEDX_GATED_TEXT is set, and verdicts at the answer's token alone; "
    "without that setting --positions all changes nothing."
)


def build(  # noqa: PLR0913 - one parameter per option
    *,
    missing: Annotated[
        bool,
        typer.Option("--missing", help="Build only for categories without a vector by the paper's method."),
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
    verdict_positions: InVerdicts = "last",
    choose: Annotated[
        bool,
        typer.Option("--choose", help="Choose layer and strength by cross-fitting on the training part."),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Decides split, random and shuffled vectors.")] = 1,
    resume: Resume = False,
) -> None:
    """Build one vector per category for the model in use; by default the paper's, from the bundled statements.

    What is built first by the paper's method is part of the built-in recipe `paper` at once; every other version waits to
    be promoted.
    """
    spec = FitSpec(
        examples=examples,
        alpha=alpha,
        layers=layers_from(layers),
        reading=reading,
        strategy=strategy,
        fit_on=fit_on,
        choose=choose,
        positions=Positions.parse(positions),
        verdict_positions=Positions.parse(verdict_positions),
        seed=seed,
    )
    if spec.is_gated and spec.positions == Positions.ALL and not settings().gated_text:
        tell(ALL_POSITIONS_OF_A_GATE)
    parts = statements_by_category(data, category, seed)
    for train, _ in () if missing else parts.values():
        refuse_what_cannot_be_fitted_on(train, spec)
    # torch takes seconds to import: what is said wrongly should be said at once.
    from medx_core.assembly import build_model
    from medx_core.fitting.build import ResumableBuild

    with opened_database() as database:
        model = build_model(settings())
        # a vector of another number type is another vector
        made_by = f"{model.identity_sha256} {model.placement}"
        kept = ResumableBuild.of(settings().home, spec, made_by, parts) if resume else None
        present = VectorStore(database).papers(model.weight_sha256) if missing else {}
        wanted = {category: part for category, part in parts.items() if category not in present}
        if wanted:
            _build_each(wanted, model, spec, database, kept)
        else:
            print(f"Every category has a vector for {model.name}.")
        if kept:
            kept.forget()


def _build_each(
    wanted: Mapping[Category, Parts],
    model: "LoadedModel",
    spec: FitSpec,
    database: Database,
    kept: "ResumableBuild | None",
) -> None:
    """Build and register one vector per category, each as soon as it is done."""
    from medx_core.assembly import build_registry
    from medx_core.evaluation.gain import with_gain
    from medx_core.fitting.build import build_vector
    from medx_core.traces.statement_runner import StatementRunner

    registry = build_registry(settings(), database)
    runner = StatementRunner(model, spec.prompt, settings().max_batch_rows, finished=kept)
    known = {record.file_sha256: record for record in registry.store.list(model.weight_sha256)}
    for category, (train, held_out) in wanted.items():
        before = known.get(kept.built(category)) if kept else None
        if before:
            print(f"{before.name} was built before the interruption.")
            continue
        vector = build_vector(runner, category, train, spec, partial(show_stage, category.value))
        vector = with_gain(runner, vector, train, held_out, seed=spec.seed)
        clear_stage()
        record = registry.publish(vector, preset=PAPER_PRESET if spec.is_the_papers else CUSTOM_PRESET)
        note_vector(database, "vector built", record)
        if kept:
            kept.note_built(category, record.file_sha256)
        _report(record, vector, is_papers=record in registry.store.papers(model.weight_sha256).values())


def note_vector(database: Database, action: str, record: VectorRecord) -> None:
    """Write into the audit log what was done to a version."""
    note(database, action, f"{record.model} {record.name}", file_sha256=record.file_sha256)


def _report(record: VectorRecord, vector: "SteeringVector", *, is_papers: bool) -> None:
    from medx_core.evaluation.vector_findings import gain_sentence, warnings_of

    print(
        f"{record.name}: {'part of the built-in recipe' if is_papers else 'candidate'}, {vector.pairs} statements, layer {vector.layer}, "
        f"alpha {vector.alpha:g}, norm {vector.norm:.3g}"
    )
    print(f"  {gain_sentence(vector.diagnostics)}")
    for warning in warnings_of(vector.diagnostics):
        print(f"  {warning}")
    if not is_papers:
        print(f"  It waits to be put to use: medx vectors promote {record.id}")


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
    from medx_core.data.labelled_files import load_bundled, load_labelled
    from medx_core.data.problems import FileLimits

    # A vector that is built and one that is measured come from the same statements in the same groups.
    loaded = load_labelled(data, limits=FileLimits.of(settings())) if data else load_bundled()
    for notice in loaded.notices if data else ():
        tell(notice)
    # Swaps of FALSE statements are a control to measure with, nothing to learn from.
    usable = [statement for statement in loaded.statements if statement.source_answer is not False]
    named = {statement.category for statement in usable if statement.category}
    if not named and category is None:
        raise BadInput(
            f"{data} has no category column; say which category its vector is for: --category triage."
        )
    parts: dict[Category, Parts] = {}
    for each in Category:
        if category in (None, each) and (each in named or not named):
            statements = [statement for statement in usable if not named or statement.category is each]
            parts[each] = _parts(statements, has_split=loaded.has_split, seed=seed)
    return parts


def _parts(statements: Sequence[LabelledStatement], *, has_split: bool, seed: int) -> Parts:
    from medx_core.data.splits import split_by_share

    if not has_split:
        return split_by_share(statements, TRAIN_SHARE, seed)
    train, test = (
        [statement for statement in statements if statement.split.casefold() == name]
        for name in ("train", "test")
    )
    return train, test


STRENGTHS = {
    "gated": "0.5,1,2,3,4,6,8,10,12,16",
    "amplify": "0.125,0.25,0.5,0.75,1,1.5,2,3,4,6",
    "project": "0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1",
    "clamp": "-4,-2,-1,-0.5,0,0.5,1,2,4,8",
}
CONSTANT_STRENGTHS = "0.25,0.5,1,1.5,2,3,4,6,8,12"

SweptLayers = Annotated[str, typer.Option(help="Decoder layers from 0: all, 7,14,21 or 10-20.")]
Strengths = Annotated[str, typer.Option(help="By comma. [default: ten that suit the strategy]")]


def sweep(  # noqa: PLR0913 - one parameter per option
    *,
    data: Annotated[str, typer.Option(help="CSV, TSV, JSONL or Parquet, or a hub data set owner/name.")],
    layers: SweptLayers = "all",
    strengths: Strengths = "",
    strategy: Annotated[
        str, typer.Option(help="mean_difference, pca, amplify, project, clamp or gated.")
    ] = "mean_difference",
    reading: Reading = "statement",
    fit_on: FitOn = "auto",
    sample: Annotated[int | None, typer.Option(min=40, help="Draw this many statements.")] = None,
    split: Annotated[str, typer.Option(help="Sizes fitted on and measured on, as 216/861.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Decides the draw and the split.")] = 1,
    check_cells: Annotated[
        int, typer.Option(min=0, help="Run this many cells again as whole passes and compare.")
    ] = 0,
    resume: Resume = False,
    json_out: JsonOut = "",
) -> None:
    """Measure a strategy at every layer and strength, from cached states: fitted on train, measured on the rest."""
    refuse_input_as_output(data, json_out)
    if resume and check_cells:
        raise BadInput(
            "--check-cells compares times, which batches from disk would spoil; leave out --resume."
        )
    spec = SweepSpec(
        layers=(),  # they depend on the model
        strengths=_numbers(strengths or STRENGTHS.get(strategy, CONSTANT_STRENGTHS)),
        strategy=strategy,
        reading=reading,
        fit_on=fit_on,
        seed=seed,
    )
    as_vector = spec.vector
    data_sha256, train, measured = _swept_parts(data, sample, split, seed)
    refuse_what_cannot_be_fitted_on(train, as_vector)
    # torch takes seconds to import: what is said wrongly should be said at once.
    from medx_core.assembly import build_model
    from medx_core.fitting import sweep as sweeping
    from medx_core.prompts import STATEMENT_PROMPT
    from medx_core.steering.layers import decoder_layers
    from medx_core.traces.running import FinishedBatches
    from medx_core.traces.statement_runner import StatementRunner

    model = build_model(settings())
    spec = replace(spec, layers=swept_layers(layers, len(decoder_layers(model.network))))
    finished = FinishedBatches(_folder(spec, train, measured)) if resume else None
    runner = StatementRunner(model, STATEMENT_PROMPT, settings().max_batch_rows, finished=finished)
    swept_map = sweeping.sweep(runner, train, measured, spec, show_stage)
    result = {
        "medx_version": __version__,
        "data_sha256": data_sha256,
        "seed": seed,
        "model": model.name,
        "model_sha256": model.weight_sha256,
        "prompt_version": STATEMENT_PROMPT.version,
        "placement": str(model.placement),
        "batch_rows": runner.batch_rows,
        **swept_map.as_json(),
    }
    if check_cells:
        texts = [statement.text for statement in measured]
        result["check"] = sweeping.check_cells(runner, swept_map, texts, check_cells, show_stage).as_json()
    if finished:
        finished.forget()
    clear_stage()
    write_json(result, json_out)
    if json_out != "-":
        _print_map(result)


def swept_layers(text: str, count: int) -> tuple[int, ...]:
    """Read "all", "7,14,21" or "10-20" for a model of `count` layers.

    Raises:
        BadInput: something else is written there, or the model has no such layer.
    """
    if text.strip() == "all":
        return tuple(range(count))
    chosen: set[int] = set()
    for part in text.split(","):
        ends = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if not ends:
            raise BadInput(f"--layers {text!r} is not understood; write all, 7,14,21 or 10-20.")
        chosen |= set(range(int(ends[1]), int(ends[2] or ends[1]) + 1))
    if not chosen or max(chosen) >= count:
        raise BadInput(f"--layers {text!r} does not fit: this model has decoder layers 0 to {count - 1}.")
    return tuple(sorted(chosen))


def _numbers(text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(sorted({float(part) for part in text.split(",") if part.strip()}))
    except ValueError:
        numbers = ()
    if not numbers or not all(map(math.isfinite, numbers)):
        raise BadInput(f"--strengths {text!r} is not understood; write numbers, as 0.5,1,2,4.")
    return numbers


def _swept_parts(
    data: str, sample: int | None, split: str, seed: int
) -> tuple[str, Sequence[LabelledStatement], Sequence[LabelledStatement]]:
    from medx_core.data.labelled_files import load_labelled
    from medx_core.data.problems import FileLimits
    from medx_core.evaluation.data_split import PartSizes, parts_of

    sizes = re.fullmatch(r"(\d+)/(\d+)", split) if split else None
    if split and not sizes:
        raise BadInput(f"--split {split!r} is not understood; write both sizes, as 216/861.")
    loaded = load_labelled(data, limits=FileLimits.of(settings()))
    for notice in loaded.notices:
        tell(notice)
    wanted = PartSizes(sample, (int(sizes[1]), int(sizes[2])) if sizes else None)
    parts = parts_of(loaded.statements, wanted, seed=seed)
    return loaded.sha256, parts.train, parts.test


def _folder(
    spec: SweepSpec, train: Sequence[LabelledStatement], measured: Sequence[LabelledStatement]
) -> Path:
    texts = ([statement.text for statement in part] for part in (train, measured))
    told = repr((spec, *texts))
    return settings().home / "traces" / hashlib.sha256(told.encode()).hexdigest()[:16]


def _print_map(result: dict[str, Any]) -> None:
    print(
        f"\nBalanced accuracy in per cent: {result['strategy']} fitted on {result['n_train']} statements, measured on "
        f"{result['n_measured']} others; unsteered {100 * result['unsteered']['balanced_accuracy']:.1f}."
    )
    print("layer " + "".join(f"{strength:>7g}" for strength in result["strengths"]))
    for layer, row in zip(result["layers"], result["balanced_accuracy"], strict=True):
        print(f"{layer:>5} " + "".join(f"{100 * value:>7.1f}" for value in row))
    print("Picking the best cell here is choosing on these statements; evaluate it on others.")
    if "check" in result:
        check = result["check"]
        print(
            f"{len(check['cells'])} cells run again as whole passes: a swept cell is {check['ratio']:.1f} times cheaper than "
            f"a whole pass ({check['swept_seconds_a_cell']:.3f} s against {check['whole_seconds_a_cell']:.2f} s); the largest "
            f"difference of a score is {check['largest_difference']:.2g}, and {check['verdicts_changed']} verdicts changed."
        )
