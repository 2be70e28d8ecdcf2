"""The main figures of two evaluations side by side, and whether they may be compared at all."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from medx_core.evaluation.number_format import NOTHING, count, number
from medx_core.evaluation.report.readings import (
    UNSTEERED,
    Evaluation,
    Json,
    evaluation,
    wording_free,
)
from medx_core.evaluation.report.table_values import Cell, figure_cell, spoken, wording_free_cell
from medx_core.evaluation.report.verdict_words import verdict

METRICS = (
    ("false_acceptance_rate", "false accepted"),
    ("accuracy", "accuracy"),
    ("balanced_accuracy", "balanced accuracy"),
    ("auroc", "AUROC"),
    ("safety_error_rate", "safety error"),
)
SAME = (("model_sha256", "model"), ("data_sha256", "data"), ("seed", "seed"))
MISSING = Cell(NOTHING)


@dataclass(frozen=True)
class Compared:
    """`rows` are (what, first, second); `remarks` say what is the same and what is not."""

    rows: tuple[tuple[str, Cell, Cell], ...]
    remarks: tuple[str, ...]


def compared(first: Json, second: Json) -> Compared:
    """Return what a reader compares: verdicts, and the figures of the unsteered and the declared arm of both."""
    both = evaluation(first), evaluation(second)
    rows = [
        _row("steering", both, lambda one: Cell(verdict(one)[1])),
        _row("arm judged", both, lambda one: Cell(_title(one))),
        _row("test items", both, lambda one: Cell(_count(one.result.get("n_test")))),
    ]
    for metric, title in METRICS:
        rows.append(_row(f"{title}, unsteered", both, partial(_cell, metric=metric, declared=False)))
        rows.append(_row(f"{title}, judged arm", both, partial(_cell, metric=metric, declared=True)))
    rows.append(_row("wording-free, judged arm", both, _wording_free))
    shown = tuple(row for row in rows if row[1:] != (MISSING, MISSING))
    return Compared(shown, tuple(_remarks(both)))


def _row(
    what: str, both: tuple[Evaluation, Evaluation], cell: Callable[[Evaluation], Cell]
) -> tuple[str, Cell, Cell]:
    return what, cell(both[0]), cell(both[1])


def _cell(evaluated: Evaluation, *, metric: str, declared: bool) -> Cell:
    arm = evaluated.arm(evaluated.declared if declared else UNSTEERED)
    shown = arm.figure(metric) if arm else None
    return figure_cell(shown, spoken(metric)) if shown else MISSING


def _wording_free(evaluated: Evaluation) -> Cell:
    arm = evaluated.arm(evaluated.declared)
    shown = wording_free_cell(arm, "accuracy") if arm else None
    if shown is None:
        return MISSING
    return shown if wording_free(evaluated.result, arm).get("valid") else replace(shown, more="not valid")


def _remarks(both: tuple[Evaluation, Evaluation]) -> list[str]:
    first, second = (one.result for one in both)
    same = [name for key, name in SAME if first.get(key) == second.get(key) is not None]
    other = [name for key, name in SAME if first.get(key) != second.get(key)]
    said = [f"The same in both: {', '.join(same)}."] if same else []
    if {"model", "data"} & set(other):
        said.append(
            f"Not the same: {', '.join(other)}. A difference between the columns may come from that, not from steering."
        )
    elif other:
        said.append(
            f"Not the same: {', '.join(other)}. The columns rest on other draws of the same statements."
        )
    said.append("Intervals are those of each evaluation alone; the two are not paired.")
    return said


def _title(evaluated: Evaluation) -> str:
    arm = evaluated.arm(evaluated.declared)
    return arm.title if arm else evaluated.declared


def _count(value: object) -> str:
    known = number(value)
    return MISSING.text if known is None else count(int(known))
