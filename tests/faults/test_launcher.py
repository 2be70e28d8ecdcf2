"""The launcher leaves nothing behind, however it ends."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from deploy.embedded_broker import LONGEST_SOCKET_PATH, prepare_broker
from deploy.faults import StackFault
from deploy.preparation import first_admin
from deploy.stack import Commands, Stack
from deploy.watched_part import LOG_BYTES, LOGS_KEPT, WatchedPart
from medx_core.errors import SettingsFault
from medx_core.settings import CHECKOUT, Settings
from medx_core.storage.engine import Database
from medx_core.storage.health import HealthStore
from tests.faults.harness import is_running
from tests.waiting import until

LAUNCHER = """
import sys
from deploy.stack import Stack, run_until_stopped
from medx_core.settings import settings
from tests.faults.harness import DIRECTED
run_until_stopped(Stack(settings(), parts=("broker", "worker"), commands=DIRECTED))
"""


@contextmanager
def launched(home: Path) -> Iterator[tuple["subprocess.Popen[str]", list[int]]]:
    """A launcher of broker and worker in a process of its own, and the ids of the processes it started."""
    database = Database(f"sqlite:///{home / 'medx.sqlite3'}")
    database.upgrade()
    environment = {**os.environ, "MEDX_HOME": str(home), "DATABASE_URL": "", "REDIS_URL": ""}
    with subprocess.Popen(
        [sys.executable, "-c", LAUNCHER], cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, text=True
    ) as launcher:
        try:
            health = HealthStore(database)
            until(
                lambda: any(worker.detail.get("ready") for worker in health.processes(kind="worker")),
                "the worker is ready",
            )
            yield launcher, [child.pid for child in psutil.Process(launcher.pid).children(recursive=True)]
        finally:
            launcher.kill()
            database.close()


def test_killing_the_launcher_ends_every_process_it_started(tmp_path: Path) -> None:
    with launched(tmp_path) as (launcher, children):
        assert len(children) == 2
        launcher.kill()
        for child in children:
            until(lambda child=child: not is_running(child), f"process {child} ends")


def test_where_the_kernel_cannot_tell_a_watcher_ends_the_command_of_a_dead_launcher() -> None:
    watcher = "import os; from deploy.end_with_parent import watch_over; watch_over(os.getppid(), ['sleep', '1000'])"
    launcher_code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {watcher!r}])"
    with subprocess.Popen([sys.executable, "-c", launcher_code], cwd=CHECKOUT) as launcher:
        process = psutil.Process(launcher.pid)
        until(lambda: len(process.children(recursive=True)) == 2, "watcher and command run")
        children = [child.pid for child in process.children(recursive=True)]
        launcher.kill()
        for child in children:
            until(lambda child=child: not is_running(child), f"process {child} ends")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_everything_in_good_order(tmp_path: Path, number: signal.Signals) -> None:
    with launched(tmp_path) as (launcher, children):
        launcher.send_signal(number)
        assert launcher.wait(60) == 0
        assert not any(is_running(child) for child in children)
        said = launcher.stdout.read() if launcher.stdout else ""
    assert said.endswith("MedX has stopped.\n")
    assert "did not stop in time" not in said


def test_a_taken_port_is_refused_in_one_sentence_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        stack = Stack(Settings(home=tmp_path, port=port))
        with pytest.raises(SettingsFault, match=rf"^Port {port} on 127\.0\.0\.1 cannot be used .* MEDX_PORT"):
            stack.start()
    assert stack.process_ids == {}


def test_a_part_that_keeps_dying_is_given_up_with_its_last_words(tmp_path: Path) -> None:
    chosen = Settings(home=tmp_path)
    Database(chosen.database).upgrade()
    dies = (sys.executable, "-c", "raise SystemExit('there is no model')")
    said: list[str] = []
    with (
        Stack(chosen, parts=("worker",), commands=Commands(worker=dies), say=said.append) as stack,
        pytest.raises(StackFault, match=r"(?s)The worker keeps stopping.*there is no model"),
    ):
        stack.wait_ready(90)
    assert said.count("The worker had stopped; starting it again.") == 4


def test_the_brokers_password_is_new_each_time_and_for_its_owner_alone(tmp_path: Path) -> None:
    first, second = (prepare_broker(tmp_path / "broker") for _ in range(2))
    assert first.url != second.url
    assert (tmp_path / "broker" / "broker.conf").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "broker").stat().st_mode & 0o777 == 0o700
    password = second.url.split(":")[2].split("@")[0]
    assert not any(password in part for part in second.command)


def test_a_folder_too_deep_for_a_socket_gets_a_local_port(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * LONGEST_SOCKET_PATH)
    assert prepare_broker(deep).url.startswith("redis://:")
    assert "127.0.0.1" in prepare_broker(deep).url


def test_a_log_that_has_grown_large_is_begun_anew_and_the_part_goes_on_writing(tmp_path: Path) -> None:
    part = WatchedPart("web", (), {}, tmp_path / "web.log")
    with part.log_file.open("a") as held:  # as the part holds it
        for age in range(LOGS_KEPT + 2):
            part.rotate_log()
            print(f"{age}" * LOG_BYTES, file=held, flush=True)
    kept = sorted(tmp_path.iterdir())
    assert [path.name for path in kept] == ["web.log", *(f"web.log.{age}" for age in range(1, LOGS_KEPT + 1))]
    assert [path.read_text()[0] for path in kept] == ["4", "3", "2", "1"]


def test_the_first_password_goes_into_no_log_but_into_a_file_for_its_owner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = Settings(home=tmp_path / "home")
    made = first_admin(chosen)
    assert made is not None
    said, file = capsys.readouterr().out, tmp_path / "home" / "first-admin.txt"
    assert made[1] not in said
    assert str(file) in said
    assert file.read_text() == f"{made[1]}\n"
    assert file.stat().st_mode & 0o777 == 0o600
