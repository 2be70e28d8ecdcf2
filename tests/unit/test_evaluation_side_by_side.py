"""Two evaluations side by side, and the arms as a table for a spreadsheet."""

import csv
from io import StringIO

from medx_core.evaluation.report.arm_csv import arms_csv
from medx_core.evaluation.report.tables import Table, side_by_side
from medx_core.evaluation.result import read_result
from tests.evaluation_results import bare_result, synthetic_result


def compared(first: dict, second: dict) -> Table:
    return side_by_side(read_result(first), read_result(second))


def test_figures_of_the_unsteered_and_the_judged_arm_stand_side_by_side():
    other = synthetic_result() | {"helps": True, "failed_controls": []}
    other["judged"] |= {"verdict": "helps", "helps": True, "failed_controls": []}
    other["arms"]["gated"]["false_acceptance_rate"]["value"] = 0.5
    rows = {
        row.title: tuple(cell.text.replace("\u202f", " ") for cell in row.cells)
        for row in compared(synthetic_result(), other).rows
    }
    assert rows["Steering"] == ("Not shown to help", "Helps")
    assert rows["Arm judged"] == ("Gated", "Gated")
    assert rows["False accepted, unsteered"] == ("13.1 %", "13.1 %")
    assert rows["False accepted, judged arm"] == ("36.2 %", "50.0 %")
    assert rows["Wording-free, judged arm"] == ("61.4 %", "61.4 %")


def test_it_is_said_what_is_the_same_and_what_is_not():
    first = synthetic_result()
    assert compared(first, first).notes[0] == "The same in both: model, data, seed."
    other = compared(first, first | {"seed": 9}).notes
    assert other[1] == "Not the same: seed. The columns rest on other draws of the same statements."
    assert "Not the same: model" in compared(first, first | {"model_sha256": "b"}).notes[1]


def test_a_wording_free_part_that_is_not_valid_is_marked():
    weak = synthetic_result()
    weak["arms"]["gated"]["matched"]["valid"] = False
    [row] = [row for row in compared(weak, weak).rows if row.title.startswith("Wording-free")]
    assert row.cells[0].remark == "not valid"


def test_what_neither_measured_has_no_row():
    titles = [row.title for row in compared(bare_result(), bare_result()).rows]
    assert "Accuracy, judged arm" in titles
    assert not [title for title in titles if title.startswith(("Safety", "Wording"))]


def test_the_table_of_arms_is_unrounded_and_no_spreadsheet_runs_it():
    result = synthetic_result() | {"model": "=cmd()"}
    rows = {row["arm"]: row for row in csv.DictReader(StringIO(arms_csv(read_result(result))))}
    assert set(rows) == set(result["arms"])
    assert rows["gated"]["model"] == "'=cmd()"
    accuracy = result["arms"]["gated"]["accuracy"]
    assert [float(rows["gated"][name]) for name in ("accuracy", "accuracy_low", "accuracy_high")] == [
        accuracy["value"],
        accuracy["low"],
        accuracy["high"],
    ]
    assert rows["gated"]["accuracy_n"] == "1077"
    assert rows["random"]["control_of"] == "paper"
    assert rows["gated"]["matched_valid"] == "true"
    assert rows["gated"]["factual_consistency"] == ""
    lowest = min(
        float(row["balanced_accuracy_difference"])
        for row in rows.values()
        if row["balanced_accuracy_difference"]
    )
    assert lowest < 0
