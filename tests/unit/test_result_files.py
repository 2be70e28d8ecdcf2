"""Result files: safe in a spreadsheet, exact when read back."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medx_core.data.problems import FileLimits
from medx_core.data.question_files import read_question_file
from medx_core.data.result_files import (
    FORMULA_STARTS,
    RESULT_COLUMNS,
    ResultRow,
    guarded,
    is_number,
    unguarded,
    write_results,
)
from tests.result_files import read_results

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.builds(
    "{}{}".format,
    st.sampled_from([*FORMULA_STARTS, "'", "''", "'=", '"', ",", " "]),
    st.text("a1'=-+\r\n", max_size=4),
)
NUMBER = st.none() | st.floats(allow_nan=False)
ROWS = st.builds(
    ResultRow,
    row=st.integers(1, 10**6),
    question=TEXT,
    arm=st.sampled_from(["steered", "unsteered"]),
    status=TEXT,
    id=TEXT,
    category=TEXT,
    category_probability=NUMBER,
    verdict=TEXT,
    score=NUMBER,
    text=TEXT,
    answer=st.none() | st.booleans(),
    correct=st.none() | st.booleans(),
    model=TEXT,
    vector=TEXT,
    layer=st.none() | st.integers(-1, 100),
    alpha=NUMBER,
    seconds=NUMBER,
    dose=NUMBER,
    reason=TEXT,
    carried=st.fixed_dictionaries({"note": TEXT, "=x": TEXT}),
)


def written(folder: Path, rows: list[ResultRow], carried: list[str]) -> Path:
    path = folder / "out.csv"
    with path.open("w", encoding="utf-8", newline="") as out:
        assert write_results(iter(rows), carried, out) == len(rows)
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, derandomize=True)
@given(rows=st.lists(ROWS, max_size=4))
def test_every_text_and_number_survives_and_nothing_runs_in_a_spreadsheet(tmp_path, rows):
    path = written(tmp_path, rows, ["note", "=x"])
    assert list(read_results(path)) == rows
    with path.open(encoding="utf-8", newline="") as file:
        cells = [cell for line in csv.reader(file) for cell in line]
    assert not [cell for cell in cells if cell[:1] and cell[0] in FORMULA_STARTS and not is_number(cell)]


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("@x", "'@x"),
        ("'quoted'", "''quoted'"),
        ("'", "''"),
        ("-5.2e-3", "-5.2e-3"),
        ("-5 mg", "'-5 mg"),
        ("-1+cmd|' /C calc'!A0", "'-1+cmd|' /C calc'!A0"),
        ("plain", "plain"),
        ("", ""),
    ],
)
def test_only_what_could_run_is_guarded(text, cell):
    assert guarded(text) == cell
    assert unguarded(cell) == text


def test_columns_stand_in_the_order_of_the_contract_and_carried_ones_follow(tmp_path):
    row = ResultRow(
        row=1, question="q", arm="steered", status="answered", carried={"Text": "t", "z": "-1.5", "a": "x"}
    )
    lines = written(tmp_path, [row], ["Text", "z", "a", "absent"]).read_text().splitlines()
    assert lines[0] == ",".join((*RESULT_COLUMNS, "input_Text", "z", "a", "absent"))
    assert lines[0].startswith(
        "row,id,question,category,category_probability,route_source,arm,verdict,score,text,"
    )
    assert lines[1].endswith(",answered,,,,,,t,-1.5,x,")


def test_carried_columns_never_share_a_name(tmp_path):
    row = ResultRow(row=1, question="q", arm="a", status="s", carried={"text": "1", "input_text": "2"})
    (again,) = read_results(written(tmp_path, [row], ["text", "input_text"]))
    assert again.carried == {"input_text": "1", "input_input_text": "2"}


def test_floats_keep_all_their_digits(tmp_path):
    row = ResultRow(row=1, question="q", arm="a", status="s", score=0.1 + 0.2, alpha=-1e-300)
    assert "0.30000000000000004" in written(tmp_path, [row], []).read_text()


def test_results_can_be_asked_again_as_questions(tmp_path):
    rows = [
        ResultRow(
            row=1, question="Is x, y?", arm="steered", status="answered", answer=True, category="triage"
        )
    ]
    file = read_question_file(written(tmp_path, rows, []), limits=FileLimits())
    assert [(row.text, row.answer, row.category) for row in file.rows] == [("Is x, y?", True, "triage")]


def test_rows_are_written_as_they_come():
    out = io.StringIO(newline="")

    def rows():
        yield ResultRow(row=1, question="first", arm="a", status="s")
        assert "first" in out.getvalue()
        yield ResultRow(row=2, question="second", arm="a", status="s")

    assert write_results(rows(), [], out) == 2
