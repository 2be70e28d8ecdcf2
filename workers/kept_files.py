"""Files that evaluations were asked for with: they go once nothing that waits or runs needs them any more.

Nobody reads such a file after its evaluation ended; the result holds what the pages show. One file may serve several
evaluations, so what counts is whether any of them still needs it.
"""

import logging
import re
from collections.abc import Iterable
from pathlib import Path

from medx_core.storage.runs import Run

log = logging.getLogger(__name__)

KEPT_SECONDS = 24 * 3600.0
"""A younger file stays in any case: the page that wrote it may be about to ask for its evaluation."""

# As `web.evaluations` names them, and what an interrupted copy leaves; nothing else in the folder is touched.
_NAME = re.compile(r"[0-9a-f]{32}(\.\w+)*")


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
        except FileNotFoundError:  # another worker was here
            continue
    if removed:
        log.info("files of evaluations that have ended were removed: %d", removed)
    return removed
