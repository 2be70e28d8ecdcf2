"""HTML fragments. Everything that is not ours goes through `escape`; model text is shown as plain text."""

import html
from collections.abc import Iterable, Sequence

from web import wording


def escape(text: object) -> str:
    """Return text that HTML and Gradio's own placeholders leave alone."""
    return html.escape(str(text), quote=True).replace("@", "&#64;")


def tag(name: str, content: str, css: str = "", **attributes: str) -> str:
    """Wrap ready HTML in an element; attribute values are escaped, `data_x` becomes `data-x`."""
    shown = {"class": css, **{key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}}
    written = "".join(f' {key}="{escape(value)}"' for key, value in shown.items() if value)
    return f"<{name}{written}>{content}</{name}>"


def note(sentence: str, css: str = "") -> str:
    """Return one quiet sentence."""
    return tag("p", escape(sentence), f"medx-note {css}".strip())


def fault(sentence: str) -> str:
    """Return one sentence about what went wrong."""
    return tag("p", escape(sentence), "medx-fault", role="alert")


def bar(value: float, *, label: str, half: bool = False) -> str:
    """Return a small horizontal bar for a share between 0 and 1; `half` marks one half."""
    width = f"{max(0.0, min(1.0, value)) * 100:.1f}%"
    mark = '<i class="medx-half"></i>' if half else ""
    fill = f'<span style="width:{width}"></span>'
    return tag("span", fill + mark, "medx-bar", role="img", aria_label=f"{label} {wording.share(value)}")


def table(head: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]], *, empty: str, name: str) -> str:
    """Return a table of ready HTML cells; a head cell is (title, css class), `num` aligns numbers."""
    body = [
        tag(
            "tr",
            "".join(
                tag("td", cell, css, data_label=title) for cell, (title, css) in zip(row, head, strict=True)
            ),
        )
        for row in rows
    ]
    if not body:
        return note(empty)
    titles = "".join(tag("th", escape(title), css, scope="col") for title, css in head)
    inside = tag("thead", tag("tr", titles)) + tag("tbody", "".join(body))
    return tag("div", tag("table", inside, "medx-table", aria_label=name), "medx-scroll", tabindex="0")


def link(address: str, text: str, css: str = "", *, download: bool = False) -> str:
    """Return a link; the text is escaped."""
    return tag("a", escape(text), css, href=address, **({"download": "download"} if download else {}))
