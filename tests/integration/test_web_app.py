"""The application without a browser: signing in and out, who reaches what, and what stands open."""

import re

import httpx
import pytest
from fastapi.testclient import TestClient

from medx_core.jobs.status import JobKind
from medx_core.storage.credentials import Visitor
from tests.samples import submission
from tests.waiting import until
from tests.web_site import PASSWORD, prepared_services, site_settings
from web.app import build_app

HTML = {"accept": "text/html"}


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    made = prepared_services(
        site_settings(tmp_path_factory.mktemp("web") / "home", sign_in_attempts_a_minute=4)
    )
    yield made
    made.database.close()


@pytest.fixture(scope="module")
def app(services):
    return build_app(services.settings, services)


@pytest.fixture
def client(app):
    return TestClient(app, base_url="http://medx.local", follow_redirects=False)


def sign_in(client: TestClient, name: str, password: str = PASSWORD) -> httpx.Response:
    return client.post("/login", data={"name": name, "password": password})


def visitor_of(client: TestClient, services) -> Visitor:
    return services.sessions.visitor(client.cookies[services.sessions.cookie_name])


@pytest.mark.parametrize(
    "path", ["/app/", "/app/batch", "/app/admin", "/jobs/x/results.csv", "/template.csv", "/nothing"]
)
def test_nobody_gets_past_the_sign_in_page(client, path):
    reply = client.get(path, headers=HTML)
    assert reply.status_code == 303
    assert reply.headers["location"].startswith("/login?next=")


@pytest.mark.parametrize(
    "path", ["/app/config", "/app/gradio_api/info", "/app/gradio_api/queue/data", "/app/theme.css"]
)
def test_programs_without_a_session_are_refused(client, path):
    assert client.get(path).status_code == 401


def test_uploads_without_a_session_are_refused(client):
    reply = client.post("/app/gradio_api/upload", files={"files": ("a.csv", b"question\nx\n")})
    assert reply.status_code == 401


def test_signing_in_leads_to_the_page_that_was_asked_for(client):
    reply = client.post("/login", data={"name": "asa", "password": PASSWORD, "next": "/app/batch?job=1"})
    assert (reply.status_code, reply.headers["location"]) == (303, "/app/batch?job=1")
    assert client.get("/app/batch", headers=HTML).status_code == 200


def test_the_session_cookie_is_out_of_reach_of_scripts_and_other_sites(client):
    cookie = sign_in(client, "asa").headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Max-Age=43200" in cookie


def test_over_https_the_cookie_is_secure(app):
    client = TestClient(app, base_url="https://medx.local", follow_redirects=False)
    assert "Secure" in sign_in(client, "asa").headers["set-cookie"]


def test_a_wrong_password_is_refused_in_one_sentence(client):
    reply = sign_in(client, "asa", "wrong horse!")
    assert reply.status_code == 401
    assert "do not match an active account" in reply.text
    assert "medx_session" not in reply.headers.get("set-cookie", "")


def test_too_many_wrong_passwords_are_stopped_even_before_the_right_one(tmp_path):
    services = prepared_services(site_settings(tmp_path / "home", sign_in_attempts_a_minute=4))
    client = TestClient(build_app(services.settings, services), follow_redirects=False)
    tries = [sign_in(client, "clio", f"wrong horse {n}").status_code for n in range(5)]
    assert tries == [401, 401, 401, 401, 429]
    assert sign_in(client, "clio").status_code == 429


def test_a_post_from_another_site_is_refused(client):
    sign_in(client, "asa")
    reply = client.post("/logout", headers={"origin": "http://evil.example"})
    assert reply.status_code == 403
    assert client.get("/app/", headers=HTML).status_code == 200


def test_signing_out_needs_the_token_of_this_session(client, services):
    sign_in(client, "asa")
    assert client.post("/logout", data={"token": "guess"}).status_code == 403
    assert client.get("/logout").status_code == 405
    token = services.sessions.form_token(visitor_of(client, services))
    copied = dict(client.cookies)
    assert client.post("/logout", data={"token": token}).headers["location"] == "/login"
    assert client.get("/app/", headers=HTML).status_code == 303
    client.cookies.update(copied)
    assert client.get("/app/", headers=HTML).status_code == 303
    assert services.audit.entries(limit=1)[0].action == "sign out"


def test_two_installations_on_one_host_with_one_secret_know_nothing_of_each_other(tmp_path):
    both = [
        prepared_services(site_settings(tmp_path / name, session_secret="copied")) for name in ("one", "two")
    ]
    first, second = (
        TestClient(build_app(each.settings, each), base_url="http://medx.local", follow_redirects=False)
        for each in both
    )
    sign_in(first, "ada")
    second.cookies.update(first.cookies)
    assert second.get("/app/", headers=HTML).status_code == 303
    sign_in(second, "asa")
    assert len(second.cookies) == 4  # two sessions, two known browsers
    first.cookies.update(second.cookies)
    for client, services, name in ((first, both[0], "ada"), (second, both[1], "asa")):
        assert visitor_of(client, services).name == name
        services.database.close()


def test_every_page_states_a_policy_that_keeps_it_on_this_host(client):
    sign_in(client, "asa")
    headers = client.get("/app/", headers=HTML).headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"


def test_pages_name_no_other_host(client):
    sign_in(client, "asa")
    for text in (client.get("/login").text, client.get("/app/", headers=HTML).text):
        hosts = set(re.findall(r"""(?:src|href)=["']https?://([^/"']+)""", text))
        assert hosts <= {"medx.local"}


@pytest.mark.parametrize(
    ("name", "page", "needed"),
    [
        ("asa", "admin", "admin"),
        ("asa", "review", "clinician"),
        ("clio", "admin", "admin"),
        ("asa", "admin/", "admin"),
    ],
)
def test_a_page_for_another_role_is_one_sentence_and_a_way_back(client, name, page, needed):
    sign_in(client, name)
    reply = client.get(f"/app/{page}", headers=HTML)
    assert reply.status_code == 403
    assert f"needs the role {needed}; yours is" in reply.text
    assert '<a href="/app/">' in reply.text
    assert "gradio" not in reply.text


@pytest.mark.parametrize(
    ("name", "page"), [("asa", "results"), ("clio", "review"), ("ada", "admin"), ("ada", "review")]
)
def test_a_page_one_may_use_is_served(client, name, page):
    sign_in(client, name)
    assert client.get(f"/app/{page}", headers=HTML).status_code == 200


def test_files_of_the_machine_are_out_of_reach(client):
    sign_in(client, "asa")
    for path in ("/etc/passwd", "/proc/self/environ"):
        assert client.get(f"/app/gradio_api/file={path}").status_code in {403, 404}


def test_the_key_of_the_sessions_is_out_of_reach(client, services):
    sign_in(client, "ada")
    reply = client.get(f"/app/gradio_api/file={services.settings.home / 'session.key'}")
    assert reply.status_code in {403, 404}


def test_health_is_open_and_says_whether_a_worker_was_seen(client, services):
    assert client.get("/healthz").json()["ok"] is False
    services.health.beat("w1", "worker")
    health = client.get("/healthz").json()
    assert (health["ok"], health["database"], health["workers"]) == (True, True, 1)
    assert health["limits"] == "per process"


def test_a_web_process_is_on_the_health_page_from_its_start_to_its_end(services):
    with TestClient(build_app(services.settings, services)):
        until(lambda: services.health.processes(kind="web"))
    assert services.health.processes(kind="web") == ()


def test_metrics_are_for_this_host(services, client):
    here = TestClient(build_app(services.settings, services), client=("127.0.0.1", 5000))
    assert client.get("/metrics").status_code == 403
    assert 'medx_waiting_questions{queue="interactive"}' in here.get("/metrics").text


def test_results_are_for_their_owner_and_administrators(app, services):
    owner = services.people.find("asa")
    job = services.jobs.submit(
        submission(2, kind=JobKind.BATCH, person_id=owner.id, title="=1+1.csv"), chunk_rows=32
    )
    seen = {}
    for name in ("asa", "ada"):
        client = TestClient(app)
        sign_in(client, name)
        seen[name] = client.get(f"/jobs/{job.public_id}/results.csv")
    assert seen["asa"].text == seen["ada"].text
    lines = seen["asa"].text.splitlines()
    assert lines[0].startswith("row,id,question,category,category_probability,route_source,arm,")
    assert len(lines) == 1 + 2 * 2
    services.people.add("other", services.people.find("asa").role, PASSWORD)
    client = TestClient(app)
    sign_in(client, "other")
    assert client.get(f"/jobs/{job.public_id}/results.csv").status_code == 404
    assert client.get("/jobs/nothing/results.csv").status_code == 404


def test_the_template_can_be_read_back_as_questions(client, tmp_path, services):
    sign_in(client, "asa")
    path = tmp_path / "template.csv"
    path.write_bytes(client.get("/template.csv").content)
    from web.submission import read_upload

    file = read_upload(services, str(path))
    assert not file.refused
    assert not file.problems


def test_uploads_lie_in_a_private_folder(app, services):
    assert app is not None
    assert (services.settings.home / "uploads").stat().st_mode & 0o777 == 0o700
