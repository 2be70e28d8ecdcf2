"""SVG from small pure functions.

Everything horizontal is in percent and everything vertical in pixels: a drawing then fills whatever width the page
gives it, while its letters and lines keep their size on a telephone. Only lines, rectangles, circles and text are
needed; colours come from classes, so that one drawing serves light and dark pages.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, log10

from markupsafe import Markup, escape

PREFIX = "mx-report-"


@dataclass(frozen=True)
class Scale:
    """A straight map of values on places: percent of the width, or pixels from the top."""

    low: float
    high: float
    start: float = 0.0
    end: float = 100.0

    def __call__(self, value: float) -> float:
        """Return where a value lies."""
        span = self.high - self.low
        share = (value - self.low) / span if span else 0.5
        return self.start + share * (self.end - self.start)


def element(name: str, content: Markup | str = "", css: str = "", **attributes: object) -> Markup:
    """Return one element; text and attribute values are escaped, `stroke_width` becomes `stroke-width`."""
    classes = " ".join(PREFIX + one for one in css.split())
    given = {
        "class": classes,
        **{key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()},
    }
    shown = Markup("").join(
        Markup(' {}="{}"').format(key, value) for key, value in given.items() if value not in ("", None)
    )
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), shown, escape(content))  # noqa: S704 - our own names


def drawing(parts: Iterable[Markup], *, height: float, label: str, css: str = "") -> Markup:
    """Return a whole drawing as wide as its place; `label` tells what it shows to those who cannot see it."""
    inside = Markup("").join(parts)
    return element(
        "svg", inside, f"svg {css}", height=f"{height:g}", width="100%", role="img", aria_label=label
    )


def line(x: tuple[float, float], y: tuple[float, float], css: str) -> Markup:
    """Return a line from (x0 %, y0 px) to (x1 %, y1 px)."""
    return element("line", "", css, x1=f"{x[0]:.2f}%", x2=f"{x[1]:.2f}%", y1=f"{y[0]:.1f}", y2=f"{y[1]:.1f}")


def rect(
    x: tuple[float, float], y: tuple[float, float], css: str, *, title: str = "", **more: object
) -> Markup:
    """Return a rectangle between two places in percent and two in pixels."""
    left, right = min(x), max(x)
    inside = element("title", title) if title else ""
    return element(
        "rect",
        inside,
        css,
        x=f"{left:.2f}%",
        width=f"{right - left:.2f}%",
        y=f"{min(y):.1f}",
        height=f"{abs(y[1] - y[0]):.1f}",
        **more,
    )


def dot(x: float, y: float, radius: float, css: str, *, title: str = "") -> Markup:
    """Return a circle at (x %, y px)."""
    inside = element("title", title) if title else ""
    return element("circle", inside, css, cx=f"{x:.2f}%", cy=f"{y:.1f}", r=f"{radius:.1f}")


def text(x: float, y: float, words: str, css: str = "", *, anchor: str = "start") -> Markup:
    """Return words at (x %, y px); `anchor` is start, middle or end."""
    return element("text", words, css, x=f"{x:.2f}%", y=f"{y:.1f}", text_anchor=anchor)


def path(places: Sequence[tuple[float, float]], css: str) -> Markup:
    """Join places (x %, y px) by lines; percentages are possible in lines only, not in a path."""
    return Markup("").join(line((x0, x1), (y0, y1), css) for (x0, y0), (x1, y1) in pairwise(places))


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Return round values from `low` to `high`, about as many as wanted."""
    span = high - low
    if span <= 0:
        return [low]
    rough = span / wanted
    power = 10 ** floor(log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]
