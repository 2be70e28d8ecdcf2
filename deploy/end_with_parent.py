"""Run a command that ends when its launcher ends, however that ends: `python end_with_parent.py PARENT COMMAND...`.

On Linux the kernel sends SIGTERM to the command when the launcher's thread dies. Elsewhere this process stays, looks
whether its parent is still there, and ends the command when not.
"""

import ctypes
import os
import signal
import subprocess
import sys
from types import FrameType

PR_SET_PDEATHSIG = 1
LOOK_SECONDS = 0.5
GRACE_SECONDS = 20


def main(arguments: list[str]) -> int:
    """Become the command, or watch over it."""
    parent, command = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it died before the kernel was told
            return 1
        os.execv(command[0], command)  # noqa: S606 - the launcher's own fixed command
    return watch_over(parent, command)


def watch_over(parent: int, command: list[str]) -> int:
    """Run the command, hand signals on to it, and end it when `parent` is no longer our parent."""
    child = subprocess.Popen(command)

    def hand_on(number: int, _frame: FrameType | None) -> None:
        child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, hand_on)
    while os.getppid() == parent:
        try:
            return child.wait(LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    child.terminate()
    try:
        return child.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
