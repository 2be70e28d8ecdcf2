"""`medx evaluate`: what steering does to a model, with every control, on a file of labelled statements."""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medx_core.errors import BadInput
from medx_core.settings import settings

if TYPE_CHECKING:
    from medx_core.evaluation.parts import PartSizes
    from medx_core.models.loading import LoadedModel

SHOWN = ("accuracy", "balanced_accuracy", "auroc", "predicted_true_rate", "false_acceptance_rate")
HEADINGS = ("accuracy", "balanced", "AUROC", "says TRUE", "false accepted")


def evaluate(
    data: Annotated[str, typer.Option(help="CSV, TSV, JSONL or Parquet, or a hub data set owner/name.")] = "",
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
    declared: Annotated[str, typer.Option(help="The arm that is judged.")] = "gated",
    fit_on: Annotated[str, typer.Option(help="auto, twins or statements.")] = "auto",
    category: Annotated[str, typer.Option(help="file, or auto: route each statement.")] = "file",
    draws: Annotated[int, typer.Option(min=20, help="Draws of each random and shuffled control.")] = 20,
    self_test: Annotated[bool, typer.Option("--self-test", help="Measure the instrument itself.")] = False,
    json_out: Annotated[
        str, typer.Option("--json", help="Where to write the JSON; - is standard output.")
    ] = "",
    report: Annotated[Path | None, typer.Option(help="Folder for a report to read in a browser.")] = None,
) -> None:
    """Evaluate steering on labelled statements, with controls that a gain must beat."""
    if self_test:
        _write(_self_tested(), json_out)
        return
    if not data:
        raise BadInput("Say which statements to evaluate on: --data FILE (or --self-test).")
    sizes = _sizes(sample, split, preset)
    plan = {"seed": seed, "declared": declared, "fit_on": fit_on, "draws": draws, "extra": _extra(arms)}
    result = _evaluated(data, sizes, plan, model or [settings().model], category)
    _write(result, json_out)
    if report:
        from medx_core.evaluation.report.page import write_report

        print(f"Report: {write_report(result, report)}", file=sys.stderr)
    if json_out != "-":
        _print_table(result)


def _evaluated(
    data: str, sizes: "PartSizes", plan: Mapping[str, Any], names: list[str], category: str
) -> dict[str, Any]:
    from medx_core.data.labelled_files import load_labelled
    from medx_core.evaluation.plan import EvaluationPlan
    from medx_core.evaluation.runner import evaluate_models

    if plan["fit_on"] not in {"auto", "twins", "statements"}:
        raise BadInput(f"--fit-on {plan['fit_on']!r} is not known; use auto, twins or statements.")
    loaded = load_labelled(data)
    for notice in loaded.notices:
        print(notice, file=sys.stderr)
    if category == "auto":
        loaded = _routed(loaded)
    return evaluate_models(_models(names), loaded, sizes, EvaluationPlan(**plan), _show_stage)


def _models(names: list[str]) -> "Iterator[LoadedModel]":
    """Load one model at a time, as the evaluation comes to it."""
    from medx_core.assembly import build_model

    for name in names:
        yield build_model(settings().model_copy(update={"model": name}))


def _routed(loaded: Any) -> Any:
    from dataclasses import replace

    from medx_core.assembly import build_router

    routes = build_router(settings()).route([one.text for one in loaded.statements])
    statements = tuple(
        replace(one, category=route.category) for one, route in zip(loaded.statements, routes, strict=True)
    )
    return replace(loaded, statements=statements)


def _sizes(sample: int | None, split: str, preset: str) -> "PartSizes":
    from medx_core.evaluation.parts import PartSizes
    from medx_core.evaluation.plan import PRESETS

    if preset:
        if preset not in PRESETS:
            raise BadInput(f"The preset {preset!r} is not known; there is: {', '.join(PRESETS)}.")
        if sample or split:
            raise BadInput("A preset states its own --sample and --split; give either the preset or those.")
        return PRESETS[preset]
    found = re.fullmatch(r"(\d+)/(\d+)", split) if split else None
    if split and not found:
        raise BadInput(f"--split {split!r} is not understood; write the sizes of train and test as 861/216.")
    return PartSizes(sample, (int(found[1]), int(found[2])) if found else None)


def _extra(arms: str) -> tuple[str, ...]:
    from medx_core.evaluation.plan import ARMS, EXTRA_ARMS

    names = tuple(name.strip() for name in arms.split(",") if name.strip())
    unknown = [name for name in names if name not in (*ARMS, *EXTRA_ARMS)]
    if unknown:
        known = ", ".join((*ARMS, *EXTRA_ARMS))
        raise BadInput(f"The arm {unknown[0]!r} is not known; there are: {known}.")
    return tuple(name for name in EXTRA_ARMS if name in names)


def _self_tested() -> dict[str, Any]:
    from medx_core.evaluation.self_test import run_self_test

    return run_self_test(lambda done, total: _show_stage("self-test", done, total))


def _show_stage(what: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{what}: {done} of {total}", end="", file=sys.stderr, flush=True)


def _write(result: Mapping[str, Any], json_out: str) -> None:
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    text = json.dumps(result, ensure_ascii=False, allow_nan=False)
    if json_out == "-":
        print(text)
    elif json_out:
        target = Path(json_out)
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(target.name + ".new")
        fresh.write_text(text + "\n", encoding="utf-8")
        fresh.replace(target)


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
