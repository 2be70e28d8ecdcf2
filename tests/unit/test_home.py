"""The folder of everything that MedX writes is its owner's alone."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from medx_core.home import make_private

WRITES = """
import sys
from pathlib import Path
from medx_core.home import make_private, write_privately
home = Path(sys.argv[1])
write_privately()
make_private(home)
(home / "logs").mkdir()
(home / "logs" / "web.log").write_text("x")
"""


def modes(home: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in (home, *home.rglob("*")) if not path.is_symlink()}


@pytest.mark.parametrize("umask", ["000", "022"])
def test_what_is_written_is_private_whatever_the_umask_and_the_folder_above(
    tmp_path: Path, umask: str
) -> None:
    tmp_path.chmod(0o777)
    home = tmp_path / "a" / "home"
    shell = f'umask {umask}; exec "$0" -c "$1" "$2"'
    subprocess.run(["sh", "-c", shell, sys.executable, WRITES, str(home)], check=True)
    assert modes(home) == {0o700, 0o600}


def test_rights_that_others_had_are_taken_away_and_links_are_left_alone(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir(mode=0o755)
    home = tmp_path / "home"
    (home / "uploads").mkdir(parents=True)
    (home / "medx.sqlite3").write_text("x")
    (home / "models").symlink_to(weights)
    for path, mode in ((home, 0o777), (home / "uploads", 0o775), (home / "medx.sqlite3", 0o664)):
        path.chmod(mode)
    make_private(home)
    assert modes(home) == {0o700, 0o600}
    assert stat.S_IMODE(weights.stat().st_mode) == 0o755
