"""A question file is taken whole, taken in part with each bad row named, or refused with one sentence."""

import csv
import gzip
import io
import zipfile
from pathlib import Path

import pytest

from medx_core.categories import Category
from medx_core.data.problems import FileLimits
from medx_core.data.question_files import QuestionFile, read_question_file
from medx_core.data.result_files import template_csv
from medx_core.settings import Settings

NORMAL = FileLimits()
SMALL = FileLimits(rows=5, bytes=10_000, cell_characters=200, question_characters=100)


@pytest.fixture
def read(tmp_path: Path):
    def reading(
        content: str | bytes, name: str = "questions.csv", limits: FileLimits = NORMAL
    ) -> QuestionFile:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_question_file(path, limits=limits)

    return reading


def texts(file: QuestionFile) -> list[str]:
    return [row.text for row in file.rows]


def remarks(problems) -> list[tuple[int | None, str | None]]:
    return [(problem.row, problem.column) for problem in problems]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_delimiters_line_ends_and_encodings_read_alike(read, delimiter, end, encoding):
    lines = [
        ["id", " QUESTION ", "Answer", "Note"],
        ["a", "Ist é ok?", "TRUE", "n 1"],
        ["b", '"x, y; z\t?"', "no", ""],
    ]
    file = read((end.join(delimiter.join(line) for line in lines) + end).encode(encoding))
    assert texts(file) == ["Ist é ok?", "x, y; z\t?"]
    assert [(row.id, row.answer, row.carried) for row in file.rows] == [
        ("a", True, {"Note": "n 1"}),
        ("b", False, {"Note": ""}),
    ]
    assert (file.columns, file.delimiter) == (("id", "question", "answer", "Note"), delimiter)
    assert file.encoding == encoding.removesuffix("-sig")
    assert not file.problems
    assert not file.notices


def test_windows_1252_is_read_with_a_notice(read):
    file = read("statement\nNaïve “quotes” – fine\n".encode("cp1252"))
    assert texts(file) == ["Naïve “quotes” – fine"]
    assert "Windows-1252" in file.notices[0].message


def test_every_known_column_is_understood_and_others_are_carried_in_order(read):
    file = read(
        "z,Statement,Id,Answer,Category,Harm,Urgency,Reference,Split,Pair,a\n"
        "1,Text,i,1.0,patient facing,Minor,Same day,Ref,test,p1, as it is \n"
    )
    (row,) = file.rows
    assert (row.text, row.id, row.answer, row.category) == ("Text", "i", True, Category.PATIENT_FACING)
    assert (row.harm, row.urgency, row.reference, row.split, row.pair) == (
        "mild",
        "same-day",
        "Ref",
        "test",
        "p1",
    )
    assert list(row.carried.items()) == [("z", "1"), ("a", " as it is ")]
    assert tuple(row.along()) == ("harm", "urgency", "reference", "split", "pair", "z", "a")


def test_json_lines_are_taken_and_bad_lines_are_named(read):
    file = read(
        '{"Question": "one", "answer": true, "n": 1.50, "none": null}\n'
        "\n"
        "[1]\n"
        '{"question": "nested", "n": {"a": 1}}\n'
        "not json\n"
        '{"question": "twice", "question": "twice"}\n'
        '{"question": "half \\ud800"}\n'
        '{"question": "constant", "n": NaN}\n'
        '{"answer": false}\n'
        + '{"question":' * 20_000
        + '\n{"question": "two", "answer": "no", "n": 123456789012345678901234567890}',
        "questions.jsonl",
    )
    assert [(row.number, row.text, row.answer, row.carried) for row in file.rows] == [
        (1, "one", True, {"n": "1.50", "none": ""}),
        (10, "two", False, {"n": "123456789012345678901234567890"}),
    ]
    assert remarks(file.problems) == [
        (2, None),
        (3, "n"),
        (4, None),
        (5, "question"),
        (6, "question"),
        (7, None),
        (8, "question"),
        (9, None),
    ]


def test_bad_rows_are_named_and_the_rest_is_taken(read):
    file = read(
        "question,answer,note\n"
        "fine,TRUE,\n"
        "\n"
        "too few,TRUE\n"
        "too, many,TRUE,x\n"
        "one comma, and an empty last cell,TRUE,\n"
        "  \n"
        ",TRUE,\n"
        "nul \x00 byte,TRUE,\n"
        '"stray" quote,TRUE,\n'
        'literal "quote",FALSE,"a\nb"\n'
        + "long " * 50
        + ",TRUE,\n"
        + "a,FALSE,"
        + "x" * 1_000_000
        + "\n"
        + "last,f,\n",
        limits=FileLimits(cell_characters=100_000, question_characters=100),
    )
    assert [(row.number, row.text, row.answer) for row in file.rows] == [
        (1, "fine", True),
        (8, 'literal "quote"', False),
        (11, "last", False),
    ]
    assert file.rows[1].carried == {"note": "a\nb"}
    assert remarks(file.problems) == [
        (2, None),
        (3, None),
        (4, None),
        (5, "question"),
        (6, "question"),
        (7, None),
        (9, "question"),
        (10, "note"),
    ]


def test_a_broken_utf8_character_costs_its_row_and_no_other(read):
    file = read("question\né one\n".encode() + b"broken \xc3 here\n" + "é three\n".encode())
    assert [(row.number, row.text) for row in file.rows] == [(1, "é one"), (3, "é three")]
    assert remarks(file.problems) == [(2, "question")]


def workbook() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    return content.getvalue()


REFUSED = {
    "nothing": ("", "empty"),
    "only blank lines": ("\n \r\n", "empty"),
    "only a mark": (b"\xef\xbb\xbf", "empty"),
    "header only": ("question,answer\n", "no rows"),
    "no such column": ("text,answer\nx,TRUE\n", "rename 'text'"),
    "no header": ("Is this a question\nAnd this\n", "first line"),
    "both columns": ("question,statement\nx,y\n", "both"),
    "a name twice": ("question,Note,note\nx,1,2\n", "columns 2 and 3"),
    "unclosed quote": ('question,answer\nx,TRUE\n"y,TRUE\nz,TRUE\n', "Row 2 opens a quote"),
    "quote closed rows later": ('question,answer\n"x,TRUE\n"y",TRUE\n', "Row 1 opens a quote"),
    "unclosed header quote": ('"question,answer\nx,TRUE\n', "header line"),
    "nul in the header": ("question,no\x00te\nx,y\n", "header line"),
    "a workbook": (workbook(), "Excel"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "PNG"),
    "a pdf": (b"%PDF-1.7\n" + bytes(range(256)), "PDF"),
    "gzip": (gzip.compress(b"question\nx\n"), "gzip"),
    "json lines": ('{"question": "x"}\n{"question": "y"}\n', "JSON"),
    "a json array": ('[\n  {"question": "x"}\n]\n', "JSON"),
    "a web page": ("<!DOCTYPE html><html>question,answer</html>", "web page"),
    "utf-16 without mark": ("question,answer\nx,TRUE\n".encode("utf-16-le"), "UTF-16"),
    "utf-16 cut short": ("question\nx\n".encode("utf-16")[:-1], "UTF-16"),
    "utf-32": ("question\nx\n".encode("utf-32"), "UTF-32"),
    "no known encoding": (b"question\n" + b"\x81\x8d\x8f\x90\x9d" * 9, "neither"),
    "binary": (b"question\n" + bytes(range(1, 9)) * 50, "binary"),
    "too many rows": ("question\n" + "x\n" * 6, "more than 5 rows"),
    "too large": ("question\n" + "x" * 10_000, "0.01 MB"),
    "too many columns": ("question" + ",c" * 2_000 + "\n", "columns"),
    "no row that can be taken": ("question,answer\n,TRUE\n ,FALSE\n", "None of the 2 rows"),
}


@pytest.mark.parametrize(("content", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_used_is_refused_with_one_sentence(read, content, said):
    file = read(content, limits=SMALL)
    assert file.refused
    assert not file.rows
    (problem,) = file.problems
    assert said in problem.message
    assert problem.message.endswith(".")
    assert "\n" not in problem.message


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", "question,answer\nx,TRUE\n", "contains CSV"),
        ("a.jsonl", '[{"question": "x"}]', "array"),
        ("a.jsonl", '{\n "question": "x"\n}', "several lines"),
        ("a.jsonl", '{"claim": "x"}', "rename 'claim'"),
        ("a.jsonl", "nothing like it", "only row"),
        ("a.tsv", "question,answer\nx,TRUE\n", "rename it to .csv"),
        ("a.xlsx", "question\nx\n", "must end in"),
        ("a", "question\nx\n", "must end in"),
    ],
)
def test_content_that_contradicts_the_name_is_refused(read, name, content, said):
    file = read(content, name)
    assert file.refused
    assert said in file.problems[0].message


def test_a_file_that_is_not_there_is_refused_not_raised(tmp_path):
    for path in (tmp_path / "absent.csv", tmp_path):
        assert read_question_file(path.with_suffix(".csv"), limits=SMALL).refused


def test_spreadsheets_leave_unnamed_columns_which_are_dropped_when_empty_and_carried_when_not(read):
    file = read(",question,,\n0,one,,\n1,two,,\n")
    assert file.columns == ("column 1", "question")
    assert [row.carried for row in file.rows] == [{"column 1": "0"}, {"column 1": "1"}]
    assert [notice.column for notice in file.notices] == ["column 1"]


def test_the_separator_line_of_excel_is_no_header(read):
    assert texts(read("sep=;\r\nquestion;note\r\na, b;1\r\n")) == ["a, b"]


@pytest.mark.parametrize("rows", [10_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_a_hundred_thousand_rows_are_taken(read, rows):
    assert rows <= NORMAL.rows == Settings().max_file_rows == 100_000
    file = read("question,answer\n" + "".join(f"Is number {n} even,{n % 2 == 0}\n" for n in range(rows)))
    assert len(file.rows) == rows
    assert file.rows[-1].number == rows
    assert not file.problems


def test_the_template_is_read_whole_and_without_a_remark(read):
    file = read(template_csv())
    assert len(file.rows) == len(list(csv.reader(io.StringIO(template_csv())))) - 1
    assert {row.category for row in file.rows} == {*Category, None}
    assert not file.problems
    assert not file.notices


def test_the_limits_are_those_of_the_settings():
    limits = FileLimits.of(Settings(max_file_rows=7, max_cell_characters=8))
    assert (limits.rows, limits.cell_characters) == (7, 8)
    assert "7 rows" in limits.in_words()
