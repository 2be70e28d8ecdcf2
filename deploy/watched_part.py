"""One process of the stack: started, watched, started again when it dies, and stopped."""

import os
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from time import monotonic

CHECKOUT = Path(__file__).resolve().parent.parent
END_WITH_PARENT = Path(__file__).with_name("end_with_parent.py")
RESTARTS = 5
RESTARTS_WITHIN_SECONDS = 60.0
LOG_LINES_SHOWN = 3
LOG_BYTES = 5_000_000
LOGS_KEPT = 3


@dataclass
class WatchedPart:
    """A command with its environment and its log file. Start it on a thread that lives as long as it shall."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log_file: Path
    process: subprocess.Popen[bytes] | None = None
    starts: deque[float] = field(default_factory=lambda: deque(maxlen=RESTARTS))

    def start(self) -> None:
        """Start the process, in a session of its own, so that Ctrl-C reaches the launcher alone."""
        self.starts.append(monotonic())
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        wrapper = [sys.executable, "-I", "-S", str(END_WITH_PARENT), str(os.getpid())]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*wrapper, *self.command],
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=CHECKOUT,
                start_new_session=True,
            )

    @property
    def died(self) -> bool:
        """Whether the process was started and has ended."""
        return self.process is not None and self.process.poll() is not None

    @property
    def may_restart(self) -> bool:
        """Whether it has not died too often lately."""
        often = len(self.starts) == RESTARTS
        return not (often and monotonic() - self.starts[0] < RESTARTS_WITHIN_SECONDS)

    @property
    def restart_at(self) -> float:
        """The moment (monotonic) from which on it may be started again: the more deaths lately, the later."""
        recent = sum(1 for start in self.starts if monotonic() - start < RESTARTS_WITHIN_SECONDS)
        return self.starts[-1] + 0.5 * (1 << max(0, recent - 1))

    def rotate_log(self) -> None:
        """Start the log anew when it has grown large: its content becomes `NAME.log.1`, that one `NAME.log.2` and so on.

        The process goes on writing to the file that it was given, which is copied and emptied.
        """
        try:
            if self.log_file.stat().st_size < LOG_BYTES:
                return
            numbered = [
                self.log_file.with_name(f"{self.log_file.name}.{age}") for age in range(1, LOGS_KEPT + 1)
            ]
            for younger, older in reversed(tuple(pairwise(numbered))):
                if younger.exists():
                    younger.replace(older)
            shutil.copyfile(self.log_file, numbered[0])
            os.truncate(self.log_file, 0)
        except OSError:  # a full disk, say: the log grows on until it can be copied
            return

    def ask_to_stop(self) -> None:
        """Ask the process to end."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def stop(self, *, within_seconds: float) -> bool:
        """Wait for the process to end, after `ask_to_stop`; return whether it did so in time, else end it."""
        if self.process is None:
            return True
        try:
            self.process.wait(within_seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return False
        return True

    def last_words(self) -> str:
        """Return the end of its log, for a person who wants to know why it died."""
        if not self.log_file.exists():
            return ""
        lines = [line for line in self.log_file.read_text(errors="replace").splitlines() if line.strip()]
        return "\n".join(lines[-LOG_LINES_SHOWN:])
