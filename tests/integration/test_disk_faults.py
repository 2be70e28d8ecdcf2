"""A disk that is full or read-only: one sentence on every page and from every command, and health says so."""

import os
import subprocess
from pathlib import Path

import httpx
import pytest

from medx_core.errors import StorageFault
from medx_core.storage.engine import Database
from tests.integration.test_web_files_and_cookies import call, events
from tests.tiny_disks import fill, make_read_only
from tests.web_site import PASSWORD, running_site

MEDX = Path(__file__).resolve().parents[2] / ".venv" / "bin" / "medx"
# What is said of each, whether by the database or by the disk itself.
SAID = {"full": "full", "read-only": "read-only|cannot be opened"}
HTML = {"accept": "text/html"}
PAGES = ("", "batch", "review", "results", "admin", "account")


def spoil(disk: Path, fault: str) -> None:
    fill(disk) if fault == "full" else make_read_only(disk)


# What Gradio's parser could not write of an upload is flushed once more when its file object goes away.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_page_says_that_the_disk_is_full(tiny_disk):
    fault = "full"
    with running_site(tiny_disk / "home") as site:
        cookie = site.cookie("ada")
        asking = events(site, cookie, "ask")[0]
        header = next(
            event
            for event in httpx.get(f"{site.url}/app/config", cookies={site.cookie_name: cookie}).json()[
                "dependencies"
            ]
            if event["api_name"] == "show_header"
        )
        site.worker.stop()
        fill(tiny_disk)
        try:
            assert_said(
                fault,
                httpx.post(f"{site.url}/login", data={"name": "asa", "password": PASSWORD}, headers=HTML),
            )
            assert_said(fault, call(site, cookie, asking, ["Is it?", "verdict", "auto", "both"]))
            assert_said(fault, call(site, cookie, header, []))
            upload = httpx.post(
                f"{site.url}/app/gradio_api/upload",
                files={"files": ("a.csv", b"question\n" + b"x" * 100_000)},
                cookies={site.cookie_name: cookie},
            )
            assert_said(fault, upload)
            health = httpx.get(f"{site.url}/healthz").json()
            assert health["ok"] is False
            assert fault in str(health)
            for page in PAGES:
                reply = httpx.get(f"{site.url}/app/{page}", cookies={site.cookie_name: cookie}, headers=HTML)
                assert reply.status_code in {200, 503}
                assert "Traceback" not in reply.text
        finally:
            (tiny_disk / "filling").unlink(missing_ok=True)
        assert site.cookie("asa"), "it goes on by itself once the disk takes what is written"


def assert_said(fault: str, reply: httpx.Response) -> None:
    words = reply.text.lower()
    assert any(sign in words for sign in SAID[fault].split("|")), reply.text[:500]
    assert "traceback" not in words
    assert "sqlalchemy" not in words


@pytest.mark.parametrize("fault", SAID)
@pytest.mark.parametrize("command", ["users add eve --generate", "jobs list", "db upgrade", "audit verify"])
def test_every_command_says_so_in_one_line(tiny_disk, fault, command):
    home = tiny_disk / "home"
    home.mkdir()
    database = Database(f"sqlite:///{home / 'medx.sqlite3'}")
    database.upgrade()
    database.close()
    spoil(tiny_disk, fault)
    environment = {**os.environ, "MEDX_HOME": str(home), "DATABASE_URL": ""}
    done = subprocess.run(
        [MEDX, *command.split()], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode == 0:  # it only reads, and reading works
        assert command != "users add eve --generate"
        return
    assert done.stderr.count("\n") == 1, done.stderr
    assert any(sign in done.stderr for sign in SAID[fault].split("|")), done.stderr


def test_a_damaged_database_is_said_with_the_way_out(tmp_path):
    file = tmp_path / "medx.sqlite3"
    database = Database(f"sqlite:///{file}")
    database.upgrade()
    database.close()
    whole = file.read_bytes()
    for damaged in (
        b"no database at all" * 400,
        whole[: len(whole) // 3],
        whole[:4096] + b"\xff" * len(whole),
    ):
        file.write_bytes(damaged)
        with pytest.raises(StorageFault, match=r"damaged.*put back a copy"):
            Database(f"sqlite:///{file}").check()
