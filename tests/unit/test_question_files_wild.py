"""Whatever is handed in: no exception, no row made half, and what a CSV writer wrote is read back to the letter."""

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medx_core.data.problems import FileLimits
from medx_core.data.question_files import ENDINGS, QuestionFile, read_question_file

ANY_FOLDER = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, derandomize=True
)
PIECES = st.sampled_from(
    [
        *(
            "question",
            "statement",
            "answer",
            "TRUE",
            "x",
            "é",
            "Ã©",
            "1",
            " ",
            "=",
            "'",
            "\\",
            "\x00",
            "\ufeff",
        ),
        *(",", ";", "\t", '"', '""', "\n", "\r", "\r\n", "{", "}", "[", ":", '{"question": "x"}'),
    ]
)
# Files full of control characters are refused as binary, which other tests see to.
CELL = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\t\n\r\"'"), max_size=30)


def read(folder: Path, content: bytes, name: str) -> QuestionFile:
    path = folder / name
    path.write_bytes(content)
    return read_question_file(path, limits=FileLimits(rows=50, bytes=5_000, cell_characters=500))


def check(file: QuestionFile) -> None:
    if file.refused:
        assert not file.rows
        assert len(file.problems) == 1
    else:
        assert file.rows
        numbers = sorted([row.number for row in file.rows] + [problem.row for problem in file.problems])
        assert numbers == list(range(1, len(numbers) + 1)), "each record is either taken or named, once"
        assert all(row.text == row.text.strip() != "" for row in file.rows)
    assert all(problem.message.endswith(".") for problem in file.problems + file.notices)
    json.dumps(file.as_json(), ensure_ascii=False).encode()


@ANY_FOLDER
@given(content=st.binary(max_size=300), ending=st.sampled_from(ENDINGS))
def test_any_bytes_are_taken_or_refused(tmp_path, content, ending):
    check(read(tmp_path, content, f"a{ending}"))


@ANY_FOLDER
@given(
    header=st.sampled_from(
        ["question\n", "question,answer\n", "id;statement;x\r\n", "question\tanswer\r", ""]
    ),
    pieces=st.lists(PIECES, max_size=40),
    encoding=st.sampled_from(["utf-8", "utf-16", "cp1252"]),
    ending=st.sampled_from(ENDINGS),
)
def test_any_near_miss_of_a_table_is_taken_or_refused(tmp_path, header, pieces, encoding, ending):
    content = (header + "".join(pieces)).encode(encoding, errors="replace")
    check(read(tmp_path, content, f"a{ending}"))


@ANY_FOLDER
@given(
    cells=st.lists(st.tuples(CELL, CELL), min_size=1, max_size=8),
    delimiter=st.sampled_from([",", ";", "\t"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_what_a_csv_writer_wrote_is_read_to_the_letter(tmp_path, cells, delimiter, end):
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerow(["left", "question", "right"])
    writer.writerows([left, f"Question {n}", right] for n, (left, right) in enumerate(cells))
    file = read(tmp_path, out.getvalue().encode(), "a.csv")
    assert not file.problems
    assert [tuple(row.carried.values()) for row in file.rows] == cells


@ANY_FOLDER
@given(cells=st.lists(CELL, min_size=1, max_size=8))
def test_what_a_json_writer_wrote_is_read_to_the_letter(tmp_path, cells):
    lines = [json.dumps({"question": "Q", "note": cell}) for cell in cells]
    file = read(tmp_path, "\n".join(lines).encode(), "a.jsonl")
    assert [row.carried["note"] for row in file.rows] == cells


@pytest.mark.parametrize("piece", ['"', '""', ",", '",', "\n", "\t", "{", "[", "é", "Ã©"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_large_file_of_one_thing_is_done_with(tmp_path, piece, ending):
    start = "" if ending == ".jsonl" else "question\tx\n"
    path = tmp_path / f"a{ending}"
    path.write_text(start + piece * 200_000, encoding="utf-8", newline="")
    check(read_question_file(path, limits=FileLimits()))
