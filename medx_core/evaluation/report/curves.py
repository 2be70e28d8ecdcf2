"""Calibration and risk against coverage: how far an answer's own certainty can be trusted."""

from collections.abc import Mapping, Sequence
from math import sqrt

from markupsafe import Markup

from medx_core.evaluation.number_format import count, number, percent, plain
from medx_core.evaluation.report import svg
from medx_core.evaluation.report.readings import Arm, part, sequence

TOP, HEIGHT, BOTTOM = 10.0, 220.0, 40.0
LEFT, RIGHT = 13.0, 97.0
MOST_PLACES = 80

Curve = Sequence[tuple[float, float]]


def calibration_plot(arms: Sequence[tuple[Arm, str]]) -> Markup | None:
    """Return what share is TRUE where an arm says so much; each arm comes with the tone of its line."""
    drawn = [(arm, tone, _bins(arm)) for arm, tone in arms]
    if not any(bins for _, _, bins in drawn):
        return None
    across, down = svg.Scale(0, 1, LEFT, RIGHT), svg.Scale(0, 1, TOP + HEIGHT, TOP)
    parts = [_frame(across, down, "probability of TRUE that was given")]
    parts.append(svg.line((across(0), across(1)), (down(0), down(1)), "dotted"))
    for arm, tone, bins in drawn:
        places = [(across(score), down(share)) for score, share, _ in bins]
        parts.append(svg.path(places, f"curve {tone}"))
        most = max((n for *_, n in bins), default=1.0)
        for (x, y), (score, share, n) in zip(places, bins, strict=True):
            said = f"{arm.title}: said {percent(score)}, TRUE {percent(share)}, n {count(int(n))}"
            parts.append(svg.dot(x, y, 2 + 4.5 * sqrt(n / most), f"bin {tone}", title=said))
    label = "Calibration: share of TRUE statements against the probability given, for " + _titles(arms)
    return svg.drawing(parts, height=TOP + HEIGHT + BOTTOM, label=label, css="curves")


def risk_plot(arms: Sequence[tuple[Arm, str]]) -> Markup | None:
    """Return the share of wrong answers when only the most certain part of the items is answered."""
    drawn = [(tone, _risks(arm)) for arm, tone in arms]
    highest = max((risk for _, curve in drawn for _, risk in curve), default=None)
    if highest is None:
        return None
    across = svg.Scale(0, 1, LEFT, RIGHT)
    down = svg.Scale(0, min(1.0, max(0.1, highest * 1.08)), TOP + HEIGHT, TOP)
    parts = [_frame(across, down, "share of items answered, most certain first")]
    parts += [svg.path([(across(x), down(y)) for x, y in curve], f"curve {tone}") for tone, curve in drawn]
    label = "Risk against coverage: share of wrong answers among the most certain items, for " + _titles(arms)
    return svg.drawing(parts, height=TOP + HEIGHT + BOTTOM, label=label, css="curves")


def thinned(curve: Curve, most: int = MOST_PLACES) -> Curve:
    """Return at most `most` places of a long curve, its first and last among them."""
    if len(curve) <= most:
        return curve
    step = (len(curve) - 1) / (most - 1)
    return [curve[round(number * step)] for number in range(most)]


def _bins(arm: Arm) -> list[tuple[float, float, float]]:
    return _triples(arm, "bins", ("mean_score", "share_true", "n"))


def _risks(arm: Arm) -> Curve:
    given = _triples(arm, "risk_coverage", ("coverage", "risk", "coverage"))
    return thinned([(coverage, risk) for coverage, risk, _ in sorted(given)])


def _triples(arm: Arm, key: str, names: tuple[str, str, str]) -> list[tuple[float, float, float]]:
    read = []
    for entry in sequence(part(arm.data, "calibration"), key):
        values = [number(entry.get(name)) for name in names] if isinstance(entry, Mapping) else []
        known = [value for value in values if value is not None]
        if len(known) == len(names):
            read.append((known[0], known[1], known[2]))
    return read


def _frame(across: svg.Scale, down: svg.Scale, below: str) -> Markup:
    parts = []
    for tick in svg.ticks(down.low, down.high, 5):
        parts.append(svg.line((LEFT, RIGHT), (down(tick), down(tick)), "grid"))
        parts.append(svg.text(LEFT - 2, down(tick) + 4, _tick(tick), "tick", anchor="end"))
    for tick in svg.ticks(across.low, across.high, 5):
        parts.append(svg.text(across(tick), TOP + HEIGHT + 17, _tick(tick), "tick", anchor="middle"))
    middle = (LEFT + RIGHT) / 2
    parts.append(svg.text(middle, TOP + HEIGHT + 35, below, "axis", anchor="middle"))
    return Markup("").join(parts)


def _tick(value: float) -> str:
    return f"{plain(100 * value, 0)}%"


def _titles(arms: Sequence[tuple[Arm, str]]) -> str:
    return ", ".join(arm.title for arm, _ in arms)
