"""The table of arms as CSV: one row per arm, unrounded, safe to open in a spreadsheet."""

import csv
from collections.abc import Iterator
from io import StringIO

from medx_core.data.result_files import guarded
from medx_core.evaluation.report.words import METRICS, arms_in_order
from medx_core.evaluation.result import ControlResult, DrawnMetric, EvaluationResult, Metric

DIFFERENCES = ("accuracy_difference", "balanced_accuracy_difference")
COUNTS = ("helped", "harmed", "mcnemar_p")
TRUSTED = ("coverage", "error")
WORDING_FREE = ("accuracy", "auroc", "association", "excess")


def arms_csv(result: EvaluationResult) -> str:
    """Return the arms with the value, both ends of the interval and the number of items of every figure."""
    rows = [dict(_cells(result, name)) for name in arms_in_order(result)]
    out = StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(rows[0] if rows else [])
    writer.writerows([guarded(cell) for cell in row.values()] for row in rows)
    return out.getvalue()


def _cells(result: EvaluationResult, arm: str) -> Iterator[tuple[str, str]]:
    """Return every cell of a row with the name of its column; all rows have the same columns."""
    figures, matched = result.arms[arm], result.arms[arm].matched
    yield "model", result.model
    yield "arm", arm
    yield "control_of", figures.of if isinstance(figures, ControlResult) else ""
    for metric in METRICS:
        yield from _figure(metric, getattr(figures, metric, None))
    for name in DIFFERENCES:
        yield from _figure(name, getattr(figures.vs_unsteered, name, None))
    for name in COUNTS:
        value = getattr(figures.vs_unsteered, name, None)
        yield name, "" if value is None else repr(value)
    calibrated, trusted = getattr(figures, "calibrated", None), getattr(figures, "abstention", None)
    yield from _figure("calibrated_ece", getattr(calibrated, "ece", None))
    for name in TRUSTED:
        yield from _figure(f"trusted_{name}", getattr(trusted, name, None))
    yield "matched_kind", matched.kind or ""
    yield "matched_valid", str(matched.valid).lower()
    for name in WORDING_FREE:
        yield from _figure(f"matched_{name}", getattr(matched, name, None))


def _figure(name: str, figure: Metric | DrawnMetric | None) -> Iterator[tuple[str, str]]:
    yield name, "" if figure is None else repr(figure.value)
    for end in ("low", "high", "n"):
        yield f"{name}_{end}", repr(getattr(figure, end)) if isinstance(figure, Metric) else ""
