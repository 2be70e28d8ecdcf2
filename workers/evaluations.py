"""Evaluations that were started on a page: one at a time, each in a process of its own at low priority.

A process of its own leaves the answering model alone and gives its memory back when it ends. It is ended when the run
is cancelled, when it reports nothing new for hours, and when this worker stops; if this worker dies, the kernel ends
it, and the run is claimed again once its heartbeat is old.
"""

import logging
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import IO, Any

from medx_core.errors import LeaseLost, MedxError
from medx_core.settings import Settings
from medx_core.storage.engine import Database
from medx_core.storage.runs import Run, RunStore
from workers.kept_files import remove_unneeded

log = logging.getLogger(__name__)

KIND = "evaluation"
LOG_NAME = "evaluations.log"
LOOK_SECONDS = 1.0
GRACE_SECONDS = 5.0
# Fine-tuning, and a prompt tried on a large model on a CPU, are one step each for the one who reports.
STUCK_SECONDS = 6 * 3600.0
STUCK = (
    f"Its process reported no progress for {STUCK_SECONDS / 3600:.0f} hours and was ended; "
    f"see logs/{LOG_NAME} in MEDX_HOME."
)
TIDY_SECONDS = 3600.0
ALL_RUNS = 1_000_000
COMMAND = (sys.executable, "-m", "workers.evaluation_process")


class _End(Enum):
    """Why a run is watched no longer."""

    CHILD_ENDED = "its process ended"
    STOPPING = "this worker stops"
    LOST = "it was cancelled or taken over"
    STUCK = "it reported nothing new for too long"


class Silence:
    """How long a run has reported nothing new, by a clock in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last: Mapping[str, Any] | None = None
        self._since = clock()

    def seconds(self, progress: Mapping[str, Any] | None) -> float:
        """Note how far the run is now, and return since when it has been so far."""
        if progress != self._last:
            self._last = progress
            self.begin_anew()
        return self._clock() - self._since

    def begin_anew(self) -> None:
        """Forget how long it has been, as after a time in which nothing could be reported."""
        self._since = self._clock()


class Evaluations:
    """Claims and runs, on a thread of its own, while `may_begin` says so."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        *,
        owner: str,
        may_begin: Callable[[], bool],
        command: Sequence[str] = COMMAND,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runs = RunStore(database)
        self._settings = settings
        self._owner = owner
        self._may_begin = may_begin
        self._command = command
        self._clock = clock
        self._tidy_at = clock()
        self._fault = ""
        self._stopped = threading.Event()
        # The kernel ends a child with the thread that started it, so this thread starts, watches and ends it.
        self._thread = threading.Thread(target=self._work, name="evaluations", daemon=True)

    def start(self) -> None:
        """Begin to look for runs, unless the settings leave them to other workers."""
        if self._settings.evaluations:
            self._thread.start()

    def stop(self) -> None:
        """End the run in hand and leave it to others."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=4 * GRACE_SECONDS)

    def _work(self) -> None:
        while not self._stopped.wait(LOOK_SECONDS):
            try:
                self._tidy()
                if self._may_begin():
                    self._run_next()
                self._fault = ""
            except (MedxError, OSError) as error:
                if str(error) != self._fault:
                    log.warning("evaluations wait: %s", error)
                self._fault = str(error)

    def _tidy(self) -> None:
        """Remove files that no evaluation needs any more: first when the worker starts, then once an hour."""
        if self._clock() < self._tidy_at:
            return
        # Before the attempt: a file that cannot be removed must not keep runs from beginning.
        self._tidy_at = self._clock() + TIDY_SECONDS
        runs = self._runs.list(KIND, limit=ALL_RUNS)
        remove_unneeded(self._settings.evaluations_folder, runs, now=time.time())

    def _run_next(self) -> None:
        settings, owner = self._settings, f"{self._owner}/{secrets.token_hex(4)}"
        run = self._runs.claim(
            KIND, owner=owner, stale_seconds=settings.lease_seconds, max_attempts=settings.max_attempts
        )
        if run is None:
            return
        log.info("evaluation %s begins, attempt %d", run.public_id, run.attempts)
        log_file = settings.home / "logs" / LOG_NAME
        log_file.parent.mkdir(parents=True, exist_ok=True)
        with log_file.open("ab") as out, self._child(run, owner, out) as child:
            try:
                end = self._watch(child, run, owner)
            finally:
                _end(child)
        self._settle(child, run, owner, end)

    def _child(self, run: Run, owner: str, out: IO[bytes]) -> "subprocess.Popen[bytes]":
        threads = str(_threads(self._settings))
        return subprocess.Popen(  # noqa: S603 - our own command, ids of ours
            [*self._command, str(os.getpid()), run.public_id, owner],
            env={**os.environ, "MEDX_THREADS": threads, "OMP_NUM_THREADS": threads},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _watch(self, child: "subprocess.Popen[bytes]", run: Run, owner: str) -> _End:
        """Wait for the child while the run is ours and gets on; return why that is over."""
        silence = Silence(self._clock)
        while not self._stopped.is_set():
            try:
                child.wait(LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                end = self._kept(run, owner, silence)
                if end is not None:
                    return end
            else:
                return _End.CHILD_ENDED
        return _End.STOPPING

    def _kept(self, run: Run, owner: str, silence: Silence) -> _End | None:
        """Keep the run ours, or say why not: a heartbeat is for a child that gets on, not for one that hangs."""
        try:
            if silence.seconds(self._runs.get(run.public_id).progress) > STUCK_SECONDS:
                return _End.STUCK
            return None if self._runs.keep(run.public_id, owner=owner) else _End.LOST
        except MedxError as error:
            silence.begin_anew()
            log.warning("an evaluation's heartbeat did not reach the database: %s", error)
            return None

    def _settle(self, child: "subprocess.Popen[bytes]", run: Run, owner: str, end: _End) -> None:
        """Write down an end that the child could not write down itself; after its own word this changes nothing."""
        if end is _End.STUCK:
            end = self._failed_stuck(run, owner)
        if end in {_End.LOST, _End.STUCK}:
            log.info("evaluation %s: %s", run.public_id, end.value)
            return
        reason = "" if end is _End.STOPPING or self._stopped.is_set() else _ended(child.returncode)
        left = self._runs.hand_back(
            run.public_id, owner=owner, reason=reason, max_attempts=self._settings.max_attempts
        )
        log.info("evaluation %s is %s", run.public_id, left.status.value)

    def _failed_stuck(self, run: Run, owner: str) -> _End:
        """Write down that it hung: it is not tried again, for it would take another worker as long."""
        try:
            self._runs.fail(run.public_id, STUCK, owner=owner)
        except LeaseLost:
            return _End.LOST
        return _End.STUCK


def _end(child: "subprocess.Popen[bytes]") -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()


def _ended(status: int) -> str:
    if status == -signal.SIGKILL:
        return "Its process was killed, perhaps because the machine ran out of memory"
    how = f"by signal {-status}" if status < 0 else f"with status {status}"
    return f"Its process ended {how}; see logs/{LOG_NAME} in MEDX_HOME"


def _threads(settings: Settings) -> int:
    """Return how many CPU threads a run may use: one less than there are, so that answering goes on."""
    return max(1, (settings.threads or os.cpu_count() or 1) - 1)
