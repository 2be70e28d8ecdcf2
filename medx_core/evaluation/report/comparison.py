"""The main figures of two evaluations side by side, and whether they can be compared at all."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from medx_core.evaluation.number_format import count
from medx_core.evaluation.report.tables import EMPTY, Cell, figure_cell, wording_free_cell
from medx_core.evaluation.report.words import METRICS, arm_title, verdict_badge, writer
from medx_core.evaluation.result import UNSTEERED, EvaluationResult

COMPARED_METRICS = (
    "false_acceptance_rate", "accuracy", "balanced_accuracy", "auroc", "safety_error_rate",
)  # fmt: skip
MUST_AGREE = {"model_sha256": "model", "data_sha256": "data", "seed": "seed"}


@dataclass(frozen=True)
class Comparison:
    """`rows` are (title, first, second); `remarks` say what the two have in common and where they differ."""

    rows: tuple[tuple[str, Cell, Cell], ...]
    remarks: tuple[str, ...]


def comparison(first: EvaluationResult, second: EvaluationResult) -> Comparison:
    """Return verdicts and figures of the unsteered and the judged arm of both; what neither has gets no row."""

    def row(title: str, cell: Callable[[EvaluationResult], Cell]) -> tuple[str, Cell, Cell]:
        return title, cell(first), cell(second)

    rows = [
        row("Steering", lambda result: Cell(verdict_badge(result)[1])),
        row("Arm judged", lambda result: Cell(arm_title(result.judged.arm))),
        row("Test items", lambda result: Cell(count(result.n_test))),
    ]
    for metric in COMPARED_METRICS:
        title = METRICS[metric].title
        rows.append(row(f"{title}, unsteered", partial(_unsteered, metric)))
        rows.append(row(f"{title}, judged arm", partial(_judged, metric)))
    rows.append(row("Wording-free, judged arm", _wording_free))
    return Comparison(tuple(cells for cells in rows if cells[1:] != (EMPTY, EMPTY)), _remarks(first, second))


def _unsteered(metric: str, result: EvaluationResult) -> Cell:
    return figure_cell(getattr(result.arm(UNSTEERED), metric, None), writer(metric))


def _judged(metric: str, result: EvaluationResult) -> Cell:
    return figure_cell(getattr(result.arm(result.judged.arm), metric, None), writer(metric))


def _wording_free(result: EvaluationResult) -> Cell:
    arm = result.arm(result.judged.arm)
    return wording_free_cell(arm) if arm else EMPTY


def _remarks(first: EvaluationResult, second: EvaluationResult) -> tuple[str, ...]:
    same = [name for key, name in MUST_AGREE.items() if getattr(first, key) == getattr(second, key)]
    differ = [name for name in MUST_AGREE.values() if name not in same]
    remarks = [f"The same in both: {', '.join(same)}."] if same else []
    if differ:
        why = (
            "The columns rest on other draws of the same statements."
            if differ == ["seed"]
            else "A difference between the columns may come from that, not from steering."
        )
        remarks.append(f"Not the same: {', '.join(differ)}. {why}")
    return (*remarks, "The intervals are those of each evaluation alone; the two are not paired.")
