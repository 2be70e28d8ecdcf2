"""Evaluations that were started on a page: one at a time, each in a process of its own at low priority.

A process of its own leaves the answering model alone and gives its memory back when it ends. It is ended when the run
is cancelled and when this worker stops; if this worker dies, the kernel ends it, and the run is claimed again once its
heartbeat is old.
"""

import logging
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import IO

from medx_core.errors import MedxError
from medx_core.settings import Settings
from medx_core.storage.engine import Database
from medx_core.storage.run_reading import Run
from medx_core.storage.run_store import RunStore

log = logging.getLogger(__name__)

KIND = "evaluation"
LOG_NAME = "evaluations.log"
LOOK_SECONDS = 1.0
GRACE_SECONDS = 5.0
COMMAND = (sys.executable, "-m", "workers.evaluation_process")


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
    ) -> None:
        self._runs = RunStore(database)
        self._settings = settings
        self._owner = owner
        self._may_begin = may_begin
        self._command = command
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
                if self._may_begin():
                    self._run_next()
                self._fault = ""
            except (MedxError, OSError) as error:
                if str(error) != self._fault:
                    log.warning("evaluations wait: %s", error)
                self._fault = str(error)

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
                lost = self._watch(child, run, owner)
            finally:
                _end(child)
        self._settle(child, run, owner, lost=lost)

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

    def _watch(self, child: "subprocess.Popen[bytes]", run: Run, owner: str) -> bool:
        """Wait for the child while the run is ours; return whether it was taken from us."""
        while not self._stopped.is_set():
            try:
                child.wait(LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                if not self._is_ours(run, owner):
                    return True
            else:
                return False
        return False

    def _is_ours(self, run: Run, owner: str) -> bool:
        try:
            return self._runs.keep(run.public_id, owner=owner)
        except MedxError as error:
            log.warning("an evaluation's heartbeat did not reach the database: %s", error)
            return True

    def _settle(self, child: "subprocess.Popen[bytes]", run: Run, owner: str, *, lost: bool) -> None:
        """Write down an end that the child could not write down itself; after its own word this changes nothing."""
        if lost:
            log.info("evaluation %s was cancelled or taken over", run.public_id)
            return
        reason = "" if self._stopped.is_set() else _ended(child.returncode)
        left = self._runs.hand_back(
            run.public_id, owner=owner, reason=reason, max_attempts=self._settings.max_attempts
        )
        log.info("evaluation %s is %s", run.public_id, left.status.value)


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
