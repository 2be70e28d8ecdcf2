"""Tables as plain values, ready to be written, and the cells they are made of."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from medx_core.evaluation.number_format import NOTHING, count, fraction, p_value, percent, plain, points
from medx_core.evaluation.report.arm_words import METRICS
from medx_core.evaluation.report.readings import Arm, Evaluation, Figure, figure, part


@dataclass(frozen=True)
class Cell:
    """What stands in a cell: a figure, and quietly below it its interval or remarks."""

    text: str
    small: str = ""
    more: str = ""


@dataclass(frozen=True)
class Column:
    """The head of a column with its meaning; `n` says how many items all its figures rest on."""

    title: str
    meaning: str = ""
    key: str = ""
    n: str = ""


@dataclass(frozen=True)
class Row:
    """One arm, or one entry, with its cells in the order of the columns."""

    title: str
    name: str
    cells: tuple[Cell, ...]
    tone: str = ""


@dataclass(frozen=True)
class Table:
    """A table; `notes` say in sentences what is missing from it, or belongs to all of it."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


EMPTY = Cell(NOTHING)
IN_POINTS = ("excess", "excess_same_kinds", "vs_unsteered")


def arm_row(arm: Arm, evaluated: Evaluation, cells: Iterable[Cell]) -> Row:
    """Return the row of an arm."""
    return Row(arm.title, code_of(arm), tuple(cells), tone_of(arm, evaluated))


def figure_cell(shown: Figure | None, say: Callable[[float], str]) -> Cell:
    """Return a figure with its interval, or with the range of its draws."""
    if shown is None:
        return EMPTY
    if shown.draws:
        ends = f"{_bare(say(min(shown.draws)))} to {_bare(say(max(shown.draws)))}"
        return Cell(say(shown.value), ends)
    if shown.interval:
        low, high = shown.interval
        return Cell(say(shown.value), f"{_bare(say(low))} to {_bare(say(high))}")
    return Cell(say(shown.value))


def wording_free_figure(arm: Arm, key: str) -> Figure | None:
    """Return a figure of an arm's wording-free part; `vs_unsteered` stands for the difference from that arm."""
    matched = part(arm.data, "matched")
    if key == "vs_unsteered":
        return figure(part(matched, key).get("accuracy_difference"))
    return figure(matched.get(key))


def wording_free_cell(arm: Arm, key: str) -> Cell | None:
    """Return the cell of such a figure, or None where there is none."""
    shown = wording_free_figure(arm, key)
    if shown is None:
        return None
    return figure_cell(shown, points if key in IN_POINTS else spoken(key))


def same_n(figures: Iterable[Figure | None]) -> str:
    """Return the number of items that figures rest on, where it is the same for all."""
    sizes = {one.n for one in figures if one and one.n}
    return count(sizes.pop()) if len(sizes) == 1 else ""


def changed_cell(arm: Arm) -> Cell:
    """Return how many items were put right and put wrong."""
    against = part(arm.data, "vs_unsteered")
    helped, harmed = figure(against.get("helped")), figure(against.get("harmed"))
    if not helped or not harmed:
        return EMPTY
    return Cell(f"{whole(helped.value)} / {whole(harmed.value)}")


def p_cell(arm: Arm) -> Cell:
    """Return the McNemar p against the unsteered arm."""
    p = figure(part(arm.data, "vs_unsteered").get("mcnemar_p"))
    return Cell(p_value(p.value)) if p else EMPTY


def spoken(metric: str) -> Callable[[float], str]:
    """Return what writes the values of a metric."""
    return fraction if metric == "auroc" else percent


def whole(value: float) -> str:
    """Return a count, or a number that should have been one."""
    return count(int(value)) if value == int(value) else plain(value)


def tone_of(arm: Arm, evaluated: Evaluation) -> str:
    """Return how an arm's row is set off: the declared one, a control, or plain."""
    if arm.name == evaluated.declared:
        return "declared"
    return "control" if arm.of else ""


def code_of(arm: Arm) -> str:
    """Return the name to write below the title, for a control with the number of its draws."""
    draws = max((len(shown.draws) for metric in METRICS if (shown := arm.figure(metric))), default=0)
    return f"median of {draws} draws" if draws else arm.name


def _bare(text: str) -> str:
    return text.removesuffix("%").removeprefix("+").strip()
