"""No command writes over the file it reads, and a long one says how far it is also where nobody watches a terminal."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from medx_core.cli import batch, data, evaluate, outputs, router, vectors
from medx_core.cli.app import COMMANDS, loaded
from medx_core.cli.outputs import refuse_existing, refuse_input_as_output
from medx_core.errors import BadInput

CONTENT = "question,answer,category\nAspirin is a drug.,TRUE,literature\n"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    file = tmp_path / "mine.csv"
    file.write_text(CONTENT, encoding="utf-8")
    return file


def medx() -> typer.Typer:
    app = typer.Typer()
    app.command("batch")(batch.batch)
    app.command("evaluate")(evaluate.evaluate)
    for name, group in (("data", data.app), ("router", router.app), ("vectors", vectors.app)):
        app.add_typer(group, name=name)
    return app


@pytest.mark.parametrize(
    "line",
    [
        "batch MINE -o MINE",
        "data twins --data MINE -o MINE",
        "evaluate --data MINE --json MINE",
        "router evaluate --data MINE --json MINE",
        "vectors sweep --data MINE --json MINE",
    ],
)
def test_a_command_refuses_to_write_over_what_it_reads(mine: Path, line: str) -> None:
    result = CliRunner().invoke(medx(), line.replace("MINE", str(mine)).split())
    assert isinstance(result.exception, BadInput), result.output
    assert "would be lost" in str(result.exception)
    assert mine.read_text(encoding="utf-8") == CONTENT


def test_a_link_to_the_file_is_the_file(mine: Path, tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to(mine)
    (tmp_path / "hard.csv").hardlink_to(mine)
    for name in ("link.csv", "hard.csv"):
        with pytest.raises(BadInput):
            refuse_input_as_output(mine, tmp_path / name)


@pytest.mark.parametrize("output", ["", "-", None, "other.csv"])
def test_what_names_no_file_or_another_one_may_be_written(
    mine: Path, tmp_path: Path, output: str | None
) -> None:
    refuse_input_as_output(mine, output and output.replace("other", str(tmp_path / "other")))
    refuse_input_as_output("owner/name", output)


def test_a_new_file_and_a_device_may_be_written_without_force(tmp_path: Path) -> None:
    refuse_existing(tmp_path / "new.csv", force=False)
    refuse_existing(Path("/dev/null"), force=False)


def test_a_log_gets_a_line_of_progress_now_and_then(monkeypatch, capsys):
    clock = iter([20.0, 20.0, 25.0, 40.0, 40.0])
    monkeypatch.setattr(outputs, "_said_at", 0.0)
    monkeypatch.setattr(outputs, "monotonic", lambda: next(clock))
    for done in (1, 2, 3):
        outputs.show_stage("training states", done, 9)
    assert capsys.readouterr().err == "training states: 1 of 9\ntraining states: 3 of 9\n"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--recheck i.csv --self-test", "with --json alone"),
        ("--recheck i.csv --data d.csv", "with --json alone"),
        ("--data d.csv --items i.txt", "i.txt ends in neither"),
        ("--data d.csv --items nowhere/i.csv", "nowhere/i.csv cannot be written"),
        ("--data d.csv --items i.csv --json i.csv", "choose two files"),
    ],
)
def test_what_an_evaluation_would_ignore_or_could_not_write_is_refused_first(
    line, words, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    refused = CliRunner().invoke(medx(), ["evaluate", *line.split()])
    assert isinstance(refused.exception, BadInput)
    assert words in str(refused.exception)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_offers_to_change_the_start_up_file_of_a_shell(name):
    assert "completion" not in str([parameter.opts for parameter in loaded(name).params])
