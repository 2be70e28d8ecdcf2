"""`medx evaluate`: what steering does to a model, with every control, on a file of labelled statements."""

import json
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any

import typer

from medx_core import __version__
from medx_core.cli.database import opened_database
from medx_core.cli.outputs import (
    JsonOut,
    clear_stage,
    refuse_input_as_output,
    refuse_unwritable,
    show_stage,
    tell,
    write_json,
)
from medx_core.errors import BadInput, Cancelled, StorageFault
from medx_core.evaluation.data_split import parts_of
from medx_core.evaluation.replicates import MeanMetric, ReplicatedModel, replicated
from medx_core.evaluation.request import BUNDLED, MAX_ERROR, RECIPE, EvaluationRequest, arms_named
from medx_core.evaluation.result import DrawnMetric, EvaluationResult, Metric, Recheck, read_result
from medx_core.evaluation.sentences import changes_in_words, excluded_sentence, promise_in_words
from medx_core.fitting.examples import gate_statements
from medx_core.job_execution.evaluation_run import (
    EVALUATION,
    Measured,
    OnStage,
    has_evaluation_worker,
    read_statements,
    run_evaluation,
)
from medx_core.models.catalog import refuse_missing
from medx_core.settings import settings
from medx_core.storage.engine import Database
from medx_core.storage.kept_files import keep
from medx_core.storage.recipes import RecipeStore
from medx_core.storage.runs import Run, RunProgress, RunStatus, RunStore

ITEM_FILES = (".csv", ".parquet")
LOOK_SECONDS = 1.0
LOOKS_WITHOUT_WORKER = 10  # one that died is started again within seconds
WAITING = "waiting for the evaluation worker"
WORKER_GONE = "The evaluation worker is gone: this process evaluates."
THROUGH_WORKER = "The evaluation worker runs this; Ctrl-C cancels it, closing the terminal does not."
IN_PROCESS = "No evaluation worker with these settings is running, so this process evaluates."

SHOWN = ("accuracy", "balanced_accuracy", "auroc", "predicted_true_rate", "false_acceptance_rate")
HEADINGS = ("accuracy", "balanced", "AUROC", "says TRUE", "false accepted")
DATA = f"CSV, TSV, JSONL or Parquet, a hub data set owner/name, or: {BUNDLED}."


def evaluate(  # noqa: PLR0913 - one parameter per option
    data: Annotated[str, typer.Option(help=DATA)] = "",
    sample: Annotated[int | None, typer.Option(min=40, help="Draw this many statements.")] = None,
    split: Annotated[str, typer.Option(help="Sizes of train and test, as 861/216.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Decides the draw, the split and the controls.")] = 1,
    preset: Annotated[str, typer.Option(help="paper: 1,077 statements, 861/216.")] = "",
    model: Annotated[list[str] | None, typer.Option(help="May be repeated: the general model first.")] = None,
    arms: Annotated[
        str,
        typer.Option(
            help="Arms, by comma. All but likelihood_gated and fine_tuned always run; these when named."
        ),
    ] = "",
    declared: Annotated[str, typer.Option(help="The arm that is judged: gated or paper.")] = "gated",
    fit_on: Annotated[str, typer.Option(help="auto, twins or statements.")] = "auto",
    prompt: Annotated[
        str, typer.Option(help="Every arm's prompt by name; none is chosen then, and prompt_only left out.")
    ] = "",
    category: Annotated[str, typer.Option(help="file, or auto: route each statement.")] = "file",
    draws: Annotated[int, typer.Option(min=20, help="Draws of each random and shuffled control.")] = 20,
    save_recipe: Annotated[
        str, typer.Option(help="Save the winner as a recipe of this name: a candidate, to be promoted.")
    ] = "",
    save_arm: Annotated[
        str, typer.Option(help="Save this arm instead: unsteered, prompt_only, prior, paper or gated.")
    ] = "",
    max_error: Annotated[
        float, typer.Option(help="Trust answers so that at most this share of the trusted ones is wrong.")
    ] = MAX_ERROR,
    self_test: Annotated[bool, typer.Option("--self-test", help="Measure the instrument itself.")] = False,
    store: Annotated[
        bool, typer.Option("--store/--no-store", help="Keep the run in the database, for the Results page.")
    ] = True,
    local: Annotated[
        bool,
        typer.Option("--local", help="Evaluate in this process, also when an evaluation worker is running."),
    ] = False,
    json_out: JsonOut = "",
    report: Annotated[Path | None, typer.Option(help="Folder for a report to read in a browser.")] = None,
    items: Annotated[
        Path | None,
        typer.Option(help="Where to write each test item with the scores of every arm: .csv or .parquet."),
    ] = None,
    recheck: Annotated[
        Path | None, typer.Option(help="Make all figures again from such a file; nothing is run.")
    ] = None,
) -> None:
    """Evaluate steering on labelled statements, with controls that a gain must beat."""
    for out in (json_out, str(items or "")):
        refuse_input_as_output(data, out)
        refuse_input_as_output(recheck or "", out)
    _refuse_contradictions(data, json_out, report, items, recheck, self_test=self_test)
    if recheck:
        _recheck(recheck, json_out)
        return
    if self_test:
        from medx_core.lab.self_test import run_self_test

        _write(run_self_test(partial(show_stage, "self-test")), json_out)
        return
    request = EvaluationRequest(
        data,
        models=tuple(model or ()),
        preset=preset,
        sample=sample,
        split=split,
        seed=seed,
        declared=declared,
        extra=arms_named(arms),
        fit_on=fit_on,
        prompt=prompt,
        category=category,
        draws=draws,
        save_recipe=_savable(save_recipe, store=store) if save_recipe else "",
        save_arm=save_arm,
        max_error=max_error,
    )
    _check_statements(request)
    measured = _stored(request, json_out, local=local) if store else _not_stored(request, json_out)
    if items and measured.items:
        from medx_core.evaluation.items import read_items, write_items

        write_items(read_items(measured.items), items)
    _show(measured.result, json_out, report)


def _savable(name: str, *, store: bool) -> str:
    """Return the name of the recipe to save, before hours are spent on it.

    Raises:
        BadInput: it is taken or cannot be a name, or the run is not kept, so that the recipe would have no evidence.
    """
    if not store:
        raise BadInput("--save-recipe needs the stored run as its evidence; leave out --no-store.")
    with opened_database() as database:
        return RecipeStore(database).free_name(name)


def _refuse_contradictions(
    data: str,
    json_out: str,
    report: Path | None,
    items: Path | None,
    recheck: Path | None,
    *,
    self_test: bool,
) -> None:
    """Refuse options that would be ignored, and places that cannot be written, before anything is read."""
    if (recheck or self_test) and (data or items or report or (recheck and self_test)):
        raise BadInput(
            "--recheck and --self-test go with --json alone: they read no data and write no items."
        )
    if items is None:
        return
    if items.suffix.lower() not in ITEM_FILES:
        raise BadInput(f"The items are written as {' or '.join(ITEM_FILES)}; {items} ends in neither.")
    refuse_unwritable(items)
    if json_out and Path(json_out).resolve() == items.resolve():
        raise BadInput(f"--json and --items would both write {items}; choose two files.")


def _stored(request: EvaluationRequest, json_out: str, *, local: bool) -> Measured:
    """Evaluate through a worker, or in this process without one; the run is kept in the database."""
    try:
        opened = opened_database()
    except StorageFault as fault:
        raise StorageFault(f"{fault} With --no-store the run is not kept in the database.") from fault
    with opened as database:
        runs = RunStore(database)
        if local or not has_evaluation_worker(settings(), database):
            if not local:
                tell(IN_PROCESS)
            return _here(runs, request, json_out)
        tell(THROUGH_WORKER)
        measured = _through_worker(runs, request, partial(has_evaluation_worker, settings(), database))
        if measured is None:
            tell(WORKER_GONE)
            return _here(runs, request, json_out)
        _write(measured.result, json_out)
        return measured


def _check_statements(request: EvaluationRequest) -> None:
    """Refuse statements that cannot be evaluated on before anything heavy is loaded; say what is odd about them."""
    data = read_statements(settings(), request)
    for notice in data.notices:
        tell(notice)
    parts = parts_of(data.statements, request.sizes, seed=request.seed)
    gate_statements(parts.train, request.fit_on)


def evaluate_request(request: EvaluationRequest, on_stage: OnStage) -> Measured:
    """Evaluate in this process with the database's recipes; the command and an evaluation worker's process call this."""
    with opened_database() as database:
        return _evaluated_with(database, request, on_stage)


def _evaluated_with(database: Database | None, request: EvaluationRequest, on_stage: OnStage) -> Measured:
    for name in request.models or (settings().model,):
        refuse_missing(name, settings().models_folder)
    # torch comes in only now, and peft with the arms of the laboratory only where one of them is wanted
    from medx_core import assembly

    if not request.extra:
        return assembly.evaluate_request(settings(), request, on_stage, database=database)
    from medx_core.lab.arms import ARMS

    return assembly.evaluate_request(settings(), request, on_stage, database=database, extra_arms=ARMS)


def _not_stored(request: EvaluationRequest, json_out: str) -> Measured:
    """Evaluate in this process without the database: the built-in recipe without steering stands for that in use."""
    measured = _evaluated_with(None, request, show_stage)
    _write(measured.result, json_out)
    return measured


def _here(runs: RunStore, request: EvaluationRequest, json_out: str) -> Measured:
    """Evaluate in this process; the run is kept in the database."""

    def evaluate(request: EvaluationRequest, on_stage: OnStage) -> Measured:
        def on_each_stage(stage: str, done: int, total: int) -> None:
            show_stage(stage, done, total)
            on_stage(stage, done, total)

        # Written before it is stored: a database that went away meanwhile must not cost the result.
        measured = evaluate_request(request, on_each_stage)
        _write(measured.result, json_out)
        return measured

    owner, seconds = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}", settings().lease_seconds
    leased = runs.begin(EVALUATION, request.as_json(), owner=owner, seconds=seconds)
    return run_evaluation(runs, leased, evaluate, lease_seconds=seconds)


def _through_worker(
    runs: RunStore, request: EvaluationRequest, has_worker: Callable[[], bool]
) -> Measured | None:
    """Submit the evaluation and follow it until it is finished; None, and it is cancelled, if no worker is left.

    Raises:
        BadInput: it failed; the sentence is the worker's.
        Cancelled: somebody cancelled it.
    """
    run = runs.request(EVALUATION, _as_workers_see_it(request).as_json(), requested_by="")
    try:
        finished = _followed(runs, run.public_id, has_worker)
    except KeyboardInterrupt:
        runs.cancel(run.public_id)
        raise
    if finished is None:
        return None
    if finished.status is RunStatus.CANCELLED:
        raise Cancelled("This evaluation was cancelled before it finished.")
    if finished.result is None:
        raise BadInput(finished.reason)
    return Measured(finished.result, runs.items(run.public_id))


def _as_workers_see_it(request: EvaluationRequest) -> EvaluationRequest:
    """Name data and models so that a process with another folder and other defaults finds the same ones."""
    names = request.models or (settings().model,)
    models = tuple(str(Path(name).resolve()) if Path(name).is_dir() else name for name in names)
    request = replace(request, models=models, name=request.title)
    path = Path(request.data)
    if not path.is_file():
        return request
    return replace(request, data=keep(path, settings().evaluations_folder), kept=True)


def _followed(runs: RunStore, public_id: str, has_worker: Callable[[], bool]) -> Run | None:
    """Show how far a run is until it is finished; cancel it if no worker was seen in several looks."""
    pause, missed = threading.Event(), 0
    while not (run := runs.get(public_id)).finished:
        missed = 0 if has_worker() else missed + 1
        if missed == LOOKS_WITHOUT_WORKER:
            with suppress(BadInput):  # it finished meanwhile: the next look sees it
                runs.cancel(public_id)
                return None
        progress = run.progress or RunProgress(WAITING, 0, 1)
        show_stage(progress.what, progress.done, progress.total)
        pause.wait(LOOK_SECONDS)
    return run


def _show(result: Mapping[str, Any], json_out: str, report: Path | None) -> None:
    if report:
        from medx_core.evaluation.report.page import write_report

        tell(f"Report: {write_report(read_result(result), report)}")
    if json_out != "-":
        _print_table(read_result(result))
    if excluded := excluded_sentence(read_result(result).excluded):
        tell(excluded)
    if result.get("recipe_refused"):
        tell(f"The recipe in use was not measured. {result['recipe_refused']}")
    for recipe, arm in result.get("recipes", {}).items():
        if arm != RECIPE:
            tell(
                f"The arm {arm} is saved as the recipe {recipe}; put it to use with: medx recipes promote {recipe}"
            )


def _recheck(path: Path, json_out: str) -> None:
    """Make all figures again from the items of an evaluation."""
    from medx_core.evaluation.items import read_items
    from medx_core.evaluation.result_builder import rechecked

    result = rechecked(read_items(path))
    _write(result.model_dump(mode="json"), json_out)
    if json_out != "-":
        _print_table(result)


def _write(result: Mapping[str, Any], json_out: str) -> None:
    clear_stage()
    write_json(result, json_out)


def _print_table(result: EvaluationResult | Recheck) -> None:
    print(result.conclusion)
    print(f"\n{'arm':<20}" + "".join(f"{heading:>16}" for heading in HEADINGS))
    for name, arm in result.arms.items():
        print(f"{name:<20}" + "".join(f"{_cell(getattr(arm, figure)):>16}" for figure in SHOWN))
    for line in (*_about_trust(result), *_about_dose(result)):
        print(line)
    train = f"{result.n_train} statements to train, " if isinstance(result, EvaluationResult) else ""
    print(f"\n{train}{result.n_test} to test, {result.model}.")


def _about_trust(result: EvaluationResult | Recheck) -> Iterator[str]:
    """Yield what the judged arm mends and breaks, and what is promised of its answers."""
    name = result.judged.arm
    arm = result.arm(name)
    if arm is not None and arm.vs_unsteered is not None:
        yield f"\n{name}: {changes_in_words(arm.vs_unsteered)}."
    rule = result.choices.abstention_rules.get(name) if isinstance(result, EvaluationResult) else None
    if rule is not None:
        yield promise_in_words(rule)


def _about_dose(result: EvaluationResult | Recheck) -> Iterator[str]:
    """Yield how far the arms that a person may come to use move the states."""
    if not isinstance(result, EvaluationResult):
        return
    doses = result.doses
    shown = [f"{name} {dose.largest:.2g} ({dose.median:.2g})" for name, dose in doses.items()]
    if shown:
        yield f"Largest dose (median), as a share of a state's length: {', '.join(shown)}."
    for name, dose in doses.items():
        if name in result.recipes.values() and dose.largest > settings().max_dose:
            yield (
                f"MEDX_MAX_DOSE allows {settings().max_dose:g}: of the recipe {name}, questions with a larger dose are refused."
            )


def _cell(metric: Metric | DrawnMetric | None) -> str:
    if metric is None:
        return "-"
    if isinstance(metric, DrawnMetric):
        return f"{metric.value:.3f} (median)"
    return f"{metric.value:.3f} {metric.low:.2f}-{metric.high:.2f}"


COLUMNS = (
    ("accuracy", "accuracy"),
    ("balanced_accuracy", "balanced"),
    ("false_acceptance_rate", "false accepted"),
    ("matched.accuracy", "wording-free"),
    ("matched.association", "association"),
    ("matched.excess", "excess"),
    ("matched.excess_difference", "excess gained"),
)
INTERVALS = "Means over the runs, in %; intervals as wide as one run's, since the runs share statements."


def replicates(
    results: Annotated[list[Path], typer.Argument(help="JSON files that medx evaluate wrote.")],
    json_out: JsonOut = "",
) -> None:
    """Tell several evaluations together: the mean of every figure over seeds, with the range it took."""
    for path in results:
        refuse_input_as_output(path, json_out)
    means = replicated([_read(path) for path in results])
    write_json({"medx_version": __version__, **means.model_dump(mode="json")}, json_out)
    if json_out == "-":
        return
    for name, model in means.models.items():
        _print_model(name, model)
    for remark in means.remarks:
        print(remark)


def _read(path: Path) -> EvaluationResult:
    try:
        return read_result(json.loads(path.read_text(encoding="utf-8")), str(path))
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({(error.strerror or 'unknown reason').lower()}).") from error
    except ValueError as error:
        raise BadInput(f"{path} is not JSON; give the files that `medx evaluate --json` wrote.") from error


def _print_model(name: str, model: ReplicatedModel) -> None:
    verdicts = ", ".join(f"{verdict} {count}" for verdict, count in model.helps.items() if count)
    seeds = ", ".join(str(seed) for seed in model.seeds)
    print(f"{name}: {model.runs} runs, seeds {seeds}; helps: {verdicts}. {INTERVALS}")
    print(f"\n{'arm':<20}" + "".join(f"{heading:>24}" for _, heading in COLUMNS))
    for arm, figures in model.arms.items():
        cells = (_mean_cell(attrgetter(place)(figures), model.runs) for place, _ in COLUMNS)
        print(f"{arm:<20}" + "".join(f"{cell:>24}" for cell in cells))
    print()


def _mean_cell(mean: MeanMetric | None, runs: int) -> str:
    if mean is None:
        return "-"
    whole = mean.low is not None and mean.high is not None
    ends = (mean.low, mean.high) if whole else (mean.lowest, mean.highest)
    low, high = (f"{100 * end:.1f}" for end in ends if end is not None)
    spread = f"[{low}, {high}]" if whole else f"({low} to {high})"
    few = f" of {mean.runs}" if mean.runs < runs else ""
    return f"{100 * mean.value:.1f} {spread}{few}"
