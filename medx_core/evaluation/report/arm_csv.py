"""The table of arms as CSV, one row an arm, unrounded, safe to open in a spreadsheet."""

import csv
from collections.abc import Iterator
from io import StringIO

from medx_core.data.result_files import guarded
from medx_core.evaluation.report.arm_words import METRICS
from medx_core.evaluation.report.readings import Arm, Evaluation, Figure, Json, evaluation, figure, part

MATCHED = ("accuracy", "auroc", "association", "excess")
DIFFERENCES = ("accuracy_difference", "balanced_accuracy_difference")
COUNTS = ("helped", "harmed", "mcnemar_p")


def arms_csv(result: Json) -> str:
    """Return the arms with every figure's value, ends of interval and number of items."""
    evaluated = evaluation(result)
    rows = [dict(_cells(evaluated, arm)) for arm in evaluated.arms]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    out = StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([guarded(row.get(name, "")) for name in columns])
    return out.getvalue()


def _cells(evaluated: Evaluation, arm: Arm) -> Iterator[tuple[str, str]]:
    yield "model", str(evaluated.result.get("model", ""))
    yield "arm", arm.name
    yield "control_of", arm.of or ""
    for metric in METRICS:
        yield from _figure_cells(metric, arm.figure(metric))
    against, matched = part(arm.data, "vs_unsteered"), part(arm.data, "matched")
    for name in DIFFERENCES:
        yield from _figure_cells(name, figure(against.get(name)))
    for name in COUNTS:
        yield name, _written(figure(against.get(name)))
    yield "matched_kind", str(matched.get("kind", ""))
    yield "matched_valid", str(matched.get("valid", "")).lower()
    for name in MATCHED:
        yield from _figure_cells(f"matched_{name}", figure(matched.get(name)))


def _figure_cells(name: str, shown: Figure | None) -> Iterator[tuple[str, str]]:
    yield name, _written(shown)
    yield f"{name}_low", "" if shown is None or shown.low is None else repr(shown.low)
    yield f"{name}_high", "" if shown is None or shown.high is None else repr(shown.high)
    yield f"{name}_n", "" if shown is None or shown.n is None else str(shown.n)


def _written(shown: Figure | None) -> str:
    return "" if shown is None else repr(shown.value)
