"""The tables of the report as typed values; `templates/tables.html` writes them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from medx_core.evaluation.number_format import NOTHING, count, fraction, p_value, percent, points
from medx_core.evaluation.report.words import (
    METRICS,
    arm_title,
    arms_in_order,
    verdict_badge,
    writer,
)
from medx_core.evaluation.result import (
    PROBE,
    SCORE,
    UNSTEERED,
    ArmResult,
    Changes,
    ControlResult,
    DrawnChanges,
    DrawnDifference,
    DrawnMetric,
    EvaluationResult,
    Figures,
    Metric,
    ModelResult,
    PairedDifference,
)
from medx_core.evaluation.sentences import (
    arm_in_text,
    capital,
    excluded_sentence,
    promise_in_words,
    reason_in_text,
)

Writer = Callable[[float], str]

ARM_METRICS = (
    "false_acceptance_rate", "accuracy", "balanced_accuracy", "auroc", "predicted_true_rate", "safety_error_rate",
    "factual_consistency", "answer_word_rate",
)  # fmt: skip
COMPARED_METRICS = (
    "false_acceptance_rate", "accuracy", "balanced_accuracy", "auroc", "safety_error_rate",
)  # fmt: skip
MUST_AGREE = {"model_sha256": "model", "data_sha256": "data", "seed": "seed"}
BREAKDOWN_METRICS = ("accuracy", "balanced_accuracy", "false_acceptance_rate")
ON_TWINS = {
    "association": "excess on twins",
    "association_gain": "excess on twins, minus that of the unsteered model",
}


@dataclass(frozen=True)
class Cell:
    """A figure with its interval in small letters, a remark, and the number of items it rests on."""

    text: str
    small: str = ""
    remark: str = ""
    n: int | None = None


@dataclass(frozen=True)
class Head:
    """The head of a column; `n` is the number of items where it is the same for the whole column."""

    title: str
    meaning: str = ""
    n: str = ""


@dataclass(frozen=True)
class Row:
    """One row; `name` is the name of an arm in the JSON, `note` what else is written below the title."""

    title: str
    cells: tuple[Cell, ...]
    name: str = ""
    note: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Table:
    """A table; `notes` are sentences below it."""

    title: str
    heads: tuple[Head, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    """A column of a table of arms, and how its cells are made; without any figure it is left out unless `always`."""

    title: str
    cell: Callable[[ArmResult | ControlResult], Cell]
    meaning: str = ""
    always: bool = False


EMPTY = Cell(NOTHING)


def figure_cell(figure: Metric | DrawnMetric | None, write: Writer) -> Cell:
    """Return the cell of a figure with its interval, or with the range of its draws."""
    if figure is None:
        return EMPTY
    if isinstance(figure, DrawnMetric):
        return Cell(write(figure.value), _range(min(figure.draws), max(figure.draws), write))
    return Cell(write(figure.value), _range(figure.low, figure.high, write), n=figure.n)


def _range(low: float, high: float, write: Writer) -> str:
    low_text, high_text = (write(end).removesuffix("%").removeprefix("+").strip() for end in (low, high))
    return f"{low_text} to {high_text}"


def wording_free_cell(arm: ArmResult | ControlResult) -> Cell:
    """Return the wording-free accuracy, marked where the wording-free part is not valid."""
    cell = figure_cell(arm.matched.accuracy, percent)
    return cell if cell is EMPTY or arm.matched.valid else replace(cell, remark="not valid")


def arm_table(figures: Figures) -> Table:
    """Return every arm with its raw and wording-free figures; false acceptance comes before accuracy."""
    columns = [
        _column(METRICS[metric].title, writer(metric), metric, meaning=METRICS[metric].meaning)
        for metric in ARM_METRICS
    ]
    columns.insert(
        2, Column("Wording-free", wording_free_cell, "accuracy where wording gives nothing away", always=True)
    )
    columns += [
        Column(
            "Helped / harmed",
            lambda arm: _changed(arm.vs_unsteered),
            "wrong unsteered and right here / right unsteered and wrong here",
        ),
        Column("McNemar p", lambda arm: _p(arm.vs_unsteered), "exact, against unsteered, two-sided"),
    ]
    return _table_of_arms("All arms", figures, columns, notes=_missing_figures(figures))


def wording_free_table(figures: Figures) -> Table:
    """Return the wording-free figures of every arm, with the association control and the excess."""
    columns = [
        _column("Wording-free accuracy", percent, "matched", "accuracy"),
        _column(
            "Against unsteered", points, "matched", "vs_unsteered", "accuracy_difference",
            meaning="its paired difference, in points",
        ),
        _column("AUROC", fraction, "matched", "auroc"),
        _column(
            "Association control", percent, "matched", "association",
            meaning="share of pairs, both false, in which the original scores higher",
        ),
        _column(
            "Excess", points, "matched", "excess",
            meaning="wording-free accuracy minus the association control, in points",
        ),
        _column(
            "Excess, same kinds", points, "matched", "excess_same_kinds",
            meaning="the same for the twins alone whose kind of word is exchanged in the control too",
        ),
    ]  # fmt: skip
    return _table_of_arms("Wording-free figures", figures, columns)


def breakdown_tables(figures: Figures) -> list[Table]:
    """Return the two kinds of safety error, and each metric by category and by difficulty."""
    safety = [
        _column("FALSE answered TRUE", percent, "safety_error_rate", "false_acceptance"),
        _column("TRUE answered FALSE", percent, "safety_error_rate", "false_rejection"),
    ]
    tables = [_table_of_arms("Safety error in its two kinds", figures, safety)]
    for breakdown in ("by_category", "by_difficulty"):
        groups = dict.fromkeys(
            group for arm in figures.arms.values() for group in getattr(arm, breakdown, {})
        )
        for metric in BREAKDOWN_METRICS:
            title = f"{METRICS[metric].title} {breakdown.replace('_', ' ')}"
            columns = [_column(group, writer(metric), breakdown, group, metric) for group in groups]
            tables.append(_table_of_arms(title, figures, columns))
    return [table for table in tables if table.rows]


def calibration_tables(figures: Figures) -> list[Table]:
    """Return Brier score and calibration error of the arms, and the calibration bins of each."""
    columns = [
        _column("Brier score", fraction, "calibration", "brier"),
        _column("Calibration error (ECE)", fraction, "calibration", "ece"),
    ]
    heads = tuple(map(Head, ("Probability of TRUE", "Share TRUE", "Items")))
    bins = [
        Table(
            arm_title(name),
            heads,
            tuple(
                Row(f"Bin {place}", (Cell(percent(part.mean_score)), Cell(percent(part.share_true)), Cell(count(part.n))))
                for place, part in enumerate(arm.calibration.bins, start=1)
            ),
        )
        for name, arm in arms_in_order(figures).items()
        if isinstance(arm, ArmResult)
    ]  # fmt: skip
    return [table for table in (_table_of_arms("Calibration", figures, columns), *bins) if table.rows]


def changes_table(figures: Figures) -> Table:
    """Return how many wrong unsteered answers each arm mends and how many right ones it breaks, by harm.

    The row of a control has the median of its draws and, in small letters, their range: what chance does.
    """
    harms = dict.fromkeys(
        harm
        for arm in figures.arms.values()
        for harm in (arm.vs_unsteered.by_harm if arm.vs_unsteered else ())
    )
    columns = [
        Column("Mended / broken", lambda arm: _mended(_changes_of(arm)), "wrong unsteered and right here / the other way round"),
        *(
            Column(f"Harm {harm}", partial(_mended_by_harm, harm), "the same among statements of this harm")
            for harm in harms
        ),
    ]  # fmt: skip
    return _table_of_arms("Answers mended and broken", figures, columns)


def _mended_by_harm(harm: str, arm: ArmResult | ControlResult) -> Cell:
    return _mended(arm.vs_unsteered.by_harm.get(harm) if arm.vs_unsteered else None)


def _changes_of(arm: ArmResult | ControlResult) -> PairedDifference | DrawnChanges | None:
    return arm.vs_unsteered.changes if isinstance(arm.vs_unsteered, DrawnDifference) else arm.vs_unsteered


def _mended(changes: PairedDifference | Changes | DrawnChanges | None) -> Cell:
    if changes is None:
        return EMPTY
    if isinstance(changes, DrawnChanges):
        both = (changes.helped, changes.harmed)
        ranges = (_range(min(drawn.draws), max(drawn.draws), _whole) for drawn in both)
        return Cell(" / ".join(_whole(drawn.value) for drawn in both), " / ".join(ranges))
    n = changes.n if isinstance(changes, Changes) else None
    return Cell(f"{count(changes.helped)} / {count(changes.harmed)}", f"p {p_value(changes.mcnemar_p)}", n=n)


def _whole(value: float) -> str:
    return count(round(value))


def trust_tables(model: ModelResult) -> list[Table]:
    """Return how far the mapped scores of each arm can be trusted, and what trusting only sure answers gives."""
    choices = model.choices
    mapped = [
        Column("Number shown", _called, "a probability while the whole interval of its calibration error lies below 0.05"),
        _column("Brier score", fraction, "calibrated", "brier"),
        _column("Calibration error (ECE)", fraction, "calibrated", "ece"),
        _column(
            "Risk by its score", percent, "confidences", SCORE, "mean_risk",
            meaning="mean share of wrong answers over all coverages, the surest first",
        ),
        _column(
            "Risk by the probe", percent, "confidences", PROBE, "mean_risk",
            meaning="the same where the probe's confidence in the same answers says which are surest",
        ),
    ]  # fmt: skip
    trusting = [
        _column("Trusted", percent, "abstention", "coverage", meaning="share of the test items"),
        _column("Wrong among them", percent, "abstention", "error"),
        _column("Wrong among the others", percent, "abstention", "error_of_rest"),
    ]
    maps = (
        f"{arm_title(name)}: {calibration.kind} map, fitted on {count(calibration.n)} training statements."
        for name, calibration in choices.calibrations.items()
    )
    missing = (f"{arm_title(name)} has no map: {reason}" for name, reason in choices.uncalibrated.items())
    promises = (
        f"{arm_title(name)}: {promise_in_words(rule)}" for name, rule in choices.abstention_rules.items()
    )
    tables = (
        _table_of_arms("Scores mapped to probabilities", model, mapped, notes=(*maps, *missing)),
        _table_of_arms("Trusting only sure answers", model, trusting, notes=promises),
    )
    return [table for table in tables if table.rows]


def _called(arm: ArmResult | ControlResult) -> Cell:
    if isinstance(arm, ControlResult) or arm.calibrated is None:
        return EMPTY
    return Cell("probability" if arm.calibrated.is_probability else "score")


def judgement_table(figures: Figures) -> Table:
    """Return the differences that the verdict on the declared arm rests on, control by control."""
    judged, rows = figures.judged, []
    for control, difference in judged.differences.items():
        on_twins = ON_TWINS.get(control)
        wording_free = on_twins is not None or control.startswith("matched_")
        beaten = "yes" if figures.matched.valid or not wording_free else "not counted"
        cells = (
            figure_cell(difference, points),
            Cell("no" if control in judged.failed_controls else beaten),
            Cell(count(difference.n) if difference else NOTHING),
            Cell(on_twins or ("wording-free accuracy" if wording_free else "balanced accuracy")),
        )
        rows.append(Row(capital(arm_in_text(control.removeprefix("matched_"))), cells))
    heads = tuple(map(Head, ("Difference, points", "Beaten", "n", "Measured in")))
    notes = (f"The largest p of these comparisons: {p_value(judged.p)}.",)
    return Table("What the verdict rests on", heads, tuple(rows), notes)


def exploratory_table(figures: Figures) -> Table:
    """Return the verdicts on the arms that were not declared, with Holm's correction for trying many."""
    said = {True: "helps", False: "not shown to help", None: "open"}
    rows = tuple(
        Row(
            arm_title(name),
            (
                Cell(said[judged.helps]),
                Cell(p_value(judged.p)),
                Cell(NOTHING if judged.p_holm is None else p_value(judged.p_holm)),
                Cell("; ".join(map(arm_in_text, judged.failed_controls)) or NOTHING),
            ),
            name,
        )
        for name, judged in figures.exploratory.items()
    )
    return Table(
        "Arms that were not declared", tuple(map(Head, ("Verdict", "p", "p, Holm", "Not beaten"))), rows
    )


def comparison_table(result: EvaluationResult) -> Table:
    """Return the paired comparisons of two models: the first one steered minus the other one unsteered."""
    rows = tuple(
        Row(
            f"{against.general}, {arm_in_text(against.arm)}, minus {against.specialised}, unsteered",
            (
                figure_cell(against.accuracy_difference, points),
                figure_cell(against.balanced_accuracy_difference, points),
                _changed(against),
                _p(against),
            ),
        )
        for against in result.comparisons
    )
    titles = ("Accuracy, points", "Balanced accuracy, points", "Helped / harmed", "McNemar p")
    heads = (Head(title, n=_common_n(row.cells[place] for row in rows)) for place, title in enumerate(titles))
    return Table("Between models", tuple(heads), rows)


def side_by_side(first: EvaluationResult, second: EvaluationResult) -> Table:
    """Return the main figures of two evaluations; the notes say what they have in common and where they differ.

    What neither has gets no row.
    """
    cells, others = _main_cells(first), _main_cells(second)
    rows = (Row(title, (cell, others[title])) for title, cell in cells.items())
    same = [name for key, name in MUST_AGREE.items() if getattr(first, key) == getattr(second, key)]
    differ = [name for name in MUST_AGREE.values() if name not in same]
    notes = [f"The same in both: {', '.join(same)}."] if same else []
    if differ:
        why = (
            "The columns rest on other draws of the same statements."
            if differ == ["seed"]
            else "A difference between the columns may come from that, not from steering."
        )
        notes.append(f"Not the same: {', '.join(differ)}. {why}")
    notes.append("The intervals are those of each evaluation alone; the two are not paired.")
    shown = tuple(row for row in rows if row.cells != (EMPTY, EMPTY))
    return Table("Two evaluations side by side", (Head("A"), Head("B")), shown, tuple(notes))


def _main_cells(result: EvaluationResult) -> dict[str, Cell]:
    """Return the verdict and the figures of the unsteered and the judged arm by their titles."""
    unsteered, judged = result.arm(UNSTEERED), result.arm(result.judged.arm)
    cells = {
        "Steering": Cell(verdict_badge(result)[1]),
        "Arm judged": Cell(arm_title(result.judged.arm)),
        "Test items": Cell(count(result.n_test)),
    }
    for metric in COMPARED_METRICS:
        for whose, arm in (("unsteered", unsteered), ("judged arm", judged)):
            figure = figure_cell(getattr(arm, metric, None), writer(metric))
            cells[f"{METRICS[metric].title}, {whose}"] = figure
    cells["Wording-free, judged arm"] = wording_free_cell(judged) if judged else EMPTY
    return cells


def draws_of_controls(figures: Figures) -> list[tuple[str, str, str]]:
    """Return every draw of every control: title of the control, metric, draws in ascending order."""
    return [
        (arm_title(name), METRICS[metric].title, ", ".join(map(writer(metric), sorted(drawn.draws))))
        for name, arm in arms_in_order(figures).items()
        for metric in METRICS
        if isinstance(drawn := getattr(arm, metric, None), DrawnMetric)
    ]


def _table_of_arms(
    title: str, figures: Figures, columns: Sequence[Column], notes: Iterable[str] = ()
) -> Table:
    """Return one row per arm; columns and arms without any figure are left out."""
    cells = {name: [column.cell(arm) for column in columns] for name, arm in arms_in_order(figures).items()}
    cells = {name: row for name, row in cells.items() if any(cell is not EMPTY for cell in row)}
    kept = [
        place
        for place, column in enumerate(columns)
        if column.always or any(row[place] is not EMPTY for row in cells.values())
    ]
    heads = (
        Head(columns[place].title, columns[place].meaning, _common_n(row[place] for row in cells.values()))
        for place in kept
    )
    rows = (_arm_row(figures, name, tuple(row[place] for place in kept)) for name, row in cells.items())
    return Table(title, tuple(heads), tuple(rows), tuple(notes))


def _arm_row(figures: Figures, name: str, cells: tuple[Cell, ...]) -> Row:
    arm = figures.arms[name]
    if isinstance(arm, ControlResult):
        draws = len(arm.accuracy.draws) if arm.accuracy else 0
        return Row(arm_title(name), cells, note=f"median of {draws} draws", tone="control")
    return Row(arm_title(name), cells, name, tone="declared" if name == figures.judged.arm else "")


def _common_n(cells: Iterable[Cell]) -> str:
    """Return the number of items that the cells rest on, where it is the same for all."""
    sizes = {cell.n for cell in cells if cell.n}
    return count(sizes.pop()) if len(sizes) == 1 else ""


def _column(title: str, write: Writer, *path: str, meaning: str = "") -> Column:
    """Return the column of a figure, found in an arm's result by a path of attributes and keys.

    The cell is empty where a part of the path is missing: controls have fewer figures than arms.
    """

    def cell(arm: ArmResult | ControlResult) -> Cell:
        figure: Any = arm
        for name in path:
            figure = figure.get(name) if isinstance(figure, dict) else getattr(figure, name, None)
        return figure_cell(figure, write)

    return Column(title, cell, meaning)


def _changed(against: object) -> Cell:
    return (
        Cell(f"{count(against.helped)} / {count(against.harmed)}")
        if isinstance(against, PairedDifference)
        else EMPTY
    )


def _p(against: object) -> Cell:
    return Cell(p_value(against.mcnemar_p)) if isinstance(against, PairedDifference) else EMPTY


def _missing_figures(figures: Figures) -> Iterator[str]:
    """Say why the recipe in use is missing, and once per metric and reason why that is, and for which arms where others have it."""
    if isinstance(figures, EvaluationResult) and figures.recipe_refused:
        yield f"The recipe in use is not among the arms. {figures.recipe_refused}"
    if isinstance(figures, ModelResult) and figures.excluded:
        yield excluded_sentence(figures.excluded)
    if isinstance(figures, EvaluationResult) and figures.doses:
        doses = (
            f"{arm_title(name)} {dose.largest:.2g} ({dose.median:.2g})"
            for name, dose in figures.doses.items()
        )
        yield f"Largest dose (median), as a share of a state's own length: {', '.join(doses)}."
    arms = arms_in_order(figures)
    for metric, words in METRICS.items():
        reasons: dict[str, list[str]] = {}
        for name, arm in arms.items():
            if getattr(arm, metric, ...) is None:
                reason = arm.reasons.get(metric, "no reason was recorded")
                reasons.setdefault(reason, []).append(arm_title(name))
        nobody_has_it = not any(getattr(arm, metric, None) for arm in arms.values())
        for reason, titles in reasons.items():
            whose = "" if nobody_has_it and len(reasons) == 1 else f" for {', '.join(titles)}"
            yield f"{words.title} is not given{whose}: {reason_in_text(reason)}."
