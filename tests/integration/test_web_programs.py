"""What programs may call, through gradio_client, and what they may not."""

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from tests.result_files import read_results
from tests.waiting import until
from tests.web_site import running_site
from web.app import build_pages

PUBLIC = {
    "/ask", "/submit_batch", "/job_status", "/cancel_job", "/download_results", "/next_answer_to_rate", "/save_rating",
    "/my_ratings", "/evaluations", "/evaluation_result", "/check_patient_data",
}  # fmt: skip
HARMLESS = {
    "harm": "none", "likelihood": "low", "consensus": "aligned", "wrong_content": "no", "missing_content": "no",
    "bias": "no",
}  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with running_site(tmp_path_factory.mktemp("web") / "home", questions_a_minute=6) as running:
        yield running


@pytest.fixture(scope="module")
def clients(site):
    made = {
        name: Client(
            f"{site.url}/app", headers={"Cookie": f"{site.cookie_name}={site.cookie(name)}"}, verbose=False
        )
        for name in ("asa", "clio", "ada")
    }
    yield made
    for client in made.values():
        client.close()


def test_exactly_the_documented_endpoints_are_public(clients):
    api = clients["asa"].view_api(return_format="dict", print_info=False)
    assert set(api["named_endpoints"]) == PUBLIC
    assert api["unnamed_endpoints"] == {}


def test_every_event_passes_a_door(site):
    pages = build_pages(site.services)
    behind = [fn for fn in pages.fns.values() if fn.fn is not None]
    assert len(behind) > 30
    assert [fn.name for fn in behind if not hasattr(fn.fn, "medx_role")] == []


def test_no_event_waits_for_a_single_other_one(site):
    pages = build_pages(site.services)
    assert [fn.name for fn in pages.fns.values() if fn.fn is not None and fn.concurrency_limit == 1] == []


def test_one_question_is_answered_in_both_arms(clients):
    answered = clients["asa"].predict(
        "Chest pain is an emergency.", "verdict", "auto", "both", api_name="/ask"
    )
    assert answered["status"] == "answered"
    assert answered["route"]["category"] == "triage"
    assert [answer["arm"] for answer in answered["answers"]] == ["steered", "unsteered"]
    assert answered["answers"][0]["vector"] == "triage v3"


def test_a_chosen_category_wins_over_the_router(clients):
    answered = clients["asa"].predict(
        "Chest pain is an emergency.", "verdict", "literature", "steered", api_name="/ask"
    )
    assert answered["route"]["category"] == "literature"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("  ",), "question is empty"),
        (("x" * 4001,), "at most 4,000 are accepted"),
        (("A question.", "haiku"), "no mode 'haiku'"),
        (("A question.", "verdict", "surgery"), "no category 'surgery'"),
        (("A question.", "verdict", "auto", "left"), "no arm 'left'"),
    ],
)
def test_a_wrong_call_is_answered_with_one_sentence(clients, arguments, words):
    with pytest.raises(AppError, match=words):
        clients["asa"].predict(*arguments, api_name="/ask")


@pytest.mark.parametrize(
    ("endpoint", "argument", "words"),
    [
        ("/ask", None, "The argument question must be text."),
        ("/ask", 5, "The argument question must be text."),
        ("/job_status", {"a": 1}, "The argument job must be text."),
        ("/evaluations", "abc", "The argument limit must be a whole number."),
    ],
)
def test_an_argument_of_another_type_is_answered_with_one_sentence(
    clients, caplog, endpoint, argument, words
):
    with pytest.raises(AppError, match=words):
        clients["asa"].predict(argument, api_name=endpoint)
    assert "page handler failed" not in caplog.text


def test_asking_too_often_is_stopped(clients):
    for _ in range(6):
        clients["ada"].predict("A question.", api_name="/ask")
    with pytest.raises(AppError, match="more than 6 in one minute"):
        clients["ada"].predict("A question.", api_name="/ask")


def test_a_file_comes_back_with_every_row_answered(clients, tmp_path):
    path = tmp_path / "questions.csv"
    path.write_text("question,answer,ward\n" + "".join(f"Pain {n}.,TRUE,w{n}\n" for n in range(1, 21)))
    client = clients["asa"]
    job = client.predict(handle_file(str(path)), api_name="/submit_batch")
    until(lambda: client.predict(job, api_name="/job_status")["status"] == "done")
    status = client.predict(job, api_name="/job_status")
    assert (status["rows"], status["answered"], status["quarantined"]) == (20, 20, 0)
    rows = read_results(tmp_path.__class__(client.predict(job, api_name="/download_results")))
    assert [(row.row, row.arm, row.carried["ward"]) for row in rows[:3]] == [
        (1, "steered", "w1"),
        (1, "unsteered", "w1"),
        (2, "steered", "w2"),
    ]
    assert {row.correct for row in rows if row.arm == "steered"} == {True}


def test_a_refused_file_is_explained_and_nothing_is_queued(clients, site, tmp_path):
    path = tmp_path / "picture.csv"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    before = len(site.services.jobs.recent(limit=1000))
    with pytest.raises(AppError, match=r"image|PNG|picture"):
        clients["asa"].predict(handle_file(str(path)), api_name="/submit_batch")
    assert len(site.services.jobs.recent(limit=1000)) == before


def test_a_job_of_somebody_else_is_not_found(clients, tmp_path):
    path = tmp_path / "questions.csv"
    path.write_text("question\nA question.\n")
    job = clients["clio"].predict(handle_file(str(path)), api_name="/submit_batch")
    for endpoint in ("/job_status", "/download_results", "/cancel_job"):
        with pytest.raises(AppError, match="belongs to another person"):
            clients["asa"].predict(job, api_name=endpoint)
    assert clients["ada"].predict(job, api_name="/job_status")["rows"] == 1


def test_a_rating_is_stored_with_the_seconds_since_the_answer_was_shown(clients):
    client = clients["clio"]
    client.predict("A trial lowers mortality.", "verdict", "auto", "both", api_name="/ask")
    shown = client.predict(api_name="/next_answer_to_rate")
    assert not {"arm", "model", "vector", "score"} & set(shown)
    form = HARMLESS | ({"urgency": "right"} if shown["asks_urgency"] else {})
    saved = client.predict(shown["note"], form, api_name="/save_rating")
    assert saved["stored"] is True
    mine = client.predict(api_name="/my_ratings")[0]
    assert (mine["id"], mine["answer"], mine["form"]["harm"]) == (saved["id"], shown["answer"], "none")
    with pytest.raises(AppError, match="rated this answer before"):
        client.predict(shown["note"], form, api_name="/save_rating")


def test_an_incomplete_rating_is_refused(clients):
    shown = clients["ada"].predict(api_name="/next_answer_to_rate")
    with pytest.raises(AppError, match="Choose the extent of harm"):
        clients["ada"].predict(shown["note"], {"bias": "no"}, api_name="/save_rating")


def test_an_asker_may_not_rate(clients):
    with pytest.raises(AppError, match="needs the role clinician; yours is asker"):
        clients["asa"].predict(api_name="/next_answer_to_rate")


def test_a_hidden_handler_refuses_whoever_calls_it_by_number(site):
    config = httpx.get(f"{site.url}/app/config", cookies={site.cookie_name: site.cookie("asa")}).json()
    add = next(event["id"] for event in config["dependencies"] if event["api_name"] == "add")
    reply = httpx.post(
        f"{site.url}/app/gradio_api/run/predict",
        json={"fn_index": add, "data": ["mallory", "admin"], "session_hash": "s"},
        cookies={site.cookie_name: site.cookie("asa")},
    )
    assert reply.status_code in {404, 500}
    assert "mallory" not in {person.name for person in site.services.people.list()}


def test_a_role_taken_away_counts_from_the_next_call_on(site, clients):
    people = site.services.people
    client = clients["clio"]
    client.predict(api_name="/my_ratings")
    from medx_core.storage.people import Role

    people.set_role("clio", Role.ASKER)
    try:
        with pytest.raises(AppError, match="needs the role clinician"):
            client.predict(api_name="/my_ratings")
    finally:
        people.set_role("clio", Role.CLINICIAN)
