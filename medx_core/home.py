"""MEDX_HOME, the folder of everything that MedX writes: private to its owner, held by one stack, and in words when its disk fails.

Questions, answers and uploads are stored unencrypted there, so nobody else on the machine may read it, whatever the
umask of the shell and the rights of the folders above.
"""

import errno
import fcntl
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from medx_core.clock import iso, utc_now
from medx_core.errors import SettingsFault, StorageFault

OTHERS = stat.S_IRWXG | stat.S_IRWXO
HELD = "stack.lock"
PROBE = b"\0" * 65_536

DISK_FULL = "The disk of {home} is full; free some space there, and try again."
DISK_READ_ONLY = "The disk of {home} is read-only; see that it is mounted for writing, and try again."
NO_RIGHT = "MedX may not write in {home}; give the account that runs it the right to, and try again."
DISK_FAILS = "The disk of {home} reports errors; check the disk, and restore a copy if files are damaged."
SENTENCES = {
    errno.ENOSPC: DISK_FULL,
    errno.EDQUOT: DISK_FULL,
    errno.EFBIG: DISK_FULL,
    errno.EROFS: DISK_READ_ONLY,
    errno.EACCES: NO_RIGHT,
    errno.EPERM: NO_RIGHT,
    errno.EIO: DISK_FAILS,
}


def write_privately() -> None:
    """Let nobody but the owner read what this process, and every process that it starts, writes from now on."""
    os.umask(OTHERS)


def make_private(home: Path) -> None:
    """Make the folder if it is missing, and take the rights of others away from it and from all that lies in it.

    What links lead to is left alone, and so is what belongs to another account.

    Raises:
        StorageFault: the folder cannot be made or is not one.
    """
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        reason = disk_sentence(error, home) or f"The folder {home} cannot be made ({error.strerror})."
        raise StorageFault(reason) from error
    _take_from_others(home.resolve())
    for folder, subfolders, files in os.walk(home):
        for name in (*subfolders, *files):
            _take_from_others(Path(folder, name))


def _take_from_others(path: Path) -> None:
    with suppress(FileNotFoundError, PermissionError):
        mode = path.lstat().st_mode
        if mode & OTHERS and not stat.S_ISLNK(mode):
            path.chmod(stat.S_IMODE(mode) & ~OTHERS)


@contextmanager
def held_home(home: Path, holder: str) -> Iterator[None]:
    """Keep every other stack, and parts that `medx serve` starts, away from a home while the block runs.

    Raises:
        SettingsFault: something else runs on it; the message says what.
    """
    with (home / HELD).open("a+", encoding="utf-8") as lock:
        _lock(lock, fcntl.LOCK_EX, home)
        lock.truncate(0)
        lock.write(f"{holder}, process {os.getpid()} on {socket.gethostname()}, since {iso(utc_now())}")
        lock.flush()
        yield
        lock.truncate(0)


def share_home(home: Path) -> None:
    """Keep stacks away from a home for as long as this process lives, whatever program it becomes.

    Parts started one by one share a home; a stack has one for itself, because it brings its own broker and parts.

    Raises:
        SettingsFault: a stack runs on it; the message says which.
    """
    lock = (home / HELD).open("a+", encoding="utf-8")
    try:
        _lock(lock, fcntl.LOCK_SH, home)
    except SettingsFault:
        lock.close()
        raise
    os.set_inheritable(lock.fileno(), True)
    _kept_open.append(lock)


_kept_open: list[TextIO] = []  # a lock ends with its file


def _lock(lock: TextIO, kind: int, home: Path) -> None:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip() or "parts that were started with `medx serve`"
        raise SettingsFault(
            f"{home} is in use by {holder}; stop that first, or choose another home with MEDX_HOME."
        ) from None


def disk_sentence(error: OSError, home: Path) -> str:
    """Return what a person can do about a disk that is full, read-only, closed to MedX or failing; empty for other faults."""
    return SENTENCES.get(error.errno or 0, "").format(home=home)


def write_fault(home: Path) -> str:
    """Return why nothing can be written under `home` just now; empty while that works."""
    try:
        with tempfile.TemporaryFile(dir=home) as probe:
            probe.write(PROBE)
    except OSError as error:
        return disk_sentence(error, home) or f"Nothing can be written in {home} ({error.strerror})."
    return ""
