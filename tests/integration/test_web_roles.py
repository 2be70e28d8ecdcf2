"""Every endpoint of the real application with the least that it needs: a new one without an entry here fails."""

import re
from collections.abc import Iterator

import gradio as gr
import pytest
from fastapi.testclient import TestClient

from medx_core.storage.account_rules import generated_password
from medx_core.storage.credentials import Scope, new_link, new_token
from medx_core.storage.people import Role
from tests.databases import at_once
from tests.web_site import PASSWORD, PEOPLE, prepared_services, site_settings
from web.access import CACHEABLE_PATHS
from web.app import build_app
from web.handler_guard import RANK
from web.wording import SIGN_IN_FIRST

HTML = {"accept": "text/html"}
ANYBODY, ASKER, CLINICIAN, ADMIN = "anybody", Role.ASKER, Role.CLINICIAN, Role.ADMIN

ROUTES = {
    "GET /": ASKER,
    "GET /favicon.ico": ANYBODY,
    "GET /login": ANYBODY,
    "POST /login": ANYBODY,
    "POST /logout": ASKER,
    "GET /link": ANYBODY,
    "POST /link": ANYBODY,
    "GET /healthz": ANYBODY,
    "GET /metrics": ANYBODY,  # of this host; see test_web_app
    "GET /jobs/{public_id}/results.csv": ASKER,
    "GET /evaluations/{public_id}/{file}": ASKER,
    "GET /template.csv": ASKER,
    "POST /app/gradio_api/upload": ASKER,
    "MOUNT /assets": ANYBODY,
    "MOUNT /app": ASKER,
}
PAGES = {"": ASKER, "batch": ASKER, "results": ASKER, "account": ASKER, "review": CLINICIAN, "admin": ADMIN}
API = {
    "ask": (ASKER, Scope.ASK),
    "submit_batch": (ASKER, Scope.ASK),
    "check_patient_data": (ASKER, Scope.ASK),
    "cancel_job": (ASKER, Scope.ASK),
    "job_status": (ASKER, Scope.READ),
    "download_results": (ASKER, Scope.READ),
    "evaluations": (ASKER, Scope.READ),
    "evaluation_result": (ASKER, Scope.READ),
    "next_answer_to_rate": (CLINICIAN, Scope.RATE),
    "save_rating": (CLINICIAN, Scope.RATE),
    "my_ratings": (CLINICIAN, Scope.RATE),
}
EVENTS = {  # events of pages, for people alone, by the name of their handler
    "": {
        ASKER: "show_header show_line submit submit_masked submit_as_it_is submit_again watch list_recent cancel "
        "fill restore"
    },
    "batch": {ASKER: "show_header show_line check run show first before after cancel open_page"},
    "review": {ASKER: "show_header", CLINICIAN: "open save cannot_judge skip"},
    "results": {
        ASKER: "show_header open show follow began",
        ADMIN: "choose_source choose_sizes look start cancel",
    },
    "admin": {
        ASKER: "show_header",
        ADMIN: "show_health make_link of end end_every show add set_role reset_password switch show_failed try_again "
        "try_all_again ask act put_off choices submit watch",
    },
    "account": {ASKER: "show_header make_token own end_own end_own_others change_password"},
}


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    made = prepared_services(site_settings(tmp_path_factory.mktemp("web") / "home"))
    yield made
    made.database.close()


@pytest.fixture(scope="module")
def app(services):
    return build_app(services.settings, services)


def endpoints(routes) -> Iterator[str]:
    """Every method and path; FastAPI keeps routers that were included as they are."""
    for route in routes:
        if hasattr(route, "original_router"):
            yield from endpoints(route.original_router.routes)
        else:
            for method in getattr(route, "methods", None) or ["MOUNT"]:
                yield f"{method} {route.path}"


def client_of(app, headers=None) -> TestClient:
    return TestClient(app, base_url="http://medx.local", follow_redirects=False, headers=headers or {})


def signed_in(app, name: str) -> TestClient:
    client = client_of(app)
    assert client.post("/login", data={"name": name, "password": PASSWORD}).status_code == 303
    return client


def without_placeholders(path: str) -> str:
    return re.sub(r"{[^}]*}", "x", path)


def test_every_route_has_an_entry(app):
    assert set(endpoints(app.routes)) - {"HEAD /assets"} == set(ROUTES)


def test_nobody_reaches_a_route_that_needs_a_session(app):
    client = client_of(app)
    (pages,) = (route for route in app.routes if getattr(route, "path", "") == "/app")
    of_gradio = {endpoint.replace(" /", " /app/", 1): ASKER for endpoint in endpoints(pages.app.routes)}
    assert len(of_gradio) > 40
    wrong = {}
    for endpoint, needed in (ROUTES | of_gradio).items():
        method, path = endpoint.split(" ")
        path = f"{path}/x" if method == "MOUNT" else without_placeholders(path)
        reply = client.request("GET" if method == "MOUNT" else method, path)
        is_open = needed is ANYBODY or path.startswith(CACHEABLE_PATHS)
        if (reply.status_code == 401) is is_open:
            wrong[endpoint] = reply.status_code
    assert wrong == {}


@pytest.mark.parametrize(("name", "role"), PEOPLE.items())
def test_pages_are_for_their_role_and_above(app, name, role):
    client = signed_in(app, name)
    for page, needed in PAGES.items():
        allowed = RANK[role] >= RANK[needed]
        assert (client.get(f"/app/{page}", headers=HTML).status_code == 200) is allowed, page


def handlers(app):
    (pages,) = (route for route in app.routes if getattr(route, "path", "") == "/app")
    return [fn for fn in pages.app.get_blocks().fns.values() if fn.fn is not None]


def test_every_event_and_endpoint_of_the_pages_has_an_entry_and_its_role(app):
    expected = {
        (page, name, role, None)
        for page, roles in EVENTS.items()
        for role, names in roles.items()
        for name in names.split()
    } | {("", name, role, scope) for name, (role, scope) in API.items()}
    actual = {
        (
            fn.page,
            fn.api_name if fn.api_visibility == "public" else fn.fn.__name__,
            fn.fn.__dict__["medx_role"],
            fn.fn.__dict__["medx_scope"],
        )
        for fn in handlers(app)
    }
    assert actual == expected


EMPTY = {gr.CheckboxGroup: [], gr.Slider: 1}  # of all other components None


def refusal_of(client, fn) -> str:
    """What a caller reads; an endpoint refuses before it looks at its arguments."""
    reply = client.post(
        f"/app/gradio_api/run/{fn.api_name}",
        json={"data": [EMPTY.get(type(each)) for each in fn.inputs], "fn_index": fn._id, "session_hash": "s"},
    )
    return str(reply.json().get("error") or reply.json().get("detail") or "")


def test_an_asker_and_a_clinician_are_refused_by_each_event_above_their_role(app):
    for name, role in (("asa", ASKER), ("clio", CLINICIAN)):
        client = signed_in(app, name)
        for fn in handlers(app):
            if RANK[fn.fn.__dict__["medx_role"]] > RANK[role]:
                assert "needs the role" in refusal_of(client, fn), fn.api_name


def test_a_token_opens_what_it_is_for_as_far_as_its_person_may_and_nothing_else(app, services):
    for scope in Scope:
        token = new_token(
            services.credentials, services.people.find("ada"), title="t", scopes=[scope], days=1
        )
        client = client_of(app, {"authorization": f"Bearer {token}"})
        for fn in handlers(app):
            needed = fn.fn.__dict__["medx_scope"]
            if needed is not scope:
                expected = "token is for programs" if needed is None else f"needs the scope {needed.value}"
                assert expected in refusal_of(client, fn), fn.api_name
        assert client.get("/jobs/x/results.csv").status_code == (404 if scope is Scope.READ else 403)
    assert refusal_of(client_of(app, {"authorization": "Bearer guess"}), handlers(app)[0]) == SIGN_IN_FIRST
    rater = new_token(services.credentials, services.people.find("asa"), title="t", scopes=["rate"], days=1)
    mine = next(fn for fn in handlers(app) if fn.api_name == "my_ratings")
    assert "needs the role" in refusal_of(client_of(app, {"authorization": f"Bearer {rater}"}), mine)
    services.people.disable("asa")
    assert refusal_of(client_of(app, {"authorization": f"Bearer {rater}"}), mine) == SIGN_IN_FIRST
    services.people.enable("asa")


def test_a_one_time_link_sets_one_good_password_once(app, services):
    services.people.add("noor", ASKER, generated_password("noor"))
    key, client = new_link(services.credentials, services.people.find("noor"), hours=1), client_of(app)
    form = {"key": key, "password": "three tin rabbits", "again": "three tin rabbits"}
    for _ in range(2):  # looking at it does not use it up
        assert "Choose a password for noor" in client.get(f"/link?key={key}").text
    for change, fault in (
        ({"again": "other"}, "differ"),
        ({"password": "password12", "again": "password12"}, "too easy"),
    ):
        reply = client.post("/link", data=form | change)
        assert (reply.status_code, fault in reply.text) == (400, True)
    replies = at_once(*(lambda: client_of(app).post("/link", data=form).status_code for _ in range(3)))
    assert sorted(replies) == [303, 410, 410]
    assert client.get(f"/link?key={key}").status_code == 410
    assert services.people.authenticate("noor", "three tin rabbits") is not None
