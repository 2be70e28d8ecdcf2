"""What callers may hand in: files they name, cookies of other programs on the same host, very long words."""

import httpx
import pytest

from medx_core.data.result_files import template_csv
from medx_core.jobs.status import JobKind
from tests.samples import submission
from tests.web_site import running_site
from web.tabs.batch import JobHandlers


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with running_site(tmp_path_factory.mktemp("web") / "home") as running:
        yield running


@pytest.fixture(scope="module")
def cookies(site):
    return {name: site.cookie(name) for name in ("asa", "ada")}


def call(site, cookie: str, event: dict, data: list) -> httpx.Response:
    """Call an event as the page does: by its number, with a session of its own."""
    return httpx.post(
        f"{site.url}/app/gradio_api/run/{event['api_name']}",
        json={"data": data, "fn_index": event["id"], "session_hash": "s"},
        cookies={site.cookie_name: cookie},
        timeout=30,
    )


def events(site, cookie: str, name: str) -> list[dict]:
    matches = []
    for page in ("", "batch", "results"):
        config = httpx.get(f"{site.url}/app/config?page={page}", cookies={site.cookie_name: cookie}).json()
        matches += [event for event in config["dependencies"] if event["api_name"] == name]
    assert matches, f"no event is called {name}"
    return matches[:1]


def uploads(site) -> set[str]:
    return {str(path) for path in (site.services.settings.home / "uploads").rglob("*") if path.is_file()}


def named_file(path: object) -> dict:
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}}


@pytest.mark.parametrize(
    ("name", "event", "rest"),
    [
        ("asa", "submit_batch", ["verdict", "auto", "both"]),
        ("asa", "check", ["verdict"]),
        ("ada", "look", ["", None, None, None, 1, "gated", []]),
        ("ada", "start", ["", None, None, None, 1, "gated", []]),
    ],
)
def test_a_file_of_this_machine_is_never_read_for_a_caller(site, cookies, tmp_path, name, event, rest):
    secret = tmp_path / "secret.csv"
    secret.write_text("statement,question,answer\nA patient of mine has gout.,Gout?,TRUE\n")
    first = ["file"] if name == "ada" else []
    before, jobs = uploads(site), len(site.services.jobs.recent(limit=1000))
    for handler in events(site, cookies[name], event):
        reply = call(site, cookies[name], handler, [*first, named_file(secret), *rest])
        assert "gout" not in reply.text.lower()
        assert reply.status_code >= 400 or reply.json().get("error")
    assert uploads(site) == before
    assert len(site.services.jobs.recent(limit=1000)) == jobs


def test_a_real_upload_is_taken_and_its_results_come_back(site, cookies):
    reply = httpx.post(
        f"{site.url}/app/gradio_api/upload",
        files={"files": ("mine.csv", template_csv().encode())},
        cookies={site.cookie_name: cookies["asa"]},
    )
    uploaded = named_file(reply.json()[0])
    event = events(site, cookies["asa"], "submit_batch")[0]
    job = call(site, cookies["asa"], event, [uploaded, "verdict", "auto", "both"]).json()["data"][0]
    assert site.services.jobs.get(job).progress.total > 0
    event = events(site, cookies["asa"], "download_results")[0]
    written = call(site, cookies["asa"], event, [job]).json()["data"][0]
    assert written["path"].endswith(".csv")


@pytest.mark.parametrize("foreign", ['foo={"a":1}', "a[b]=1", "x=é"])
def test_a_cookie_of_another_program_signs_nobody_out(site, cookies, foreign):
    header = f"{foreign}; {site.cookie_name}={cookies['asa']}".encode("latin-1")
    reply = httpx.get(f"{site.url}/app/config", headers={b"cookie": header})
    assert reply.status_code == 200


def test_a_very_long_search_finds_nothing_and_breaks_nothing(site):
    person = site.services.people.find("asa")
    job = site.services.jobs.submit(submission(2, kind=JobKind.BATCH, person_id=person.id), chunk_rows=32)
    shown = JobHandlers(site.services).show(person, job.public_id, "x%" * 30_000, "", 0)
    assert "No rows match." in shown[3]
