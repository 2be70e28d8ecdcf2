"""The map of layers and strengths: how every setting that was tried did on the training part."""

from collections.abc import Sequence

from markupsafe import Markup

from medx_core.evaluation.number_format import number, percent, plain
from medx_core.evaluation.report import svg
from medx_core.evaluation.report.readings import Json, sequence

CELL = 24
LEFT = 11.0
PROFILE = 190.0
FAINT, STRONG = 0.05, 0.7  # shares of the colour; a stronger one would leave its letters hard to read


def layer_map(sweep: Json, metric: str, chosen: tuple[float | None, float | None]) -> Markup | None:
    """Return the map of one metric, layers downwards and strengths across, or None when it was not measured."""
    layers, strengths = sequence(sweep, "layers"), sequence(sweep, "strengths")
    rows = sequence(sweep, metric)
    known = [value for row in rows for cell in _cells(row) if (value := number(cell)) is not None]
    if not layers or not strengths or not known:
        return None
    width = (100 - LEFT) / len(strengths)
    shade = svg.Scale(min(known), max(known), FAINT, STRONG)
    parts = [svg.text(LEFT - 2, 14, "layer", "tick", anchor="end")]
    for column, strength in enumerate(strengths):
        middle = LEFT + width * (column + 0.5)
        parts.append(svg.text(middle, 14, f"{strength:g}", "tick", anchor="middle"))
    for row, (layer, values) in enumerate(zip(layers, rows, strict=False)):
        top = 22 + row * CELL
        parts.append(svg.text(LEFT - 2, top + 16, str(layer), "tick", anchor="end"))
        for column, (strength, cell) in enumerate(zip(strengths, _cells(values), strict=False)):
            x = (LEFT + width * column, LEFT + width * (column + 1))
            ringed = (layer, strength) == chosen
            parts.append(
                _cell(
                    x, top, number(cell), shade, said=f"layer {layer}, strength {strength:g}", ringed=ringed
                )
            )
    height = 22 + CELL * len(layers) + 22
    parts.append(svg.text(LEFT + (100 - LEFT) / 2, height - 5, "strength", "tick", anchor="middle"))
    label = f"Map of {len(layers)} layers by {len(strengths)} strengths, from {percent(min(known))} to {percent(max(known))}"
    return svg.drawing(parts, height=height, label=label, css="map")


def layer_profile(tried: Json, chosen: float | None) -> Markup | None:
    """Return how well each layer's gate ranks training items it has not seen, the chosen layer marked."""
    known = sorted((int(layer), value) for layer in tried if (value := number(tried[layer])) is not None)
    if len(known) < 2:
        return None
    values = [value for _, value in known]
    room = max(0.01, 0.12 * (max(values) - min(values)))
    across = svg.Scale(known[0][0], known[-1][0], LEFT, 97)
    down = svg.Scale(min(values) - room, max(values) + room, PROFILE, 8)
    parts = []
    for tick in svg.ticks(down.low, down.high, 4):
        parts.append(svg.line((LEFT, 97), (down(tick), down(tick)), "grid"))
        parts.append(svg.text(LEFT - 2, down(tick) + 4, plain(tick, 2), "tick", anchor="end"))
    for tick in svg.ticks(across.low, across.high, 6):
        parts.append(svg.text(across(tick), PROFILE + 17, plain(tick, 0), "tick", anchor="middle"))
    parts.append(svg.text((LEFT + 97) / 2, PROFILE + 35, "layer", "axis", anchor="middle"))
    parts.append(svg.path([(across(layer), down(value)) for layer, value in known], "curve declared"))
    for layer, value in known:
        tone, size = ("mark declared", 6.5) if layer == chosen else ("bin declared", 3)
        parts.append(
            svg.dot(across(layer), down(value), size, tone, title=f"layer {layer}: {plain(value, 3)}")
        )
    return svg.drawing(parts, height=PROFILE + 40, label=f"Rank quality of {len(known)} layers", css="curves")


def _cells(row: object) -> Sequence[object]:
    return row if isinstance(row, list | tuple) else ()


def _cell(
    x: tuple[float, float], top: float, value: float | None, shade: svg.Scale, *, said: str, ringed: bool
) -> Markup:
    y = (top + 1.0, top + CELL - 1.0)
    middle = (x[0] + x[1]) / 2
    if value is None:
        return svg.rect(x, y, "cell empty", title=f"{said}: not measured") + svg.text(
            middle, top + 16, "–", "cell-value", anchor="middle"
        )
    drawn = svg.rect(x, y, "cell", title=f"{said}: {percent(value)}", fill_opacity=f"{shade(value):.2f}")
    ring = svg.rect(x, y, "chosen") if ringed else Markup("")
    return drawn + ring + svg.text(middle, top + 16, plain(100 * value), "cell-value", anchor="middle")
