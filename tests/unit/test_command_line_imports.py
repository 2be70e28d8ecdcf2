"""The command line imports what a command needs and nothing heavier."""

import subprocess
import sys

import pytest

from medx_core.cli.app import COMMANDS, loaded

HEAVY = {
    "torch",
    "transformers",
    "scipy",
    "sklearn",
    "sqlalchemy",
    "sqlmodel",
    "alembic",
    "pyarrow",
    "pandas",
}


def imported_by(*arguments: str) -> set[str]:
    program = (
        "import sys\n"
        "from medx_core.cli.app import main\n"
        f"sys.argv = ['medx', *{list(arguments)!r}]\n"
        "try:\n    main()\n"
        "finally:\n    print('IMPORTED', *sorted(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("IMPORTED ")[2].split())


def test_help_imports_neither_a_command_nor_anything_heavy():
    modules = imported_by("--help")
    assert not (HEAVY | {"numpy", "pydantic", "rich"}) & modules
    assert {name for name in modules if name.startswith("medx_core.cli.")} == {
        "medx_core.cli.app",
        "medx_core.cli.outputs",
    }


def test_checking_a_file_imports_nothing_heavy(tmp_path):
    file = tmp_path / "questions.csv"
    file.write_text("statement,answer\nThe heart pumps blood.,TRUE\n", encoding="utf-8")
    assert not HEAVY & imported_by("data", "check", str(file))


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_the_command_itself_says(name):
    assert loaded(name).get_short_help_str(200) == COMMANDS[name][1]
