"""Starts and watches the parts of MedX on one machine: embedded broker, worker, evaluation worker, web page.

`python deploy/stack.py run` stays in the foreground until Ctrl-C. Every part ends with the launcher, also when that
is killed; a part that dies is started again, a limited number of times.
"""

import argparse
import os
import secrets
import signal
import socket
import sys
import threading
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deploy.embedded_broker import prepare_broker
from deploy.faults import StackFault
from deploy.watched_part import WatchedPart
from medx_core.errors import MedxError
from medx_core.home import disk_sentence, held_home, make_private, write_privately
from medx_core.ports import refuse_taken_port
from medx_core.settings import Settings, settings
from medx_core.storage.engine import open_database
from medx_core.storage.health import HealthStore

BROKER, WORKER, EVALUATOR, WEB = "broker", "worker", "evaluator", "web"
ALL_PARTS = (BROKER, WORKER, EVALUATOR, WEB)
LOOK_SECONDS = 0.1
# How long each part may take to end in good order; the worker finishes answers that people watch.
STOP_SECONDS = {WEB: 8.0, WORKER: 20.0, EVALUATOR: 10.0, BROKER: 5.0}


@dataclass(frozen=True)
class Commands:
    """What is run as worker, as evaluation worker and as web page."""

    worker: tuple[str, ...] = (sys.executable, "-m", "workers")
    evaluator: tuple[str, ...] = (
        *(sys.executable, "-m", "workers", "evaluations"),
        *("--evaluate", "medx_core.cli.evaluate:evaluate_request"),
    )
    web: tuple[str, ...] = (sys.executable, "-m", "web")


SAY_EVERY_SECONDS = 4.0
# The evaluation worker starts once the parts that people wait for are ready, which it would slow down, or after this long.
EVALUATOR_WAITS_SECONDS = 30.0
READY = {
    WEB: "The page answers at {address} ({seconds:.0f} s).",
    WORKER: "The worker has loaded its model ({seconds:.0f} s).",
}


class Stack:
    """The parts as one thing: `with Stack(settings) as stack: stack.wait_ready(60)`.

    With `REDIS_URL` set, that broker is used and none is started.
    """

    def __init__(
        self,
        chosen: Settings,
        *,
        parts: Sequence[str] = ALL_PARTS,
        commands: Commands | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self.settings = chosen
        self.fault = ""
        self.worker_name = f"{socket.gethostname()}-{secrets.token_hex(4)}"
        self._say = say
        self._wanted = [part for part in parts if not (part == BROKER and chosen.redis_url)]
        self._commands = commands or Commands()
        self._parts: dict[str, WatchedPart] = {}
        self._stop = threading.Event()
        self._ready = threading.Event()
        # Children end with the thread that started them, so one thread starts, watches and stops them all.
        self._thread = threading.Thread(target=self._run, name="stack")
        self.redis_url = chosen.redis_url

    def __enter__(self) -> "Stack":
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """Where the page answers."""
        return f"http://{self.settings.host}:{self.settings.port}"

    @property
    def process_ids(self) -> dict[str, int]:
        """The process id of each part that was started."""
        return {name: part.process.pid for name, part in self._parts.items() if part.process is not None}

    def start(self) -> None:
        """Start all parts; returns at once.

        Raises:
            SettingsFault: the port is taken.
            QueueUnavailable: there is no broker for this machine.
        """
        if WEB in self._wanted:
            refuse_taken_port(self.settings.host, self.settings.port)
        if BROKER in self._wanted:
            self._prepare_broker()
        for name, command in (
            (WORKER, (*self._commands.worker, "--name", self.worker_name)),
            (EVALUATOR, self._commands.evaluator),
            (WEB, self._commands.web),
        ):
            if name in self._wanted:
                self._parts[name] = self._part(name, command)
        self._thread.start()

    def wait_ready(self, timeout_seconds: float) -> None:
        """Wait until the page answers and the worker has its model.

        Raises:
            StackFault: a part keeps dying, or it took too long; the message holds its last words.
        """
        database = open_database(self.settings)
        health = HealthStore(database)
        checks = {WEB: self._page_answers, WORKER: lambda: self._worker_is_ready(health)}
        try:
            self._wait_for(checks, monotonic() + timeout_seconds)
        finally:
            database.close()
        self._ready.set()

    def _wait_for(self, checks: Mapping[str, Callable[[], bool]], deadline: float) -> None:
        waiting = [name for name in checks if name in self._parts]
        began = told = monotonic()
        while waiting:
            if self.fault:
                raise StackFault(self.fault)
            if monotonic() > deadline:
                raise StackFault(
                    f"Not ready in time: {', '.join(waiting)}. See {self.settings.home / 'logs'}."
                )
            ready = [name for name in waiting if checks[name]()]
            waiting = [name for name in waiting if name not in ready]
            for name in ready:
                self._say(READY[name].format(address=self.address, seconds=monotonic() - began))
            if waiting and monotonic() - told > SAY_EVERY_SECONDS:
                told = monotonic()
                self._say(f"... still starting: {', '.join(waiting)} ({told - began:.0f} s)")
            if waiting:
                self._stop.wait(LOOK_SECONDS)

    def stop(self) -> None:
        """Stop all parts, in good order; returns once all have ended."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _prepare_broker(self) -> None:
        broker = prepare_broker(self.settings.home / "broker")
        self.redis_url = broker.url
        self._parts[BROKER] = self._part(BROKER, broker.command)

    def _part(self, name: str, command: Sequence[str]) -> WatchedPart:
        environment = {**os.environ, **_as_variables(self.settings), "PYTHONUNBUFFERED": "1"}
        environment["REDIS_URL"] = self.redis_url
        return WatchedPart(name, command, environment, self.settings.home / "logs" / f"{name}.log")

    def _run(self) -> None:
        try:
            began = monotonic()
            for name, part in self._parts.items():
                if name != EVALUATOR:
                    part.start()
            while not self._stop.wait(LOOK_SECONDS) and not self.fault:
                if self._ready.is_set() or monotonic() - began > EVALUATOR_WAITS_SECONDS:
                    self._start_evaluator()
                for part in self._parts.values():
                    self._look_after(part)
                    part.rotate_log()
        except OSError as error:
            self.fault = f"A part of MedX cannot be started ({error})."
        finally:
            self._stop_parts()

    def _start_evaluator(self) -> None:
        part = self._parts.get(EVALUATOR)
        if part is not None and part.process is None:
            part.start()

    def _look_after(self, part: WatchedPart) -> None:
        if not part.died:
            return
        if not part.may_restart:
            self.fault = f"The {part.name} keeps stopping. Its last words:\n{part.last_words()}"
        elif monotonic() >= part.restart_at:
            self._say(f"The {part.name} had stopped; starting it again.")
            part.start()

    def _stop_parts(self) -> None:
        # The broker goes last: workers and page still say goodbye over it.
        for name in (WEB, WORKER, EVALUATOR, BROKER):
            if name not in self._parts:
                continue
            self._parts[name].ask_to_stop()
            if not self._parts[name].stop(within_seconds=STOP_SECONDS[name]):
                self._say(f"The {name} did not stop in time and was ended.")

    def _page_answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/healthz", timeout=2) as answer:  # noqa: S310 - our own address
                return bool(answer.status == 200)
        except OSError:
            return False

    def _worker_is_ready(self, health: HealthStore) -> bool:
        workers = health.processes(kind="worker")
        return any(worker.name == self.worker_name and worker.detail.get("ready") for worker in workers)


def _as_variables(chosen: Settings) -> dict[str, str]:
    """Return the settings that are not the defaults as the variables that a child process reads."""
    own_names = {"database_url": "DATABASE_URL", "redis_url": "REDIS_URL"}
    given = {name: str(getattr(chosen, name)) for name in chosen.model_fields_set}
    return {own_names.get(name, f"MEDX_{name.upper()}"): value for name, value in given.items()}


def run_until_stopped(stack: Stack, *, ready_within_seconds: float = 300.0) -> None:
    """Run in the foreground: say the address once all is ready, and stop on Ctrl-C or SIGTERM.

    Raises:
        StackFault: a part cannot be kept running.
    """
    told = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.set())
    print("Starting MedX: broker, worker and page. This takes about ten seconds.", flush=True)
    with stack:
        waiter = threading.Thread(target=_say_when_ready, args=(stack, ready_within_seconds), daemon=True)
        waiter.start()
        while not told.wait(0.2) and not stack.fault:
            pass
        print("\nStopping.", flush=True)
    if stack.fault:
        raise StackFault(stack.fault)
    print("MedX has stopped.", flush=True)


def _say_when_ready(stack: Stack, within_seconds: float) -> None:
    began = monotonic()
    try:
        stack.wait_ready(within_seconds)
    except MedxError as fault:
        stack.fault = stack.fault or str(fault)
        return
    print(f"MedX is ready at {stack.address} ({monotonic() - began:.0f} s). Ctrl-C stops it.", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stack; return the exit status."""
    parser = argparse.ArgumentParser(prog="deploy/stack.py", description=__doc__)
    parser.add_argument("command", choices=["run"], help="run in the foreground until Ctrl-C")
    parser.add_argument("--parts", default=",".join(ALL_PARTS), help="which parts, separated by commas")
    given = parser.parse_args(arguments)
    write_privately()
    try:
        chosen = settings()
        make_private(chosen.home)
        with held_home(chosen.home, "deploy/stack.py"):
            open_database(chosen).close()
            run_until_stopped(Stack(chosen, parts=given.parts.split(",")))
    except (MedxError, OSError) as fault:
        reason = disk_sentence(fault, settings().home) if isinstance(fault, OSError) else ""
        print(reason or fault, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
