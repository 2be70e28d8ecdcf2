"""The table of arms: raw and wording-free figures side by side, and in words what is missing and why."""

from collections.abc import Iterable
from dataclasses import replace

from medx_core.evaluation.report.arm_words import METRIC_MEANINGS, METRICS, metric_title, reason_in_text
from medx_core.evaluation.report.readings import Arm, Evaluation, Figure, part
from medx_core.evaluation.report.table_values import (
    EMPTY,
    Cell,
    Column,
    Table,
    arm_row,
    changed_cell,
    figure_cell,
    p_cell,
    same_n,
    spoken,
    wording_free_cell,
    wording_free_figure,
)

FIRST = ("false_acceptance_rate", "accuracy")
REST = (
    "balanced_accuracy", "auroc", "predicted_true_rate", "false_rejection_rate", "safety_error_rate",
    "factual_consistency", "answer_word_rate",
)  # fmt: skip
NO_REASON = "no reason was recorded"


def arm_table(evaluated: Evaluation) -> Table:
    """Return the arms with raw and wording-free figures side by side, false acceptance beside accuracy."""
    shown = [metric for metric in (*FIRST, *REST) if any(arm.figure(metric) for arm in evaluated.arms)]
    columns = [Column(metric_title(metric), METRIC_MEANINGS.get(metric, ""), metric) for metric in shown]
    at = sum(metric in FIRST for metric in shown)
    columns.insert(at, Column("Wording-free", "accuracy where wording gives nothing away", "matched"))
    if any(part(arm.data, "vs_unsteered").get("mcnemar_p") is not None for arm in evaluated.arms):
        columns += [
            Column("Helped / harmed", "items put right / put wrong against unsteered", "changed"),
            Column("McNemar p", "exact, against unsteered, two-sided", "p"),
        ]
    columns = [
        replace(column, n=same_n(_figure(arm, column.key) for arm in evaluated.arms)) for column in columns
    ]
    rows = tuple(
        arm_row(arm, evaluated, (_arm_cell(arm, column.key) for column in columns)) for arm in evaluated.arms
    )
    return Table("All arms", tuple(columns), rows, tuple(_missing(evaluated)))


def _arm_cell(arm: Arm, key: str) -> Cell:
    if key == "matched":
        cell = wording_free_cell(arm, "accuracy") or EMPTY
        counts = cell is EMPTY or part(arm.data, "matched").get("valid") is not False
        return cell if counts else replace(cell, more="not valid")
    if key == "changed":
        return changed_cell(arm)
    if key == "p":
        return p_cell(arm)
    return figure_cell(arm.figure(key), spoken(key))


def _figure(arm: Arm, key: str) -> Figure | None:
    return wording_free_figure(arm, "accuracy") if key == "matched" else arm.figure(key)


def _missing(evaluated: Evaluation) -> Iterable[str]:
    """Say once for each metric why it is not there, and for which arms when others have it."""
    for metric, title in METRICS.items():
        by_reason: dict[str, list[str]] = {}
        for arm in evaluated.arms:
            reason = _reason(evaluated, arm, metric)
            if arm.figure(metric) is None and (reason or (metric in arm.data)):
                by_reason.setdefault(reason or NO_REASON, []).append(arm.title)
        nobody_has_it = not any(arm.figure(metric) for arm in evaluated.arms)
        for reason, titles in by_reason.items():
            whose = "" if nobody_has_it and len(by_reason) == 1 else f" for {', '.join(titles)}"
            yield f"{title} is not given{whose}: {reason_in_text(reason)}."


def _reason(evaluated: Evaluation, arm: Arm, metric: str) -> str:
    stated = part(arm.data, "reasons").get(metric) or part(evaluated.result, "reasons").get(metric)
    return str(stated or "")
