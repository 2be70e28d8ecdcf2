"""The folder of everything that MedX writes is its owner's alone."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from medx_core.errors import SettingsFault
from medx_core.home import held_home, make_private, share_home
from medx_core.settings import CHECKOUT

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


def test_one_stack_holds_a_home_and_parts_started_one_by_one_share_it(tmp_path: Path) -> None:
    with held_home(tmp_path, "deploy/demo"):
        with pytest.raises(
            SettingsFault, match=rf"in use by deploy/demo, process {os.getpid()} on .*MEDX_HOME"
        ):
            share_home(tmp_path)
        with pytest.raises(SettingsFault, match="in use by deploy/demo"), held_home(tmp_path, "another"):
            pass
    share = "import sys, pathlib, medx_core.home as home; home.share_home(pathlib.Path(sys.argv[1])); "
    becomes = "import os; os.execv(sys.executable, [sys.executable, '-c', 'print(1, flush=True); input()'])"
    with subprocess.Popen(
        [sys.executable, "-c", share + becomes, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as part:
        assert part.stdout is not None
        part.stdout.readline()
        share_home(tmp_path)
        with pytest.raises(SettingsFault, match="`medx serve`"), held_home(tmp_path, "deploy/demo"):
            pass
        part.communicate(b"\n")


def test_a_second_demo_is_refused_before_it_prepares_anything(tmp_path: Path) -> None:
    home = tmp_path / "home"
    make_private(home)
    demo = [sys.executable, str(CHECKOUT / "deploy" / "demo.py")]
    environment = {
        **os.environ,
        "MEDX_HOME": str(home),
        "DATABASE_URL": "",
        "MEDX_MODEL": "there-is-no-such-model",
    }
    with held_home(home, "deploy/demo"):
        second = subprocess.run(demo, env=environment, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert second.stderr.startswith(f"MedX: {home} is in use by deploy/demo, process {os.getpid()}")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        environment["MEDX_PORT"] = str(taken.getsockname()[1])
        third = subprocess.run(demo, env=environment, capture_output=True, text=True, check=False)
    assert (third.returncode, third.stderr.count("\n")) == (1, 1)
    assert "MEDX_PORT" in third.stderr
    assert sorted(path.name for path in home.iterdir()) == ["stack.lock"]
