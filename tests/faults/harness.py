"""A whole installation in a temporary folder, its real broker and worker process, and questions to ask of it.

Nothing here hopes to act at the right moment: a `Hold` in a file keeps the worker in the middle of it, and a worker
around a real model is stopped while the database is looked at.
"""

import os
import secrets
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import redis

from deploy.stack import BROKER, WORKER, Commands, Stack
from medx_core.data.question_files import FileRow
from medx_core.jobs.messages import redis_client_url
from medx_core.jobs.snapshots import ItemSnapshot, JobSnapshot, Progress
from medx_core.jobs.status import ItemStatus, JobKind
from medx_core.jobs.submission import Submission
from medx_core.questions import Arm, Mode
from medx_core.settings import Settings
from medx_core.storage.engine import Database
from medx_core.storage.jobs import JobStore
from medx_core.storage.runs import RunStore
from tests.faults.orders import HOLDS
from tests.waiting import SECONDS, until

BOTH = (Arm.STEERED, Arm.UNSTEERED)
DIRECTED = Commands(worker=(sys.executable, "-m", "tests.faults.worker_process"))
# Short enough that a dead worker's items are taken over within seconds.
QUICK = {
    "lease_seconds": 2.0,
    "reconcile_every_seconds": 0.3,
    "publish_every_seconds": 0.05,
    "resend_after_seconds": 1.0,
}


class Hold:
    """A question at which the directed engine stays, in the middle of a pass, until it is released."""

    def __init__(self, home: Path) -> None:
        name = secrets.token_hex(4)
        self.question = f"{HOLDS} {name}"
        self._held, self._go = home / f"{name}.held", home / f"{name}.go"

    def wait_reached(self) -> None:
        """Return once the worker is at it; it has the question, and all that share its pass, in hand."""
        until(self._held.exists, "the worker comes to the hold")

    def release(self) -> None:
        self._go.touch()


class Installation:
    """The database from outside, as a page sees it."""

    def __init__(self, stack: Stack, database: Database) -> None:
        self.stack = stack
        self.jobs = JobStore(database)
        self.runs = RunStore(database)

    def submit(
        self,
        texts: list[str],
        *,
        kind: JobKind = JobKind.BATCH,
        mode: Mode = Mode.VERDICT,
        chunk_rows: int = 8,
    ) -> str:
        items = tuple(FileRow(row, "", text) for row, text in enumerate(texts, start=1))
        return self.jobs.submit(Submission(kind, mode, BOTH, items), chunk_rows=chunk_rows).public_id

    def job(self, job_id: str) -> JobSnapshot:
        return self.jobs.get(job_id)

    def progress(self, job_id: str) -> Progress:
        return self.jobs.get(job_id).progress

    def items(self, job_id: str) -> list[ItemSnapshot]:
        return list(self.jobs.every_item(job_id))

    def wait_until(self, job_id: str, reached: Callable[[Progress], bool], event: str) -> Progress:
        until(lambda: reached(self.progress(job_id)), event)
        return self.progress(job_id)

    def wait_finished(self, job_id: str) -> Progress:
        return self.wait_until(
            job_id, lambda progress: progress.finished == progress.total, "the job finishes"
        )

    def worker_log(self) -> str:
        return (self.stack.settings.home / "logs" / "worker.log").read_text()

    def hold(self) -> Hold:
        return Hold(self.stack.settings.home)

    def kill(self, part: str) -> None:
        """Kill a part; it is dead when this returns, and soon started again."""
        process_id = self.stack.process_ids[part]
        os.kill(process_id, signal.SIGKILL)
        until(lambda: not is_running(process_id), f"the {part} is dead")

    def kill_with_rows_in_hand(self, job_id: str) -> set[int]:
        """Kill the worker at a moment when it holds rows of the job, and return the numbers of these rows.

        It stands still while the database is looked at, so no row is finished between look and kill.
        """
        worker = self.stack.process_ids["worker"]
        held: set[int] = set()

        def stopped_with_rows_in_hand() -> bool:
            os.kill(worker, signal.SIGSTOP)
            os.waitid(os.P_PID, worker, os.WSTOPPED)  # until its last thread stands still
            items = self.items(job_id)
            held.update(item.row for item in items if item.status is ItemStatus.RUNNING)
            if not held:
                os.kill(worker, signal.SIGCONT)
                assert any(item.status is ItemStatus.QUEUED for item in items), "the job was too short"
            return bool(held)

        until(stopped_with_rows_in_hand, "the worker has rows in hand")
        self.kill("worker")
        return held

    @contextmanager
    def broker(self) -> Iterator[redis.Redis]:
        client = redis.Redis.from_url(redis_client_url(self.stack.redis_url))
        try:
            yield client
        finally:
            client.close()


@contextmanager
def installation(
    home: Path,
    *,
    commands: Commands = DIRECTED,
    parts: Sequence[str] = (BROKER, WORKER),
    **settings: float | str,
) -> Iterator[Installation]:
    """Run a broker and a worker, around the directed engine unless told otherwise; all ends with the block."""
    chosen = Settings(home=home, **{**QUICK, **settings})  # type: ignore[arg-type] # each under its own name
    database = Database(chosen.database)
    database.upgrade()
    said: list[str] = []
    try:
        with Stack(chosen, parts=parts, commands=commands, say=said.append) as stack:
            stack.wait_ready(SECONDS)
            yield Installation(stack, database)
    finally:
        database.close()


def is_running(process_id: int) -> bool:
    """Whether a process does something; a zombie that nobody reaps does nothing any more."""
    try:
        return psutil.Process(process_id).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
