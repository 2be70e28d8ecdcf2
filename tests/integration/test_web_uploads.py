"""Bytes and files: how many anybody may send, whose they are, and when they are gone."""

import os
import socket
import time
from contextlib import suppress

import anyio
import httpx
import pytest

from medx_core.settings import Settings
from medx_core.storage.people import Person, Role
from tests.integration.test_web_files_and_cookies import call, events, named_file
from tests.web_site import running_site
from web.request_bodies import SIGNED_IN_BYTES, SIGNED_OUT_BYTES
from web.uploads import SMALLEST_BYTES, NoRoom, Uploads

QUESTIONS = b"question\nIs aspirin safe for a child with flu?\n"
ROOM = 8 * SMALLEST_BYTES


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    home = tmp_path_factory.mktemp("web") / "home"
    with running_site(
        home, max_file_bytes=4 * SMALLEST_BYTES, upload_bytes_per_person=ROOM, upload_bytes_in_all=2 * ROOM
    ) as running:
        yield running


@pytest.fixture(scope="module")
def cookies(site):
    return {name: site.cookie(name) for name in ("asa", "clio", "ada")}


@pytest.fixture(autouse=True)
def _empty(site):
    yield
    site.services.uploads.remove_old(time.time() + 48 * 3600)


def stored(site) -> list[str]:
    folder = site.services.settings.home / "uploads"
    return sorted(str(path) for path in folder.rglob("*") if path.is_file() and path.name != ".in-use")


def send(site, cookie: str, content: bytes = QUESTIONS, name: str = "mine.csv") -> httpx.Response:
    return httpx.post(
        f"{site.url}/app/gradio_api/upload",
        files={"files": (name, content)},
        cookies={site.cookie_name: cookie},
        timeout=30,
    )


def raw(site, head: str, body: bytes) -> bytes:
    """Send bytes as they are; return what comes back before the connection ends."""
    host, port = site.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as line:
        with suppress(OSError):  # refused before all of it was sent
            line.sendall(head.encode() + b"\r\n\r\n" + body)
        try:
            return line.recv(65_536)
        except OSError:
            return b""


@pytest.mark.parametrize("said", [True, False])
@pytest.mark.parametrize("path", ["/login", "/logout", "/healthz", "/assets/medx.css", "/nothing"])
def test_nobody_signed_in_sends_more_than_a_form(site, path, said):
    body = b"x" * (2 * SIGNED_OUT_BYTES)
    size = f"content-length: {len(body)}" if said else "transfer-encoding: chunked"
    content = body if said else b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=a\r\n{size}"
    reply = raw(site, head, content)
    assert reply[:12] in {b"HTTP/1.1 413", b"HTTP/1.1 401"}, reply[:200]


def test_a_content_length_that_lies_is_not_believed(site):
    head = "POST /login HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\ntransfer-encoding: chunked"
    body = b"y" * (2 * SIGNED_OUT_BYTES)
    assert b"HTTP/1.1 303" not in raw(site, head, b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n")


def test_a_call_is_limited_and_an_upload_is_not_one(site, cookies):
    event = events(site, cookies["asa"], "ask")[0]
    reply = call(site, cookies["asa"], event, ["x" * SIGNED_IN_BYTES, "verdict", "auto", "both"])
    assert reply.status_code == 413
    assert send(site, cookies["asa"], b"x" * (3 * SMALLEST_BYTES)).status_code == 200


def test_one_person_cannot_fill_the_disk_and_the_next_one_still_has_room(site, cookies):
    replies = [send(site, cookies["asa"], b"x" * (2 * SMALLEST_BYTES)) for _ in range(5)]
    assert [reply.status_code for reply in replies] == [200, 200, 200, 413, 413]
    assert "MEDX_UPLOAD_BYTES_PER_PERSON" in replies[-1].text
    assert send(site, cookies["clio"]).status_code == 200
    kept = sum(path.stat().st_size for path in (site.services.settings.home / "uploads").rglob("*.csv"))
    assert kept <= ROOM


def test_many_small_files_take_the_room_of_large_ones(site, cookies):
    files = [("files", (f"{number}.csv", b"x")) for number in range(100)]
    reply = httpx.post(
        f"{site.url}/app/gradio_api/upload",
        files=files,
        cookies={site.cookie_name: cookies["asa"]},
        timeout=30,
    )
    assert reply.status_code in {200, 413}
    assert send(site, cookies["asa"]).status_code == 413


def test_a_file_that_is_too_large_or_breaks_off_leaves_nothing(site, cookies):
    assert send(site, cookies["asa"], b"x" * (5 * SMALLEST_BYTES)).status_code == 413
    part = b'--a\r\ncontent-disposition: form-data; name="files"; filename="m.csv"\r\n\r\n' + b"x" * 1000
    head = (
        f"POST /app/gradio_api/upload?upload_id=u HTTP/1.1\r\nhost: x\r\ncookie: {site.cookie_name}={cookies['asa']}\r\n"
        "content-type: multipart/form-data; boundary=a\r\ncontent-length: 100000\r\nconnection: close"
    )
    host, port = site.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as line:
        line.sendall(head.encode() + b"\r\n\r\n" + part)
        line.shutdown(socket.SHUT_WR)
        line.recv(4096)
    assert stored(site) == []


@pytest.mark.parametrize("wish", ["gets it", "submits it", "submits it by a detour"])
def test_another_persons_file_is_refused(site, cookies, wish):
    path = send(site, cookies["asa"]).json()[0]
    if wish == "gets it":
        address = f"{site.url}/app/gradio_api/file={path}"
        assert httpx.get(address, cookies={site.cookie_name: cookies["asa"]}).status_code == 200
        for other in ("clio", "ada"):
            reply = httpx.get(address, cookies={site.cookie_name: cookies[other]})
            assert (reply.status_code, b"aspirin" in reply.content) == (403, False)
        return
    uploads = site.services.settings.home / "uploads"
    named = path if wish == "submits it" else f"{uploads}/2/../{os.path.relpath(path, uploads)}"
    before = len(site.services.jobs.recent(limit=1000))
    for name in ("submit_batch", "check_patient_data"):
        event = events(site, cookies["clio"], name)[0]
        reply = call(site, cookies["clio"], event, [named_file(named), "verdict", "auto", "both"])
        assert reply.status_code == 403
    assert len(site.services.jobs.recent(limit=1000)) == before


def test_results_that_were_written_for_one_person_are_not_anothers(site, cookies):
    sent = named_file(send(site, cookies["asa"]).json()[0])
    submit, download = (
        events(site, cookies["asa"], name)[0] for name in ("submit_batch", "download_results")
    )
    job = call(site, cookies["asa"], submit, [sent, "verdict", "auto", "both"]).json()["data"][0]
    written = call(site, cookies["asa"], download, [job]).json()["data"][0]["path"]
    address = f"{site.url}/app/gradio_api/file={written}"
    assert httpx.get(address, cookies={site.cookie_name: cookies["asa"]}).status_code == 200
    assert httpx.get(address, cookies={site.cookie_name: cookies["clio"]}).status_code == 403


@pytest.mark.parametrize(
    "path", ["http://127.0.0.1/x.csv", "https://example.org/x.csv", "/etc/passwd", "x.csv", "/\0", "a" * 5000]
)
def test_a_path_that_no_upload_gave_is_refused(site, cookies, path):
    event = events(site, cookies["asa"], "submit_batch")[0]
    reply = call(site, cookies["asa"], event, [named_file(path), "verdict", "auto", "both"])
    assert reply.status_code == 403
    assert stored(site) == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "process_recording"),
        ("POST", "component_server"),
        ("POST", "vibe-edit"),
        ("POST", "stream/x"),
        ("GET", "deep_link?session_hash=s"),
    ],
)
def test_what_gradio_would_write_beside_uploads_is_not_served(site, cookies, method, path):
    reply = httpx.request(
        method,
        f"{site.url}/app/gradio_api/{path}",
        cookies={site.cookie_name: cookies["asa"]},
        files={"video": ("v.mp4", b"x")} if method == "POST" else None,
    )
    assert reply.status_code == 404
    assert stored(site) == []


# ---- what becomes of them


def someone(number: int = 1) -> Person:
    return Person(number, "asa", Role.ASKER, disabled=False)


def filled(home, *, hours: float = 24.0) -> Uploads:
    uploads = Uploads(Settings(home=home, upload_hours=hours, upload_bytes_per_person=ROOM))
    with uploads.new_folder(someone()) as incoming:
        (incoming.folder / "a.csv").write_bytes(QUESTIONS)
    return uploads


def files(uploads: Uploads) -> list[str]:
    return [path.name for path in uploads.folder.rglob("*.csv")]


def test_files_are_removed_by_their_age(tmp_path):
    uploads = filled(tmp_path, hours=2.0)
    uploads.remove_old(time.time() + 3600)
    assert files(uploads) == ["a.csv"]
    uploads.remove_old(time.time() + 3 * 3600)
    assert files(uploads) == []


def test_the_first_web_process_and_the_last_leave_nothing_but_a_second_one_leaves_files_alone(tmp_path):
    left_by_a_crash = filled(tmp_path)
    (left_by_a_crash.folder / "0123abcd").mkdir()  # as Gradio's own route stored them
    (left_by_a_crash.folder / "0123abcd" / "old.csv").write_bytes(QUESTIONS)

    async def served() -> None:
        first, second = Uploads(Settings(home=tmp_path)), Uploads(Settings(home=tmp_path))
        async with first.kept():
            assert files(first) == []
            filled(tmp_path)
            async with second.kept():
                assert files(first) == ["a.csv"]
            assert files(first) == ["a.csv"]
        assert files(first) == []

    anyio.run(served)


def test_uploads_at_the_same_moment_share_one_limit(tmp_path):
    uploads = Uploads(Settings(home=tmp_path, upload_bytes_per_person=ROOM))
    with uploads.new_folder(someone()) as first, uploads.new_folder(someone()) as second:
        uploads.count(first, ROOM // 2)
        with pytest.raises(NoRoom):
            uploads.count(second, ROOM // 2)
        with pytest.raises(NoRoom), uploads.new_folder(someone()):
            pass
        with uploads.new_folder(someone(2)) as of_another_person:
            uploads.count(of_another_person, ROOM // 2)
