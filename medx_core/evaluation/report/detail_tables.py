"""What a careful reader opens: breakdowns, every draw of the controls, calibration in numbers."""

from collections.abc import Iterable, Mapping, Sequence

from medx_core.evaluation.number_format import count, fraction, percent
from medx_core.evaluation.report.arm_words import METRICS, metric_title
from medx_core.evaluation.report.readings import Arm, Evaluation, Figure, figure, part, sequence
from medx_core.evaluation.report.table_values import Column, Row, Table, arm_row, figure_cell, spoken, whole

BREAKDOWNS = ("by_category", "by_difficulty")
SAFETY_KINDS = (("false_acceptance", "FALSE answered TRUE"), ("false_rejection", "TRUE answered FALSE"))
CERTAINTY = (("brier", "Brier score"), ("ece", "Calibration error (ECE)"))
BIN_COLUMNS = (Column("Probability given"), Column("Share TRUE"), Column("Items"))


def breakdowns(evaluated: Evaluation) -> list[Table]:
    """Return the two kinds of safety error, and a table for each metric known by category or by difficulty."""
    safety = safety_table(evaluated)
    grouped = [
        _breakdown(evaluated, key, metric) for key in BREAKDOWNS for metric in _metrics_within(evaluated, key)
    ]
    return [safety, *grouped] if safety else grouped


def safety_table(evaluated: Evaluation) -> Table | None:
    """Return the safety error rate in its two kinds."""
    rows = []
    for arm in evaluated.arms:
        rate = part(arm.data, "safety_error_rate")
        if any(figure(rate.get(key)) for key, _ in SAFETY_KINDS):
            rows.append(
                arm_row(
                    arm, evaluated, (figure_cell(figure(rate.get(key)), percent) for key, _ in SAFETY_KINDS)
                )
            )
    columns = tuple(Column(title) for _, title in SAFETY_KINDS)
    return Table("Safety error in its two kinds", columns, tuple(rows)) if rows else None


def draw_rows(evaluated: Evaluation) -> list[tuple[str, str, str]]:
    """Return every draw of every control: control, metric, draws from the lowest to the highest."""
    return [
        (arm.title, metric_title(metric), ", ".join(map(spoken(metric), sorted(drawn.draws))))
        for arm in evaluated.arms
        for metric in METRICS
        if (drawn := arm.figure(metric)) and drawn.draws
    ]


def calibration_table(evaluated: Evaluation) -> Table | None:
    """Return Brier score and calibration error of the arms that have them."""
    rows = []
    for arm in evaluated.arms:
        shown = [figure(part(arm.data, "calibration").get(key)) for key, _ in CERTAINTY]
        if any(shown):
            rows.append(arm_row(arm, evaluated, (figure_cell(one, fraction) for one in shown)))
    return Table("Calibration", tuple(Column(title) for _, title in CERTAINTY), tuple(rows)) if rows else None


def bin_tables(arms: Iterable[Arm]) -> list[Table]:
    """Return the calibration bins of each arm."""
    tables = []
    for arm in arms:
        bins = [one for one in sequence(part(arm.data, "calibration"), "bins") if isinstance(one, Mapping)]
        rows = tuple(_bin(place, one) for place, one in enumerate(bins, start=1))
        tables += [Table(arm.title, BIN_COLUMNS, rows)] if rows else []
    return tables


def _bin(place: int, found: Mapping[str, object]) -> Row:
    shares = [figure_cell(figure(found.get(key)), percent) for key in ("mean_score", "share_true")]
    return Row(f"Bin {place}", "", (*shares, figure_cell(figure(found.get("n")), whole)))


def _metrics_within(evaluated: Evaluation, key: str) -> list[str]:
    groups = [group for arm in evaluated.arms for group in part(arm.data, key).values()]
    found = {metric for group in groups for metric in _figures_of(group)}
    return [metric for metric in METRICS if metric in found]


def _figures_of(group: object) -> dict[str, Figure]:
    """Read one group of a breakdown: either its metrics by name, or accuracy alone."""
    if not isinstance(group, Mapping):
        return {}
    alone = figure(group)
    if alone:
        return {"accuracy": alone}
    return {metric: shown for metric in METRICS if (shown := figure(group.get(metric)))}


def _breakdown(evaluated: Evaluation, key: str, metric: str) -> Table:
    kept = [arm for arm in evaluated.arms if part(arm.data, key)]
    groups = list(dict.fromkeys(str(name) for arm in kept for name in part(arm.data, key)))
    columns = tuple(Column(name, n=_size(kept, key, name, metric)) for name in groups)
    rows = []
    for arm in kept:
        shown = [_figures_of(part(arm.data, key).get(name)).get(metric) for name in groups]
        rows.append(arm_row(arm, evaluated, (figure_cell(one, spoken(metric)) for one in shown)))
    return Table(f"{metric_title(metric)} {key.replace('_', ' ')}", columns, tuple(rows))


def _size(arms: Sequence[Arm], key: str, name: str, metric: str) -> str:
    for arm in arms:
        shown = _figures_of(part(arm.data, key).get(name)).get(metric)
        if shown and shown.n:
            return count(shown.n)
    return ""
