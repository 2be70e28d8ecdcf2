"""`medx replicates`: several results of `medx evaluate` told together."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from medx_core import __version__
from medx_core.cli.outputs import refuse_input_as_output, write_json
from medx_core.errors import BadInput
from medx_core.evaluation.replicates import replicated

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
    json_out: Annotated[
        str, typer.Option("--json", help="Where to write the JSON; - is standard output.")
    ] = "",
) -> None:
    """Tell several evaluations together: the mean of every figure over seeds, with the range it took."""
    for path in results:
        refuse_input_as_output(path, json_out)
    found = {"medx_version": __version__, **replicated([_read(path) for path in results])}
    write_json(found, json_out)
    if json_out == "-":
        return
    for name, model in found["models"].items():
        _print_model(name, model)
    for remark in found["remarks"]:
        print(remark)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({(error.strerror or 'unknown reason').lower()}).") from error
    except ValueError as error:
        raise BadInput(f"{path} is no JSON; give the files that `medx evaluate --json` wrote.") from error
    if not isinstance(found, dict):
        raise BadInput(f"{path} holds no result of an evaluation.")
    return found


def _print_model(name: str, model: Mapping[str, Any]) -> None:
    verdicts = ", ".join(f"{verdict} {count}" for verdict, count in model["helps"].items() if count)
    seeds = ", ".join(str(seed) for seed in model["seeds"])
    print(f"{name}: {model['runs']} runs, seeds {seeds}; helps: {verdicts}. {INTERVALS}")
    print(f"\n{'arm':<20}" + "".join(f"{heading:>24}" for _, heading in COLUMNS))
    for arm, figures in model["arms"].items():
        print(
            f"{arm:<20}" + "".join(f"{_cell(_at(figures, place), model['runs']):>24}" for place, _ in COLUMNS)
        )
    print()


def _at(figures: Mapping[str, Any], place: str) -> Mapping[str, float] | None:
    first, _, rest = place.partition(".")
    found: Mapping[str, Any] | None = figures[first]
    return found.get(rest) if rest and found else found


def _cell(mean: Mapping[str, float] | None, runs: int) -> str:
    if mean is None:
        return "-"
    value = f"{100 * mean['value']:.1f}"
    spread = (mean["low"], mean["high"]) if "low" in mean else (mean["lowest"], mean["highest"])
    said = "[{:.1f}, {:.1f}]" if "low" in mean else "({:.1f} to {:.1f})"
    few = f" of {mean['runs']:.0f}" if mean["runs"] < runs else ""
    return f"{value} {said.format(*(100 * end for end in spread))}{few}"
