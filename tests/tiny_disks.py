"""A real disk of a few megabytes, for tests of what happens when it is full or read-only."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

MEGABYTES = 24


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of its own; only root may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no `mount` here")
    if done.returncode != 0:
        pytest.skip("a disk of a test's own cannot be mounted here, which takes root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Use up every byte of the folder's disk."""
    with (folder / "filling").open("wb", buffering=0) as filling:
        size = 1 << 20
        while size:
            try:
                filling.write(b"\0" * size)
            except OSError:
                size //= 2


def make_read_only(folder: Path) -> None:
    """Let nothing be written to the folder's disk any more."""
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
