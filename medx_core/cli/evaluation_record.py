"""Writing an evaluation down in the database while it runs: how far it is, that it lives, and how it ended."""

import json
import logging
import os
import secrets
import socket
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from medx_core.errors import Cancelled, LeaseLost, MedxError, StorageFault
from medx_core.evaluation.requests import EvaluationRequest, request_from
from medx_core.storage.engine import Database
from medx_core.storage.run_reading import Run
from medx_core.storage.run_store import RunStore

log = logging.getLogger(__name__)

KIND = "evaluation"
SAY_SECONDS = 1.0
BROKEN = "An unexpected fault stopped this evaluation; the details are in the logs folder of MEDX_HOME."


def begun_by_command(database: Database, request: EvaluationRequest) -> "RunRecord":
    """Write down that this command begins an evaluation.

    Raises:
        StorageFault: the database cannot be used.
    """
    runs, owner = RunStore(database), _owner()
    return RunRecord(runs, runs.add(KIND, request.as_json(), owner=owner), owner)


def taken_up(database: Database, public_id: str, owner: str) -> "RunRecord":
    """Take up a run that was asked for: as the `owner` who claimed it, or, without one, for this command.

    Raises:
        NotFound: there is no such run.
        BadInput: it does not wait any more.
    """
    runs = RunStore(database)
    if owner:
        return RunRecord(runs, runs.get(public_id), owner)
    owner = _owner()
    return RunRecord(runs, runs.begin(public_id, owner=owner), owner)


class RunRecord:
    """`with record: ... record.finish(result)`. A fault that leaves the block is written down before it goes on."""

    def __init__(self, runs: RunStore, run: Run, owner: str) -> None:
        self.run = run
        self._runs = runs
        self._owner = owner
        self._stage: Mapping[str, Any] | None = None
        self._lost = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._say, name="run-record", daemon=True)

    @property
    def request(self) -> EvaluationRequest:
        """What was asked for."""
        return request_from(self.run.settings)

    def __enter__(self) -> "RunRecord":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()
        if error is not None and not isinstance(error, LeaseLost | Cancelled):
            self._write_down(error)

    def on_stage(self, what: str, done: int, total: int) -> None:
        """Note how far it is.

        Raises:
            Cancelled: somebody cancelled it, or another process has it by now.
        """
        self._stage = {"what": what, "done": done, "total": total}
        if self._lost.is_set():
            raise Cancelled("This evaluation was cancelled, or another worker has taken it up.")

    def finish(self, result: Mapping[str, Any]) -> None:
        """Store the result.

        Raises:
            LeaseLost: it was cancelled meanwhile.
            StorageFault: the database cannot be reached.
        """
        json.dumps(
            result, allow_nan=False
        )  # a database may refuse what is no JSON, or keep it for others to trip over
        self._runs.finish(self.run.public_id, result, owner=self._owner)

    def _say(self) -> None:
        while not self._stopped.wait(SAY_SECONDS) and not self._lost.is_set():
            try:
                if not self._runs.keep(self.run.public_id, owner=self._owner, progress=self._stage):
                    self._lost.set()
            except MedxError as fault:
                log.warning("the progress of an evaluation did not reach the database: %s", fault)

    def _write_down(self, error: BaseException) -> None:
        try:
            if isinstance(error, KeyboardInterrupt):
                self._runs.cancel(self.run.public_id)
            else:
                reason = str(error) if isinstance(error, MedxError) else BROKEN
                self._runs.fail(self.run.public_id, reason, owner=self._owner)
        except (MedxError, StorageFault) as fault:
            log.warning("how the evaluation ended did not reach the database: %s", fault)


def _owner() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
