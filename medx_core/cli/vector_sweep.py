"""`medx vectors sweep`: how a strategy does at every layer and strength."""

import hashlib
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medx_core import __version__
from medx_core.cli.outputs import refuse_input_as_output
from medx_core.errors import BadInput
from medx_core.settings import settings

if TYPE_CHECKING:
    from medx_core.data.labelled_statements import LabelledStatement
    from medx_core.traces.sweep_fitting import SweepRecipe

STRENGTHS = {
    "gated": "0.5,1,2,3,4,6,8,10,12,16",
    "amplify": "0.125,0.25,0.5,0.75,1,1.5,2,3,4,6",
}
CONSTANT_STRENGTHS = "0.25,0.5,1,1.5,2,3,4,6,8,12"
FEWEST_TWINS = 40

Layers = Annotated[str, typer.Option(help="Decoder layers from 0: all, 7,14,21 or 10-20.")]
Strengths = Annotated[str, typer.Option(help="By comma. [default: ten that suit the strategy]")]


def sweep(  # noqa: PLR0913 - one parameter an option
    *,
    data: Annotated[str, typer.Option(help="CSV, TSV, JSONL or Parquet, or a hub data set owner/name.")],
    layers: Layers = "all",
    strengths: Strengths = "",
    strategy: Annotated[
        str, typer.Option(help="mean_difference, pca, amplify or gated.")
    ] = "mean_difference",
    reading: Annotated[
        str, typer.Option(help="answer_word, statement, model_right or full_trace.")
    ] = "statement",
    fit_on: Annotated[str, typer.Option(help="gated: auto, twins or statements.")] = "auto",
    sample: Annotated[int | None, typer.Option(min=40, help="Draw this many statements.")] = None,
    split: Annotated[str, typer.Option(help="Sizes fitted on and measured on, as 216/861.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Decides the draw and the split.")] = 1,
    check_cells: Annotated[
        int, typer.Option(min=0, help="Run this many cells again as whole passes and compare.")
    ] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep finished batches on disk and go on from them.")
    ] = False,
    json_out: Annotated[
        str, typer.Option("--json", help="Where to write the JSON; - is standard output.")
    ] = "",
) -> None:
    """Measure a strategy at every layer and strength, from cached states: fitted on train, measured on the rest."""
    refuse_input_as_output(data, json_out)
    if resume and check_cells:
        raise BadInput(
            "--check-cells compares times, which batches from disk would spoil; leave out --resume."
        )
    # torch takes seconds to import: what is said wrongly should be said at once.
    wanted = _numbers(strengths or STRENGTHS.get(strategy, CONSTANT_STRENGTHS))
    loaded, train, measured = _parts(data, sample, split, seed)
    plan = {"strategy": strategy, "reading": reading, "on_twins": _on_twins(strategy, fit_on, train)}
    found = _swept(
        train, measured, {**plan, "strengths": wanted, "layers": layers}, check_cells, resume=resume
    )
    result = {
        "medx_version": __version__,
        "data_sha256": loaded,
        "seed": seed,
        **found,
    }
    _write(result, json_out)
    if json_out != "-":
        _print_map(result)


def _swept(
    train: "Sequence[LabelledStatement]",
    measured: "Sequence[LabelledStatement]",
    plan: dict[str, Any],
    check: int,
    *,
    resume: bool,
) -> dict[str, Any]:
    from medx_core.assembly import build_model
    from medx_core.models.prompting import STATEMENT_PROMPT
    from medx_core.steering.layers import decoder_layers
    from medx_core.traces.running import FinishedBatches
    from medx_core.traces.statement_runner import StatementRunner
    from medx_core.traces.sweep import check_cells, sweep
    from medx_core.traces.sweep_fitting import SweepRecipe

    model = build_model(settings())
    chosen = layers_from(plan["layers"], len(decoder_layers(model.network)))
    recipe = SweepRecipe(**{**plan, "layers": chosen})
    finished = FinishedBatches(_folder(recipe, train, measured)) if resume else None
    runner = StatementRunner(model, STATEMENT_PROMPT, settings().max_batch_rows, finished=finished)
    found = sweep(runner, train, measured, recipe, _show_stage)
    result = {
        "model": model.name,
        "model_sha256": model.weight_sha256,
        "prompt_version": STATEMENT_PROMPT.version,
        "placement": str(model.placement),
        "batch_rows": runner.batch_rows,
        **found.as_json(),
    }
    if check:
        texts = [one.text for one in measured]
        result["check"] = check_cells(runner, found, texts, check, _show_stage).as_json()
    if finished:
        finished.forget()
    return result


def layers_from(text: str, count: int) -> tuple[int, ...]:
    """Read "all", "7,14,21" or "10-20" for a model of `count` layers.

    Raises:
        BadInput: something else is written there, or the model has no such layer.
    """
    if text.strip() == "all":
        return tuple(range(count))
    found: set[int] = set()
    for part in text.split(","):
        ends = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if not ends:
            raise BadInput(f"--layers {text!r} is not understood; write all, 7,14,21 or 10-20.")
        found |= set(range(int(ends[1]), int(ends[2] or ends[1]) + 1))
    if not found or max(found) >= count:
        raise BadInput(f"--layers {text!r} does not fit: this model has decoder layers 0 to {count - 1}.")
    return tuple(sorted(found))


def _numbers(text: str) -> tuple[float, ...]:
    try:
        found = tuple(sorted({float(part) for part in text.split(",") if part.strip()}))
    except ValueError:
        found = ()
    if not found or not all(abs(one) < float("inf") for one in found):
        raise BadInput(f"--strengths {text!r} is not understood; write numbers, as 0.5,1,2,4.")
    return found


def _parts(
    data: str, sample: int | None, split: str, seed: int
) -> "tuple[str, Sequence[LabelledStatement], Sequence[LabelledStatement]]":
    from medx_core.data.labelled_files import load_labelled
    from medx_core.data.limits import FileLimits
    from medx_core.evaluation.parts import PartSizes, parts_of

    sizes = re.fullmatch(r"(\d+)/(\d+)", split) if split else None
    if split and not sizes:
        raise BadInput(f"--split {split!r} is not understood; write both sizes, as 216/861.")
    loaded = load_labelled(data, limits=FileLimits.of(settings()))
    for notice in loaded.notices:
        print(notice, file=sys.stderr)
    wanted = PartSizes(sample, (int(sizes[1]), int(sizes[2])) if sizes else None)
    parts = parts_of(loaded.statements, wanted, seed=seed)
    return loaded.sha256, parts.train, parts.test


def _on_twins(strategy: str, fit_on: str, train: "Sequence[LabelledStatement]") -> bool:
    from medx_core.evaluation.ranking import twins_of

    if fit_on not in {"auto", "twins", "statements"}:
        raise BadInput(f"--fit-on {fit_on!r} is not known; use auto, twins or statements.")
    enough = len(twins_of(train)) >= FEWEST_TWINS
    if fit_on == "twins" and not enough:
        raise BadInput(f"Fitting on twins needs at least {FEWEST_TWINS} complete pairs in the train part.")
    return strategy == "gated" and enough and fit_on != "statements"


def _folder(
    recipe: "SweepRecipe", train: "Sequence[LabelledStatement]", measured: "Sequence[LabelledStatement]"
) -> Path:
    told = repr((recipe, [one.text for one in train], [one.text for one in measured]))
    return settings().home / "traces" / hashlib.sha256(told.encode()).hexdigest()[:16]


def _show_stage(stage: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{stage}: {done} of {total}        ", end="", file=sys.stderr, flush=True)


def _write(result: dict[str, Any], target: str) -> None:
    text = json.dumps(result, indent=1) + "\n"
    if target == "-":
        print(text, end="")
    elif target:
        Path(target).write_text(text, encoding="utf-8")


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
