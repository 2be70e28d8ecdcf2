"""The process of one evaluation: `python -m workers.evaluation_process PARENT RUN OWNER`, started by a worker.

It is `medx evaluate` at low priority, and it ends with its worker, however that ends.
"""

import ctypes
import os
import signal
import sys
import threading

PR_SET_PDEATHSIG = 1
LOOK_SECONDS = 1.0
NICER_BY = 10


def main(arguments: list[str]) -> None:
    """Run the claimed run."""
    parent, run, owner = arguments
    if not end_with(int(parent)):
        return
    if hasattr(os, "nice"):
        os.nice(NICER_BY)
    # Only now, for it may take seconds to load.
    from medx_core.cli.app import main as medx

    sys.argv = ["medx", "evaluate", "--run", run, "--owner", owner]
    medx()


def end_with(parent: int) -> bool:
    """See that this process does not outlive its parent; return whether that still lives."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    return os.getppid() == parent  # else it died before the kernel was told


def _watch(parent: int) -> None:
    pause = threading.Event()
    while os.getppid() == parent:
        pause.wait(LOOK_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
