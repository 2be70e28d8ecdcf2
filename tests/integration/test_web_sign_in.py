"""Signing in: how often, from where, and behind a proxy."""

import pytest
from fastapi.testclient import TestClient

from medx_core.jobs.status import JobKind
from tests.databases import at_once
from tests.samples import submission
from tests.web_site import PASSWORD, prepared_services, site_settings
from web.app import build_app, build_routes
from web.following import visible_job
from web.rendering import serve_below

HTML = {"accept": "text/html"}


@pytest.fixture
def services_with(tmp_path):
    made = []

    def make(**given):
        made.append(prepared_services(site_settings(tmp_path / f"home{len(made)}", **given)))
        return made[-1]

    yield make
    for services in made:
        services.database.close()
    serve_below("")


def client_of(services, host="10.1.1.1", *, app=None) -> TestClient:
    return TestClient(
        app or build_routes(services),
        base_url="http://medx.local",
        client=(host, 5000),
        follow_redirects=False,
    )


def sign_in(client, name, password=PASSWORD, **headers) -> int:
    return client.post("/login", data={"name": name, "password": password}, headers=headers).status_code


def test_of_thirty_guesses_at_once_ten_are_tested(services_with, monkeypatch):
    services = services_with(sign_in_attempts_a_minute=10)
    tested = []
    authenticate = services.people.authenticate
    monkeypatch.setattr(
        services.people, "authenticate", lambda *given: tested.append(1) or authenticate(*given)
    )
    client = client_of(services)
    replies = at_once(*(lambda n=n: sign_in(client, " CLIO"[n % 2 :], f"wrong {n}") for n in range(30)))
    assert (replies.count(401), replies.count(429), len(tested)) == (10, 20, 10)


def test_guesses_at_one_name_lock_out_neither_others_behind_the_address_nor_its_owner(services_with):
    services = services_with(sign_in_attempts_a_minute=3)
    owner, guesser, colleague = (client_of(services) for _ in range(3))
    assert sign_in(owner, "clio") == 303
    assert [sign_in(guesser, "clio", "wrong") for _ in range(4)] == [401, 401, 401, 429]
    assert sign_in(colleague, "asa") == 303
    assert sign_in(colleague, "clio") == 429
    assert sign_in(owner, "clio") == 303  # from the browser she signed in with before
    assert [sign_in(owner, "clio", "wrong") for _ in range(4)] == [401, 401, 401, 429]
    assert sign_in(owner, "asa", "wrong") == 401  # her browser is nothing special for other names


def test_names_tried_from_one_address_are_limited_together(services_with):
    services = services_with(sign_in_attempts_a_minute_per_address=5)
    client = client_of(services)
    assert [sign_in(client, f"name {n}", "wrong") for n in range(6)] == [401] * 5 + [429]
    assert sign_in(client_of(services, "10.1.1.2"), "asa") == 303


def test_who_could_not_sign_in_is_in_the_audit_log_but_no_word_that_may_be_a_password(services_with):
    services = services_with(sign_in_attempts_a_minute=2)
    client = client_of(services)
    for name in ("Clio", "Clio", "Clio", "Clio", "my secret word"):
        sign_in(client, name, "another secret")
    acts = [(act.actor, act.action, dict(act.detail)) for act in reversed(services.audit.entries())]
    here = {"address": "10.1.1.1"}
    assert acts == [
        ("clio", "sign in failed", here),
        ("clio", "sign in failed", here),
        ("clio", "sign in refused, too often", here),  # once, not for every further attempt
        ("unknown name", "sign in failed", here),
    ]
    assert services.audit.verify().rows == 4


def test_reading_the_job_of_another_is_noted_once_an_hour(services_with):
    services = services_with()
    asa, ada = (services.people.find(name) for name in ("asa", "ada"))
    job = services.jobs.submit(submission(2, kind=JobKind.BATCH, person_id=asa.id), chunk_rows=32)
    for person in (asa, ada, ada):
        visible_job(services, job.public_id, person)
    acts = [(act.actor, act.action, act.target, dict(act.detail)) for act in services.audit.entries()]
    assert acts == [("ada", "read job of another", f"job {job.public_id}", {"of": "asa"})]


def test_signing_in_often_is_no_failure(services_with):
    client = client_of(services_with(sign_in_attempts_a_minute=2))
    assert [sign_in(client, "asa") for _ in range(5)] == [303] * 5


def address_of(services, name) -> str:
    return services.credentials.of(services.people.find(name))[0].address


def test_only_trusted_proxies_are_believed(services_with):
    services = services_with(trusted_proxies="10.1.1.0/24,fd00::1")
    told = {"x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https"}
    proxied, direct = client_of(services, "10.1.1.1"), client_of(services, "192.0.2.5")
    reply = proxied.post("/login", data={"name": "asa", "password": PASSWORD}, headers=told)
    assert "Secure" in reply.headers["set-cookie"]
    assert address_of(services, "asa") == "203.0.113.9"
    reply = direct.post("/login", data={"name": "clio", "password": PASSWORD}, headers=told)
    assert "Secure" not in reply.headers["set-cookie"]
    assert address_of(services, "clio") == "192.0.2.5"


def test_what_a_client_says_of_itself_through_a_proxy_is_not_taken(services_with):
    """A proxy adds the address it sees behind what it was sent; the last one that is not a proxy counts."""
    services = services_with(trusted_proxies="10.1.1.1")
    assert sign_in(client_of(services), "asa", **{"x-forwarded-for": "1.2.3.4, 203.0.113.9"}) == 303
    assert address_of(services, "asa") == "203.0.113.9"


def test_metrics_are_not_for_whoever_a_proxy_on_this_host_forwards(services_with):
    services = services_with()
    here = client_of(services, "127.0.0.1")
    assert here.get("/metrics").status_code == 200
    assert here.get("/metrics", headers={"x-forwarded-for": "127.0.0.1"}).status_code == 403


def test_other_host_names_are_refused_where_names_are_set(services_with):
    client = client_of(services_with(allowed_hosts="medx.local,*.example.org"))
    assert client.get("/login").status_code == 200
    assert client.get("/login", headers={"host": "a.example.org:8443"}).status_code == 200
    assert client.get("/login", headers={"host": "evil.example"}).status_code == 400


def test_below_a_path_pages_redirects_cookies_and_downloads_stay_there(services_with):
    services = services_with(root_path="/medx")
    app = build_app(services.settings, services)
    for at in ("", "/medx"):  # whether or not the proxy takes the path away
        client = client_of(services, app=app)
        reply = client.get(f"{at}/app/batch?job=1", headers=HTML)
        assert reply.headers["location"] == "/medx/login?next=%2Fapp%2Fbatch%3Fjob%3D1"
        page = client.get(f"{at}/login?next=%2Fapp%2Fbatch").text
        assert 'action="/medx/login"' in page
        assert 'href="/medx/assets/medx.css"' in page
        reply = client.post(f"{at}/login", data={"name": "asa", "password": PASSWORD, "next": "/app/batch"})
        assert reply.headers["location"] == "/medx/app/batch"
        assert "Path=/medx" in reply.headers["set-cookie"]
        signed_in = {"cookie": "; ".join(f"{name}={value}" for name, value in reply.cookies.items())}
        # Gradio would believe the last two from anybody.
        for header in ("accept", "x-forwarded-host", "x-gradio-server"):
            config = client.get(f"{at}/app/config", headers=signed_in | {header: "http://evil.example"})
            assert config.json()["root"] == "http://medx.local/medx/app"
        assert client.get(f"{at}/template.csv", headers=signed_in).status_code == 200
        assert "needs the role admin" in client.get(f"{at}/app/admin", headers=HTML | signed_in).text
        assert client.get(at or "/", headers=signed_in).headers["location"] == "/medx/app/"
