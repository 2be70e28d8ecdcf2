"""Paired differences from the unsteered arm with the draws of each arm's own controls behind them.

Beside the two raw panels stands the wording-free figure, so that neither can be read without the other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from medx_core.evaluation.number_format import percent, plain, points
from medx_core.evaluation.report import svg
from medx_core.evaluation.report.readings import (
    REFERENCES,
    UNSTEERED,
    Arm,
    Evaluation,
    Figure,
    figure,
    part,
    wording_free,
)

ROW = 54
NAME_LINE, MARK_LINE = 18, 37
AXIS = 26
WANTED_TICKS = 6
EDGES = (2.0, 98.0)


@dataclass(frozen=True)
class Panel:
    """One column of the plot: what it is, what it is measured against, and the drawing."""

    title: str
    caption: str
    drawing: Markup | None


@dataclass(frozen=True)
class _Row:
    arm: Arm
    shown: Figure | None
    bands: tuple[tuple[str, tuple[float, ...]], ...] = ()
    hollow: Figure | None = None


def difference_panels(evaluated: Evaluation) -> tuple[Panel, ...]:
    """Return the panels for accuracy and balanced accuracy, on one common scale."""
    metrics = (("accuracy", "Accuracy"), ("balanced_accuracy", "Balanced accuracy"))
    rows = {
        metric: [_difference_row(evaluated, arm, metric) for arm in evaluated.compared]
        for metric, _ in metrics
    }
    scale = _scale([row for some in rows.values() for row in some], always=(0.0,), smallest=0.02)
    base = evaluated.arm(UNSTEERED)
    panels = []
    for metric, title in metrics:
        start = base.figure(metric) if base else None
        against = (
            f"points against unsteered at {percent(start.value)}" if start else "points against unsteered"
        )
        label = f"Paired difference of {title.lower()} from unsteered. " + _in_words(rows[metric], points)
        known = scale is not None and any(row.shown for row in rows[metric])
        drawn = (
            _drawing(rows[metric], scale, evaluated.declared, zero=0.0, label=label)
            if known and scale
            else None
        )
        panels.append(Panel(title, against, drawn))
    return tuple(panels)


def wording_free_panel(evaluated: Evaluation) -> Panel:
    """Return the panel of the wording-free accuracy of each arm against one half."""
    rows = [_wording_free_row(evaluated, arm) for arm in evaluated.compared]
    base = evaluated.arm(UNSTEERED)
    start = figure(part(base.data, "matched").get("accuracy")) if base else None
    scale = _scale(rows, always=(0.5, *((start.value,) if start else ())), smallest=0.04)
    found = wording_free(evaluated.result, evaluated.arm(evaluated.declared))
    what = "true twin ranked first" if found.get("kind") == "twins" else "accuracy on matched items"
    what = f"not valid: {what}" if found.get("valid") is False else what
    caption = f"{what}, unsteered {percent(start.value)} (dotted)" if start else what
    if scale is None or not any(row.shown for row in rows):
        return Panel("Wording-free", "not measured", None)
    label = f"Wording-free: {what}. " + _in_words(rows, percent)
    drawn = _drawing(
        rows, scale, evaluated.declared, zero=0.5, dotted=start.value if start else None, label=label
    )
    return Panel("Wording-free", caption, drawn)


def row_names(evaluated: Evaluation) -> tuple[Arm, ...]:
    """Return the arms in the order of the rows."""
    return evaluated.compared


def plot_height(evaluated: Evaluation) -> int:
    """Return the height of the rows and the axis in pixels."""
    return ROW * len(evaluated.compared) + AXIS


def _difference_row(evaluated: Evaluation, arm: Arm, metric: str) -> _Row:
    shown = arm.difference(metric)
    if shown is None:
        base = evaluated.arm(UNSTEERED)
        own, start = arm.figure(metric), base.figure(metric) if base else None
        shown = Figure(own.value - start.value) if own and start else None
    bands = tuple(
        (_band(control), drawn)
        for control in evaluated.controls(arm.name)
        if (drawn := evaluated.drawn_differences(control, metric))
    )
    return _Row(arm, shown, bands)


def _wording_free_row(evaluated: Evaluation, arm: Arm) -> _Row:
    matched = part(arm.data, "matched")
    drawn = [(one, figure(part(one.data, "matched").get("accuracy"))) for one in evaluated.controls(arm.name)]
    bands = tuple((_band(control), shown.draws) for control, shown in drawn if shown and shown.draws)
    return _Row(arm, figure(matched.get("accuracy")), bands, hollow=figure(matched.get("association")))


def _band(control: Arm) -> str:
    return "shuffled" if control.name.endswith("shuffled") else "random"


def _scale(rows: Sequence[_Row], *, always: tuple[float, ...], smallest: float) -> svg.Scale | None:
    values = list(always)
    for row in rows:
        for one in (row.shown, row.hollow):
            values += [one.value, *(one.interval or ())] if one else []
        values += [value for _, drawn in row.bands for value in drawn]
    if len(values) == len(always):
        return None
    low, high = min(values), max(values)
    room = max(smallest - (high - low), 0.1 * (high - low)) / 2
    return svg.Scale(low - room, high + room, *EDGES)


def _in_words(rows: Sequence[_Row], spoken: Callable[[float], str]) -> str:
    return ". ".join(f"{row.arm.title}: {spoken(row.shown.value)}" for row in rows if row.shown)


def _drawing(
    rows: Sequence[_Row],
    scale: svg.Scale,
    declared: str,
    *,
    zero: float,
    label: str,
    dotted: float | None = None,
) -> Markup:
    height = ROW * len(rows)
    differs = zero == 0.0
    parts = [_grid(scale, height, zero, differs=differs)]
    if dotted is not None:
        parts.append(svg.line((scale(dotted),) * 2, (0, height), "dotted"))
    for number, row in enumerate(rows):
        parts.append(_row(row, scale, ROW * number, declared=row.arm.name == declared, differs=differs))
    return svg.drawing(parts, height=height + AXIS, label=label, css="forest")


def _grid(scale: svg.Scale, height: float, zero: float, *, differs: bool) -> Markup:
    parts = []
    for tick in svg.ticks(scale.low, scale.high, WANTED_TICKS):
        place = scale(tick)
        parts.append(svg.line((place, place), (0, height), "zero" if tick == zero else "grid"))
        shown = points(tick) if differs else plain(100 * tick, 0)
        anchor = "start" if place < 6 else "end" if place > 94 else "middle"
        parts.append(svg.text(place, height + 17, shown.removesuffix(".0"), "tick", anchor=anchor))
    if zero not in svg.ticks(scale.low, scale.high, WANTED_TICKS):
        parts.append(svg.line((scale(zero), scale(zero)), (0, height), "zero"))
    return Markup("").join(parts)


def _row(row: _Row, scale: svg.Scale, top: float, *, declared: bool, differs: bool) -> Markup:
    tone = "declared" if declared else "reference" if row.arm.name in REFERENCES else "plain"
    middle = top + MARK_LINE
    parts = [svg.line((0, 100), (top, top), "rule")] if top else []
    spoken = points if differs else percent
    parts += [_control_band(kind, drawn, scale, middle, spoken) for kind, drawn in row.bands]
    parts.append(svg.text(EDGES[0], top + NAME_LINE, row.arm.title, f"row-name {tone}"))
    if row.hollow:
        parts.append(_hollow(row.hollow, scale, middle))
    if row.shown is None:
        return Markup("").join(
            [*parts, svg.text(EDGES[1], top + NAME_LINE, "not measured", "value", anchor="end")]
        )
    said = _said(row.shown, differs=differs)
    parts.append(svg.text(EDGES[1], top + NAME_LINE, said, f"value {tone}", anchor="end"))
    if row.shown.interval:
        low, high = row.shown.interval
        parts.append(svg.line((scale(low), scale(high)), (middle, middle), f"interval {tone}"))
    parts.append(
        svg.dot(scale(row.shown.value), middle, 5.5, f"mark {tone}", title=f"{row.arm.title}: {said}")
    )
    return Markup("").join(parts)


def _control_band(
    kind: str, drawn: tuple[float, ...], scale: svg.Scale, middle: float, spoken: Callable[[float], str]
) -> Markup:
    """Draw the range of a control's draws with a stroke for each: random above the line, shuffled below it."""
    y = (middle - 10, middle) if kind == "random" else (middle, middle + 10)
    ends = (scale(min(drawn)), scale(max(drawn)))
    said = f"{len(drawn)} {kind} draws: {spoken(min(drawn))} to {spoken(max(drawn))}"
    strokes = [svg.line((scale(one), scale(one)), y, f"draw {kind}") for one in drawn]
    return Markup("").join([svg.rect(ends, y, f"band {kind}", title=said), *strokes])


def _hollow(shown: Figure, scale: svg.Scale, middle: float) -> Markup:
    said = f"Association control, both versions false: {percent(shown.value)}"
    parts = [svg.dot(scale(shown.value), middle + 8, 4, "hollow", title=said)]
    if shown.interval:
        low, high = shown.interval
        parts.insert(0, svg.line((scale(low), scale(high)), (middle + 8, middle + 8), "hollow-interval"))
    return Markup("").join(parts)


def _said(shown: Figure, *, differs: bool) -> str:
    value = points(shown.value) if differs else percent(shown.value)
    if not shown.interval:
        return f"{value} (no interval)"
    low, high = shown.interval
    return f"{value} ({plain(100 * low)} to {plain(100 * high)})"
