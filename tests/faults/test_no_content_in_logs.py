"""Nothing that anybody asks, types, uploads or reads is written anywhere but into the database."""

import io
import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher
from sqlalchemy import create_engine, text

from deploy.stack import BROKER, WEB, WORKER
from medx_core.jobs.status import JobKind
from medx_core.logs import WithoutContent, log_fault
from medx_core.ports import free_port
from medx_core.questions import Mode
from medx_core.storage.engine import Database
from medx_core.storage.people import PersonStore, Role
from tests.faults.harness import installation
from tests.faults.orders import BREAKS

MARK = "quaxelbrot"
NAME, PASSWORD = "asa", "a long passphrase of the tests"


class Visitor:
    """A person's program: signed in, and careless about what it sends."""

    def __init__(self, url: str) -> None:
        self.client = httpx.Client(base_url=url, timeout=60)
        self.statuses: list[int] = []

    def sends(self, method: str, path: str, **content: Any) -> httpx.Response:
        headers = {"content-type": "application/json"} if isinstance(content.get("content"), str) else None
        reply = self.client.request(method, path, headers=headers, **content)
        self.statuses.append(reply.status_code)
        return reply

    def calls(self, event: str, data: Any) -> httpx.Response:
        """Call an event directly, and again through Gradio's queue."""
        number = next(
            each["id"]
            for page in ("", "batch")
            for each in self.client.get(f"/app/config?page={page}").json()["dependencies"]
            if each["api_name"] == event
        )
        body = {"data": data, "fn_index": number, "session_hash": MARK}
        joined = self.sends("POST", "/app/gradio_api/queue/join", content=json.dumps(body))
        if joined.status_code == 200:
            self._wait_for_the_end()
        return self.sends("POST", f"/app/gradio_api/run/{event}", content=json.dumps(body))

    def _wait_for_the_end(self) -> None:
        with self.client.stream("GET", "/app/gradio_api/queue/data", params={"session_hash": MARK}) as lines:
            for line in lines.iter_lines():
                if "process_completed" in line or "close_stream" in line:
                    return


@pytest.mark.parametrize("engine_name", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def test_what_people_write_is_found_in_no_log_and_no_file(
    tmp_path: Path, database_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    database = Database(database_url)
    database.upgrade()
    people = PersonStore(database, hasher=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    people.add(NAME, Role.ADMIN, PASSWORD)
    home, port = tmp_path / "home", free_port()
    with installation(
        home, parts=(BROKER, WORKER, WEB), port=port, database_url=database_url, max_attempts=2
    ) as running:
        visitor = Visitor(f"http://127.0.0.1:{port}")
        visitor.sends("POST", "/login", data={"name": MARK, "password": MARK, "next": f"/app/?{MARK}"})
        visitor.sends("POST", "/login", data={"name": NAME, "password": PASSWORD})
        careless(visitor)
        faulty_database(database_url, lambda: visitor.calls("ask", [f"{MARK}?", "verdict", "auto", "both"]))
        poison = running.submit([f"{MARK} {BREAKS}", MARK])
        written = running.submit([f"{MARK} is written"], kind=JobKind.QUESTION, mode=Mode.TEXT)
        assert running.wait_finished(poison).quarantined == 1
        assert running.wait_finished(written).answered == 1
        assert {200, 401, 404} <= set(visitor.statuses)
    visitor.client.close()
    database.close()
    logs = {path.name: path.read_text() for path in (home / "logs").iterdir()}
    assert "could not run a call" in logs["web.log"]
    assert "RuntimeError" in logs["worker.log"]
    assert [path for path in files_of(home) if MARK.encode() in path.read_bytes() or MARK in path.name] == []
    assert MARK not in "".join(capfd.readouterr())


def files_of(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file() and not path.name.startswith("medx.sqlite3")]


def careless(visitor: Visitor) -> None:
    """Send every kind of call that cannot be run, and some that can."""
    sent = visitor.sends(
        "POST", "/app/gradio_api/upload", files={"files": (f"{MARK}.csv", f"question\n{MARK}?\n".encode())}
    )
    file = {"path": sent.json()[0], "meta": {"_type": "gradio.FileData"}}
    calls: tuple[Any, ...] = (
        [f"{MARK}?", "verdict", "auto", "both"],
        [MARK],
        [MARK] * 20,
        [{MARK: MARK}, MARK, MARK, MARK],
        [f"{MARK}\ud800", "verdict", "auto", "both"],
        [f"{MARK}\x00", "verdict", "auto", "both"],
        MARK,
        None,
    )
    for data in calls:
        visitor.calls("ask", data)
    for data in (
        [file, MARK, "auto", "both"],
        [file, "verdict", "auto", "both"],
        [file["path"]],
        [{"path": MARK}],
    ):
        visitor.calls("submit_batch", data)
    visitor.sends("POST", "/app/gradio_api/upload", content=MARK.encode())
    visitor.sends("POST", "/app/gradio_api/upload", files={MARK: (f"{MARK}.csv", MARK.encode())})
    for path in (
        f"/jobs/{MARK}/results.csv",
        f"/app/gradio_api/file=/{MARK}",
        f"/app/batch?job={MARK}",
        f"/{MARK}",
    ):
        visitor.sends("GET", path)
    for path in ("/app/gradio_api/run/ask", f"/app/gradio_api/run/{MARK}", "/app/gradio_api/queue/join"):
        visitor.sends("POST", path, content=f"{MARK}{{")
        visitor.sends("POST", path, content=json.dumps({"data": [MARK], "fn_index": 10_000, MARK: MARK}))


def faulty_database(url: str, act: Any) -> None:
    """Take a table away while something is stored, so that the statement fails with its parameters in hand."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    try:
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE item RENAME TO item_away"))
        act()
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE item_away RENAME TO item"))
    finally:
        engine.dispose()


def test_a_fault_is_logged_by_its_kinds_and_lines_and_its_file_is_rotated(tmp_path: Path) -> None:
    try:
        try:
            int(MARK)
        except ValueError as fault:
            raise OSError(2, "No such file", f"/{MARK}.csv") from fault
    except OSError as fault:
        for _ in range(3):
            log_fault(fault, tmp_path / "cli.log", "A command failed.")
        handler = logging.StreamHandler(out := io.StringIO())
        handler.setFormatter(WithoutContent())
        record = ("asyncio", logging.ERROR, __file__, 1, f"never retrieved: {MARK}", (), sys.exc_info())
        handler.handle(logging.LogRecord(*record))
        warned = warnings.formatwarning(MARK, UserWarning, "pool.py", 7)
        handler.handle(logging.LogRecord("py.warnings", logging.WARNING, "", 0, "%s", (warned,), None))
    said = (tmp_path / "cli.log").read_text() + out.getvalue()
    assert MARK not in said
    assert "FileNotFoundError: No such file" in said
    assert "ValueError\n" in said
    assert "py.warnings: pool.py:7: UserWarning\n" in said
    assert f"{__file__}:" in said
