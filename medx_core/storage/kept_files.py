"""Files that evaluations were asked for with, kept under MEDX_HOME until no evaluation needs them.

A file is kept under a name made from its content. After its evaluation has ended nobody reads it: the result holds
what the pages show. One file may serve several evaluations, so it stays while any unfinished one names it.
"""

import hashlib
import logging
import re
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

from medx_core.storage.runs import Run

log = logging.getLogger(__name__)

KEPT_SECONDS = 24 * 3600.0
"""A younger file stays in any case: whoever wrote it may be about to ask for its evaluation."""

# The names that `keep` gives, and what an interrupted copy leaves; nothing else in the folder is touched.
_NAME = re.compile(r"[0-9a-f]{32}(\.\w+)*")


def keep(path: Path, folder: Path) -> str:
    """Copy a file into `folder`; return its name there, the same for the same content.

    A file that is there already is written anew, so that it counts as young.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    name = hashlib.sha256(path.read_bytes()).hexdigest()[:32] + path.suffix.lower()
    copy = folder / f"{name}.{secrets.token_hex(4)}"
    shutil.copyfile(path, copy)
    copy.chmod(0o600)
    copy.replace(folder / name)
    return name


def remove_unneeded(folder: Path, runs: Iterable[Run], *, now: float) -> int:
    """Remove the files of `folder` that no unfinished run names, a day after they came; return how many.

    `now` is in seconds since the epoch, as the times of files are. Read the runs before this, not after.

    Raises:
        OSError: a file cannot be removed.
    """
    needed = {str(run.settings.get("data")) for run in runs if not run.finished and run.settings.get("kept")}
    removed = 0
    for file in folder.iterdir() if folder.is_dir() else ():
        if file.name in needed or not _NAME.fullmatch(file.name) or not file.is_file():
            continue
        try:
            if now - file.stat().st_mtime > KEPT_SECONDS:
                file.unlink()
                removed += 1
        except FileNotFoundError:  # another worker removed it
            continue
    if removed:
        log.info("files of evaluations that have ended were removed: %d", removed)
    return removed
