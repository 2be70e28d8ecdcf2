import pytest
from argon2 import PasswordHasher
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from medx_core.errors import BadInput
from medx_core.storage.people import PersonStore, Role
from tests.web_site import site_settings
from web.access import safe_next, same_origin
from web.rating_tokens import RatingTokens
from web.session import Sessions, session_secret


@pytest.fixture
def people(sqlite_database):
    store = PersonStore(sqlite_database, hasher=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    store.add("asa", Role.ASKER, "correct horse")
    store.add("ada", Role.ADMIN, "correct horse")
    return store


@pytest.fixture
def sessions(people):
    return Sessions("secret", hours=1, people=people)


def test_a_cookie_leads_back_to_its_person(people, sessions):
    assert sessions.person(sessions.issue(people.find("asa"))) == people.find("asa")


def test_a_cookie_that_was_changed_or_signed_elsewhere_leads_nowhere(people, sessions):
    cookie = sessions.issue(people.find("asa"))
    elsewhere = Sessions("another secret", hours=1, people=people).issue(people.find("asa"))
    assert sessions.person(cookie[:-2] + "xx") is None
    assert sessions.person(elsewhere) is None
    assert sessions.person("") is None


def test_an_expired_cookie_leads_nowhere(people):
    sessions = Sessions("secret", hours=-1, people=people)
    assert sessions.person(sessions.issue(people.find("asa"))) is None


def test_a_new_password_ends_every_session(people, sessions):
    cookie = sessions.issue(people.find("asa"))
    people.reset_password("asa", "another horse")
    assert sessions.person(cookie) is None


def test_disabling_somebody_ends_every_session(people, sessions):
    cookie = sessions.issue(people.find("asa"))
    people.disable("asa")
    assert sessions.person(cookie) is None


def test_the_token_of_a_form_belongs_to_one_session(people, sessions):
    asa, ada = people.find("asa"), people.find("ada")
    assert sessions.owns_form(asa, sessions.form_token(asa))
    assert not sessions.owns_form(asa, sessions.form_token(ada))
    assert not sessions.owns_form(asa, "")


def test_the_key_under_home_is_private_and_kept(tmp_path):
    settings = site_settings(tmp_path / "home")
    secret = session_secret(settings)
    assert len(secret) > 40
    assert session_secret(settings) == secret
    assert (tmp_path / "home" / "session.key").stat().st_mode & 0o777 == 0o600


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
    shown = RatingTokens("secret", hours=1)
    token = shown.issue(7, "answer")
    answer_id, seconds = shown.read(token, 7)
    assert answer_id == "answer"
    assert seconds >= 0
    with pytest.raises(BadInput, match="another person"):
        shown.read(token, 8)
    with pytest.raises(BadInput, match="too long ago"):
        shown.read(token + "x", 7)
