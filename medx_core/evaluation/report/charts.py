"""What the charts of the report show, and on which scales; `templates/charts.html` draws them as SVG.

Horizontal places are percent of the width and vertical ones pixels, so that a chart fills the width it is given while
its letters and lines keep their size on a telephone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil, floor, log10, sqrt

from medx_core.evaluation.number_format import count, percent, plain, points
from medx_core.evaluation.report.words import arm_title, compared_arms
from medx_core.evaluation.result import (
    PROBE,
    SCORE,
    UNSTEERED,
    ArmResult,
    CalibrationBin,
    ControlResult,
    DrawnMetric,
    Figures,
    Grid,
    Metric,
    ModelResult,
    RiskPoint,
)

FOREST_EDGES = (2.0, 98.0)
PLOT_EDGES = (13.0, 97.0)
PLOT_TOP, PLOT_BOTTOM = 10.0, 230.0
CONFIDENCES = {SCORE: "declared", PROBE: "other"}
"""The tone of the curve of each kind of confidence."""
FAINT, STRONG = 0.05, 0.7  # opacity of map cells; above it their numbers would be hard to read


@dataclass(frozen=True)
class Scale:
    """A linear map from the values `low` to `high` to the places `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the place of a value, to two decimals."""
        span = self.high - self.low
        share = (value - self.low) / span if span else 0.5
        return round(self.start + share * (self.end - self.start), 2)

    def ticks(self, wanted: int = 5) -> list[float]:
        """Return round values on the scale, about as many as wanted."""
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        rough = span / wanted
        power = 10 ** floor(log10(rough))
        step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
        first, last = ceil(self.low / step - 1e-9), floor(self.high / step + 1e-9)
        return [round(number * step, 10) for number in range(first, last + 1)]


@dataclass(frozen=True)
class ForestRow:
    """One arm in a panel: its figure, the draws of its own controls by kind, and the association control of twins."""

    name: str
    figure: Metric | None
    draws: Mapping[str, tuple[float, ...]]
    association: Metric | None = None

    @property
    def values(self) -> list[float]:
        """Every value that the scale must hold."""
        known = [metric for metric in (self.figure, self.association) if metric]
        ends = [end for metric in known for end in (metric.low, metric.high)]
        return ends + [draw for draws in self.draws.values() for draw in draws]


@dataclass(frozen=True)
class ForestPanel:
    """One panel of the forest plot.

    `zero` is where a solid line is drawn: at no difference, or at one half. `unsteered` is where a dotted one is.
    """

    title: str
    caption: str
    rows: tuple[ForestRow, ...]
    scale: Scale
    zero: float = 0.0
    unsteered: float | None = None

    def write(self, value: float) -> str:
        """Return a difference in points, or a share in percent."""
        return percent(value) if self.zero else points(value)

    def text(self, metric: Metric) -> str:
        """Return a figure with its interval."""
        return f"{self.write(metric.value)} ({plain(100 * metric.low)} to {plain(100 * metric.high)})"

    def tick_label(self, value: float) -> str:
        """Return a round value as an axis shows it."""
        return plain(100 * value, 0) if self.zero else points(value).removesuffix(".0")


@dataclass(frozen=True)
class Point:
    """A point of a curve, in values; one with a text is drawn as a dot."""

    x: float
    y: float
    text: str = ""
    radius: float = 3.0
    is_chosen: bool = False


@dataclass(frozen=True)
class Plot:
    """Curves between two axes, each with the tone it is drawn in; the diagonal is where both axes agree."""

    label: str
    across_title: str
    across: Scale
    down: Scale
    curves: tuple[tuple[str, tuple[Point, ...]], ...]
    has_diagonal: bool = False


@dataclass(frozen=True)
class LayerMap:
    """A metric over layers, one row per layer, and strengths, one column per strength."""

    title: str
    layers: tuple[int, ...]
    strengths: tuple[float, ...]
    grid: Grid
    chosen: tuple[int, float]

    @property
    def known(self) -> list[float]:
        """The settings that were measured."""
        return [value for row in self.grid for value in row if value is not None]

    @property
    def opacity(self) -> Scale:
        """How strongly a cell is coloured."""
        return Scale(min(self.known), max(self.known), FAINT, STRONG)


def forest_panels(figures: Figures) -> tuple[ForestPanel, ...]:
    """Return the differences in accuracy and balanced accuracy, on one scale, and the wording-free accuracy.

    The wording-free panel is always there, so that the raw figures are never read without it.
    """
    metrics = {"accuracy": "Accuracy", "balanced_accuracy": "Balanced accuracy"}
    unsteered = figures.arm(UNSTEERED)
    rows = {metric: _rows(figures, partial(_difference, metric)) for metric in metrics}
    scale = _forest_scale([row for some in rows.values() for row in some], [0.0], least_span=0.02)
    panels = []
    for metric, title in metrics.items():
        base: Metric | None = getattr(unsteered, metric, None)
        caption = f"points against unsteered at {percent(base.value)}" if base else "points against unsteered"
        panels.append(ForestPanel(title, caption, rows[metric], scale))
    return *panels, _wording_free_panel(figures, unsteered.matched.accuracy if unsteered else None)


def _wording_free_panel(figures: Figures, base: Metric | None) -> ForestPanel:
    rows = _rows(figures, lambda arm: arm.matched.accuracy, with_association=True)
    caption = "true twin ranked first" if figures.matched.kind == "twins" else "accuracy on matched items"
    caption = caption if figures.matched.valid else f"not valid: {caption}"
    scale = _forest_scale(rows, [0.5, base.value] if base else [0.5], least_span=0.04)
    if base is None:
        return ForestPanel("Wording-free", caption, rows, scale, 0.5)
    caption += f", unsteered {percent(base.value)} (dotted)"
    return ForestPanel("Wording-free", caption, rows, scale, 0.5, base.value)


def _difference(metric: str, arm: ArmResult | ControlResult) -> Metric | DrawnMetric | None:
    return getattr(arm.vs_unsteered, f"{metric}_difference", None)


def _rows(
    figures: Figures,
    find: Callable[[ArmResult | ControlResult], Metric | DrawnMetric | None],
    *,
    with_association: bool = False,
) -> tuple[ForestRow, ...]:
    """Return one row per compared arm: the figure that is found in it and, as draws, in its own controls."""
    rows = []
    for name, arm in compared_arms(figures).items():
        figure, association = find(arm), arm.matched.association if with_association else None
        draws = {
            "shuffled" if control.endswith("shuffled") else "random": drawn.draws
            for control, result in figures.controls_of(name).items()
            if isinstance(drawn := find(result), DrawnMetric)
        }
        rows.append(ForestRow(name, figure if isinstance(figure, Metric) else None, draws, association))
    return tuple(rows)


def _forest_scale(rows: Sequence[ForestRow], always: list[float], *, least_span: float) -> Scale:
    values = always + [value for row in rows for value in row.values]
    low, high = min(values), max(values)
    room = max(least_span - (high - low), 0.1 * (high - low)) / 2
    return Scale(low - room, high + room, *FOREST_EDGES)


def calibration_plot(arms: Mapping[str, ArmResult], tones: Mapping[str, str]) -> Plot | None:
    """Return the share of TRUE statements against the probability of TRUE; None without any bins."""
    if not any(arm.calibration.bins for arm in arms.values()):
        return None
    curves = tuple(
        (tones[name], _calibration_curve(name, arm.calibration.bins)) for name, arm in arms.items()
    )
    across, down = Scale(0, 1, *PLOT_EDGES), Scale(0, 1, PLOT_BOTTOM, PLOT_TOP)
    label = f"Calibration: share of TRUE statements against the probability of TRUE, for {_titles(arms)}"
    return Plot(label, "probability of TRUE", across, down, curves, has_diagonal=True)


def _calibration_curve(name: str, bins: Sequence[CalibrationBin]) -> tuple[Point, ...]:
    most = max((part.n for part in bins), default=1)
    return tuple(
        Point(
            part.mean_score,
            part.share_true,
            f"{arm_title(name)}: probability {percent(part.mean_score)}, TRUE {percent(part.share_true)}, n {count(part.n)}",
            round(2 + 4.5 * sqrt(part.n / most), 1),
        )
        for part in bins
    )


def risk_plot(arms: Mapping[str, ArmResult], tones: Mapping[str, str]) -> Plot | None:
    """Return the share of wrong answers when only the most certain items are answered; None without any points."""
    curves = [(tones[name], arm.calibration.risk_coverage) for name, arm in arms.items()]
    return _risk_plot(curves, _titles(arms))


def confidence_plots(arms: Mapping[str, ArmResult]) -> list[tuple[str, Plot]]:
    """Return, by title of each arm that has both, its risk by its own mapped score and by the probe's confidence."""
    plots = [
        (arm_title(name), _risk_plot([(CONFIDENCES[kind], curve.points) for kind, curve in arm.confidences.items()], arm_title(name)))
        for name, arm in arms.items()
        if len(arm.confidences) > 1
    ]  # fmt: skip
    return [(title, plot) for title, plot in plots if plot]


def _risk_plot(curves: Sequence[tuple[str, Sequence[RiskPoint]]], of: str) -> Plot | None:
    """Return curves of risk, each with its tone, on a scale that begins at 0; None without any points."""
    risks = [point.risk for _, points in curves for point in points]
    if not risks:
        return None
    across = Scale(0, 1, *PLOT_EDGES)
    down = Scale(0, min(1.0, max(0.1, max(risks) * 1.08)), PLOT_BOTTOM, PLOT_TOP)
    label = f"Risk against coverage: share of wrong answers among the most certain items, for {of}"
    drawn = tuple(
        (tone, tuple(Point(point.coverage, point.risk) for point in points)) for tone, points in curves
    )
    return Plot(label, "share of items answered, most certain first", across, down, drawn)


def _titles(arms: Mapping[str, ArmResult]) -> str:
    return ", ".join(map(arm_title, arms))


def layer_profile(model: ModelResult) -> Plot | None:
    """Return how well the gate of each layer ranks training items it was not fitted on; None below two layers."""
    tried, chosen = model.choices.layers_tried, model.choices.layer
    if len(tried) < 2:
        return None
    low, high = min(tried.values()), max(tried.values())
    room = max(0.01, 0.12 * (high - low))
    curve = tuple(
        Point(layer, tried[layer], f"layer {layer}: {plain(tried[layer], 3)}", 6.5 if layer == chosen else 3.0, layer == chosen)
        for layer in sorted(tried)
    )  # fmt: skip
    return Plot(
        f"Rank quality of {len(tried)} layers",
        "layer",
        Scale(min(tried), max(tried), *PLOT_EDGES),
        Scale(low - room, high + room, PLOT_BOTTOM, PLOT_TOP),
        (("declared", curve),),
    )


def layer_maps(model: ModelResult) -> tuple[LayerMap, ...]:
    """Return the map of each metric that was measured over layers and strengths."""
    sweep = model.sweep
    if sweep is None:
        return ()
    chosen = (model.choices.layer, model.choices.strength)
    grids = {"Accuracy": sweep.accuracy, "Balanced accuracy": sweep.balanced_accuracy, "AUROC": sweep.auroc}
    maps = (LayerMap(title, sweep.layers, sweep.strengths, grid, chosen) for title, grid in grids.items())
    return tuple(shown for shown in maps if shown.known)
