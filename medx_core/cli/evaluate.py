"""`medx evaluate`: what steering does to a model, with every control, on a file of labelled statements."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from medx_core.cli.evaluation_record import RunRecord, begun_by_command, taken_up
from medx_core.cli.evaluation_running import run_request
from medx_core.cli.outputs import refuse_input_as_output, write_json
from medx_core.errors import StorageFault
from medx_core.evaluation.requests import BUNDLED, EvaluationRequest, arms_named
from medx_core.settings import settings
from medx_core.storage.engine import Database
from medx_core.storage.opening import open_database

SHOWN = ("accuracy", "balanced_accuracy", "auroc", "predicted_true_rate", "false_acceptance_rate")
HEADINGS = ("accuracy", "balanced", "AUROC", "says TRUE", "false accepted")
DATA = f"CSV, TSV, JSONL or Parquet, a hub data set owner/name, or: {BUNDLED}."


def evaluate(  # noqa: PLR0913 - an option each
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
    self_test: Annotated[bool, typer.Option("--self-test", help="Measure the instrument itself.")] = False,
    store: Annotated[
        bool, typer.Option("--store/--no-store", help="Keep the run in the database, for the Results page.")
    ] = True,
    run: Annotated[str, typer.Option(hidden=True, help="Run what was asked for on a page.")] = "",
    owner: Annotated[str, typer.Option(hidden=True, help="Who claimed it; else this command does.")] = "",
    json_out: Annotated[
        str, typer.Option("--json", help="Where to write the JSON; - is standard output.")
    ] = "",
    report: Annotated[Path | None, typer.Option(help="Folder for a report to read in a browser.")] = None,
) -> None:
    """Evaluate steering on labelled statements, with controls that a gain must beat."""
    refuse_input_as_output(data, json_out)
    if self_test:
        _write(_self_tested(), json_out)
        return
    asked = None
    if not run:
        asked = EvaluationRequest(
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
        )
    if asked is not None and not store:
        result = run_request(asked, _show_stage)
        _write(result, json_out)
    else:
        result = _on_record(asked, run, owner, json_out)
    _show(result, json_out, report)


def _on_record(asked: EvaluationRequest | None, run: str, owner: str, json_out: str) -> dict[str, Any]:
    """Run what is asked for, or the stored request, and keep it in the database."""
    with _record(asked, run, owner) as record:

        def on_stage(what: str, done: int, total: int) -> None:
            _show_stage(what, done, total)
            record.on_stage(what, done, total)

        result = run_request(asked or record.request, on_stage)
        _write(result, json_out)  # first: a database that went away meanwhile must not cost the result
        record.finish(result)
        return result


@contextmanager
def _record(asked: EvaluationRequest | None, run: str, owner: str) -> Iterator[RunRecord]:
    with closing(_database()) as database:
        record = begun_by_command(database, asked) if asked else taken_up(database, run, owner)
        with record:
            yield record


def _database() -> Database:
    try:
        return open_database(settings())
    except StorageFault as fault:
        raise StorageFault(f"{fault} With --no-store the run is not kept in the database.") from fault


def _show(result: Mapping[str, Any], json_out: str, report: Path | None) -> None:
    if report:
        from medx_core.evaluation.report.page import write_report

        print(f"Report: {write_report(result, report)}", file=sys.stderr)
    if json_out != "-":
        _print_table(result)


def _self_tested() -> dict[str, Any]:
    from medx_core.evaluation.self_test import run_self_test

    return run_self_test(lambda done, total: _show_stage("self-test", done, total))


def _show_stage(what: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{what}: {done} of {total}", end="", file=sys.stderr, flush=True)


def _write(result: Mapping[str, Any], json_out: str) -> None:
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    write_json(result, json_out)


def _print_table(result: Mapping[str, Any]) -> None:
    print(result["conclusion"])
    print(f"\n{'arm':<20}" + "".join(f"{heading:>16}" for heading in HEADINGS))
    for name, arm in result["arms"].items():
        print(f"{name:<20}" + "".join(f"{_cell(arm.get(figure)):>16}" for figure in SHOWN))
    print(f"\n{result['n_train']} statements to train, {result['n_test']} to test, {result['model']}.")


def _cell(metric: Mapping[str, Any] | None) -> str:
    if metric is None:
        return "-"
    if "low" not in metric:
        return f"{metric['value']:.3f} (median)"
    return f"{metric['value']:.3f} {metric['low']:.2f}-{metric['high']:.2f}"
