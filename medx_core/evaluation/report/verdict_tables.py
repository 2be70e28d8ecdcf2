"""The tables that a verdict rests on: each control, the wording-free figures, the other arms and models."""

from collections.abc import Mapping
from dataclasses import replace

from medx_core.evaluation.number_format import NOTHING, count, p_value, points
from medx_core.evaluation.report.arm_words import arm_in_text, capital
from medx_core.evaluation.report.readings import Arm, Evaluation, figure, part, sequence
from medx_core.evaluation.report.table_values import (
    EMPTY,
    Cell,
    Column,
    Row,
    Table,
    arm_row,
    changed_cell,
    figure_cell,
    p_cell,
    same_n,
    wording_free_cell,
    wording_free_figure,
)

ON_TWINS = {
    "association": "excess on twins",
    "association_gain": "excess on twins, minus the unsteered model's",
}


def judgement_table(evaluated: Evaluation) -> Table | None:
    """Return the differences that the verdict on the declared arm rests on, control by control."""
    judged = part(evaluated.result, "judged")
    failed = set(map(str, sequence(judged, "failed_controls")))
    valid = part(evaluated.result, "matched").get("valid")
    rows = []
    for control, difference in part(judged, "differences").items():
        on_wording_free = control.startswith("matched_") or control in ON_TWINS
        said = "no" if control in failed else "yes" if valid or not on_wording_free else "not counted"
        where = "wording-free accuracy" if on_wording_free else "balanced accuracy"
        where = ON_TWINS.get(control, where)
        shown = figure(difference)
        n = count(shown.n) if shown and shown.n else NOTHING
        cells = (figure_cell(shown, points), Cell(said), Cell(n), Cell(where))
        rows.append(Row(capital(arm_in_text(control.removeprefix("matched_"))), "", cells))
    columns = (Column("Difference, points"), Column("Beaten"), Column("n"), Column("Measured in"))
    p = figure(judged.get("p"))
    notes = (f"The largest p of these comparisons: {p_value(p.value)}.",) if p else ()
    return Table("What the verdict rests on", columns, tuple(rows), notes) if rows else None


def exploratory_table(evaluated: Evaluation) -> Table | None:
    """Return the verdicts on the arms that nobody declared, with Holm's correction for having tried many."""
    rows = []
    for name, found in part(evaluated.result, "exploratory").items():
        judged = found if isinstance(found, Mapping) else {}
        arm = evaluated.arm(name) or Arm(name, {})
        failed = [arm_in_text(str(one)) for one in sequence(judged, "failed_controls")]
        p = figure(judged.get("p_holm"))
        said = _said(judged.get("helps"))
        cells = (Cell(said), Cell(p_value(p.value) if p else NOTHING), Cell("; ".join(failed) or NOTHING))
        rows.append(Row(arm.title, name, cells))
    columns = (Column("Verdict"), Column("p, Holm"), Column("Not beaten"))
    return Table("Arms that were not declared", columns, tuple(rows)) if rows else None


def wording_free_table(evaluated: Evaluation) -> Table | None:
    """Return the wording-free figures of every arm, with the association control and the excess."""
    kept = [arm for arm in evaluated.arms if part(arm.data, "matched")]
    columns = [
        Column("Wording-free accuracy", "", "accuracy"),
        Column("Against unsteered", "paired difference of it, in points", "vs_unsteered"),
        Column("AUROC", "", "auroc"),
        Column(
            "Association control",
            "share of pairs, both false, in which the original scores higher",
            "association",
        ),
        Column("Excess", "wording-free accuracy minus the association control, in points", "excess"),
        Column(
            "Excess, same kinds",
            "the same for the twins alone whose kinds of word stand in the control",
            "excess_same_kinds",
        ),
    ]
    columns = [one for one in columns if any(wording_free_cell(arm, one.key) for arm in kept)]
    if not columns:
        return None
    kept = [arm for arm in kept if any(wording_free_cell(arm, one.key) for one in columns)]
    columns = [replace(one, n=same_n(wording_free_figure(arm, one.key) for arm in kept)) for one in columns]
    rows = tuple(
        arm_row(arm, evaluated, (wording_free_cell(arm, one.key) or EMPTY for one in columns)) for arm in kept
    )
    return Table("Wording-free figures", tuple(columns), rows)


def comparison_table(evaluated: Evaluation) -> Table | None:
    """Return paired comparisons of two models, such as the general one steered minus the specialised one unsteered."""
    given = [one for one in sequence(evaluated.result, "comparisons") if isinstance(one, Mapping)]
    columns = (
        Column("Accuracy, points"), Column("Balanced accuracy, points"), Column("Helped / harmed"), Column("McNemar p"),
    )  # fmt: skip
    rows, sizes = [], []
    for one in given:
        arm = Arm(str(one.get("arm", "")), {"vs_unsteered": one})
        title = f"{one.get('general')}, {arm_in_text(arm.name)}, minus {one.get('specialised')}, unsteered"
        shown = [arm.difference(metric) for metric in ("accuracy", "balanced_accuracy")]
        differences = [figure_cell(one, points) for one in shown]
        sizes += shown
        rows.append(Row(title, "", (*differences, changed_cell(arm), p_cell(arm))))
    sized = (replace(one, n=same_n(sizes)) if "points" in one.title else one for one in columns)
    return Table("Between models", tuple(sized), tuple(rows)) if rows else None


def _said(helps: object) -> str:
    if helps is None:
        return "open"
    return "helps" if helps is True else "not shown to help"
