import asyncio
import itertools
from functools import partial
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers
from starlette.responses import StreamingResponse
from starlette.testclient import TestClient

from medx_core.clock import utc_now
from medx_core.errors import BadInput
from medx_core.storage.credentials import CredentialStore
from medx_core.storage.engine import Database
from medx_core.storage.installation import installation_id
from medx_core.storage.people import PersonStore, Role
from tests.databases import at_once
from tests.web_site import site_settings
from web.access import AccessControl, safe_next, same_origin
from web.rating_tokens import RatingTokens
from web.session import Sessions, session_secret


@pytest.fixture
def people(sqlite_database):
    store = PersonStore(sqlite_database, hasher=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    store.add("asa", Role.ASKER, "correct horse")
    store.add("ada", Role.ADMIN, "correct horse")
    return store


def sessions_of(database, clock=utc_now):
    credentials = CredentialStore(database, clock=clock)
    return Sessions("secret", credentials, installation=installation_id(database), hours=1, idle_minutes=30)


@pytest.fixture
def sessions(sqlite_database, clock):
    return sessions_of(sqlite_database, clock)


def test_a_cookie_leads_back_to_its_person_and_nothing_of_it_is_stored(people, sessions, sqlite_database):
    cookie = sessions.open(people.find("asa"), browser="Firefox", address="10.0.0.7")
    visitor = sessions.visitor(cookie)
    assert (visitor.name, visitor.role) == ("asa", Role.ASKER)
    assert (visitor.credential.title, visitor.credential.address) == ("Firefox", "10.0.0.7")
    assert cookie.encode() not in Path(sqlite_database._url.database).read_bytes()
    for other in (cookie[:-2] + "xx", cookie + "x", "", "\ud800"):
        assert sessions.visitor(other) is None


def test_a_session_ends_when_idle_and_at_last_however_much_it_is_used(people, sessions, clock):
    cookie = sessions.open(people.find("asa"))
    for _ in range(3):
        clock.advance(19 * 60)
        assert sessions.visitor(cookie) is not None
    clock.advance(3 * 60 + 1)  # an hour after it began, three minutes after its last use
    assert sessions.visitor(cookie) is None
    idle = sessions.open(people.find("asa"))
    clock.advance(29 * 60)
    assert sessions.visitor(idle, attended=False) is not None
    clock.advance(60)
    assert sessions.visitor(idle, attended=False) is None


def test_a_session_that_was_ended_is_over_for_its_cookie_everywhere(people, sessions, sqlite_database, clock):
    cookie, other = (sessions.open(people.find("asa")) for _ in range(2))
    visitor = sessions.visitor(cookie)
    sessions.end(visitor)
    sessions.end(visitor)
    assert sessions.visitor(cookie) is None
    assert sessions.still(visitor) is None
    assert sessions_of(sqlite_database, clock).visitor(cookie) is None
    assert sessions_of(sqlite_database, clock).visitor(other) is not None


@pytest.mark.parametrize(
    "act",
    [lambda people: people.disable("asa"), lambda people: people.reset_password("asa", "another horse")],
)
def test_disabling_somebody_and_a_new_password_end_every_session_of_theirs_alone(people, sessions, act):
    asas, adas = (sessions.open(people.find(name)) for name in ("asa", "ada"))
    act(people)
    people.enable("asa")
    assert sessions.visitor(asas) is None
    assert sessions.visitor(adas) is not None


def test_a_role_taken_away_counts_at_once(people, sessions):
    visitor = sessions.visitor(sessions.open(people.find("asa")))
    people.set_role("asa", Role.CLINICIAN)
    assert sessions.still(visitor).role is Role.CLINICIAN


def test_the_token_of_a_form_belongs_to_one_session_of_one_installation(people, sessions, tmp_path):
    asa, again, ada = (sessions.visitor(sessions.open(people.find(name))) for name in ("asa", "asa", "ada"))
    assert sessions.owns_form(asa, sessions.form_token(asa))
    other = Database(f"sqlite:///{tmp_path}/other.sqlite3")
    other.upgrade()
    elsewhere = sessions_of(other)  # the same secret, copied
    other.close()
    for token in (sessions.form_token(ada), sessions.form_token(again), elsewhere.form_token(asa), "", "x.y"):
        assert not sessions.owns_form(asa, token)
    assert elsewhere.cookie_name != sessions.cookie_name


def test_all_processes_of_an_installation_know_it_by_one_id(sqlite_database):
    ids = at_once(*(partial(installation_id, sqlite_database) for _ in range(4)))
    assert len(set(ids)) == 1
    assert len(ids[0]) == 32


def test_the_key_under_home_is_private_and_kept(tmp_path):
    settings = site_settings(tmp_path / "home")
    secret = session_secret(settings)
    assert len(secret) > 40
    assert session_secret(settings) == secret
    assert (tmp_path / "home" / "session.key").stat().st_mode & 0o777 == 0o600


def test_a_stream_of_events_ends_soon_after_its_session(people, sessions):
    """Nobody reads on who was signed out, whatever the application goes on sending."""
    cookie = sessions.open(people.find("asa"))
    visitor = sessions.visitor(cookie)

    async def endless():
        for count in itertools.count():
            if count == 3:
                sessions.end(visitor)
            yield f"data: {count}\n\n"
            await asyncio.sleep(0.005)

    async def app(scope, receive, send):
        await StreamingResponse(endless(), media_type="text/event-stream")(scope, receive, send)

    access = AccessControl(app, sessions=sessions, look_again_seconds=0.01)
    client = TestClient(access, cookies={sessions.cookie_name: cookie})
    reply = client.get("/app/stream")
    assert reply.text.startswith("data: 0")
    assert reply.headers["x-accel-buffering"] == "no"
    assert client.get("/app/stream").status_code == 401


@given(st.text())
def test_after_signing_in_nobody_is_sent_to_another_site(address):
    target = safe_next(address)
    assert target.startswith("/app")
    assert "//" not in target
    assert "\\" not in target


@pytest.mark.parametrize(
    "address", ["https://evil.example/app", "//evil.example", "/app//evil.example", "/app\\evil"]
)
def test_addresses_elsewhere_become_the_first_page(address):
    assert safe_next(address) == "/app/"


def test_an_address_of_ours_is_kept():
    assert safe_next("/app/batch?job=abc") == "/app/batch?job=abc"


@pytest.mark.parametrize(
    ("headers", "ours"),
    [
        ({"host": "medx:7860", "origin": "http://medx:7860"}, True),
        ({"host": "medx:7860", "origin": "http://evil.example"}, False),
        ({"host": "medx:7860", "origin": "null"}, False),
        ({"host": "medx:7860"}, True),
        ({"host": "medx:7860", "sec-fetch-site": "cross-site"}, False),
    ],
)
def test_requests_from_other_sites_are_told_apart(headers, ours):
    assert same_origin(Headers(headers)) is ours


def test_a_shown_answer_is_rated_only_by_whom_it_was_shown_to():
    shown = RatingTokens("secret", installation="a", hours=1)
    token = shown.issue(7, "answer")
    answer_id, seconds = shown.read(token, 7)
    assert answer_id == "answer"
    assert seconds >= 0
    with pytest.raises(BadInput, match="another person"):
        shown.read(token, 8)
    with pytest.raises(BadInput, match="too long ago"):
        shown.read(token + "x", 7)
