"""`medx data`: thin doors, whose JSON others rely on."""

import hashlib
import json

import pytest
from typer.testing import CliRunner

from medx_core import __version__
from medx_core.cli.data import app
from medx_core.data.problems import FileLimits
from medx_core.data.question_files import read_question_file
from medx_core.errors import BadInput


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def file(tmp_path):
    def of(content):
        path = tmp_path / "in.csv"
        path.write_text(content)
        return path

    return of


def test_check_prints_the_contract_and_succeeds_while_rows_are_taken(file):
    path = file("question,answer\nx,perhaps\n,TRUE\n")
    result = run("check", path, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "rows": 1,
        "problems": [{"row": 2, "column": "question", "message": "The question is empty."}],
        "notices": [
            {
                "row": 1,
                "column": "answer",
                "message": "'perhaps' is not understood as TRUE or FALSE; the row is taken without it.",
            }
        ],
        "medx_version": __version__,
        "data_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def test_check_fails_when_nothing_is_taken(file):
    refused = run("check", file("nothing\nx\n"), "--json")
    assert refused.exit_code == 1
    answer = json.loads(refused.stdout)
    assert answer["rows"] == 0
    assert [(problem["row"], problem["column"]) for problem in answer["problems"]] == [(None, None)]
    assert "cannot be used" in run("check", file("nothing\nx\n")).stdout


def test_check_tells_people_what_to_look_at(file):
    result = run("check", file("question,answer\nx,[red]perhaps\n,TRUE\n"))
    assert "1 rows taken" not in result.stdout
    assert "1 row taken" in result.stdout
    assert "[red]perhaps" in result.stdout


def test_template_and_bundled_statements_can_be_read(tmp_path):
    for command in (("template",), ("bundled",), ("bundled", "--controls")):
        path = tmp_path / f"{'-'.join(command)}.csv"
        assert run(*command, "-o", path).exit_code == 0
        content = read_question_file(path, limits=FileLimits())
        assert content.rows
        assert not content.problems + content.notices


@pytest.mark.parametrize("command", ["template", "bundled"])
def test_a_file_that_is_there_is_replaced_only_when_that_is_said(file, command):
    mine = file("question\nmine\n")
    refused = run(command, "-o", mine).exception
    assert isinstance(refused, BadInput)
    assert "--force" in str(refused)
    assert mine.read_text() == "question\nmine\n"
    assert run(command, "-o", mine, "--force").exit_code == 0
    assert mine.read_text() != "question\nmine\n"
