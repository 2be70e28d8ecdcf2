"""Evaluations through the web without a browser: who may do what, what is refused before it is queued, downloads."""

import os
from dataclasses import replace

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from medx_core.categories import Category
from medx_core.errors import BadInput
from medx_core.evaluation.request import EvaluationRequest
from medx_core.evaluation.sentences import NOT_EVALUATED
from medx_core.questions import Answer, Arm
from medx_core.storage.vectors import PAPER_PRESET, VectorRecord
from tests.evaluation_results import finished_run, synthetic_result
from tests.small_evaluation import write_statements
from tests.web_site import running_site
from web.evaluations import StartForm, checked, start
from web.evidence import OF_VERDICTS, OTHER_PROMPT
from web.session import COOKIE

KIND = "evaluation"
BUNDLED = StartForm("bundled", None, "", None, None, None, 1, "gated", [])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with running_site(tmp_path_factory.mktemp("web") / "home") as running:
        yield running


@pytest.fixture
def services(site):
    return site.services


@pytest.fixture
def finished(services):
    return finished_run(services.runs, EvaluationRequest("invented.csv"), synthetic_result())


def test_programs_read_evaluations(site, finished):
    client = Client(f"{site.url}/app", headers={"Cookie": f"{COOKIE}={site.cookie('asa')}"}, verbose=False)
    try:
        newest = client.predict(5, api_name="/evaluations")[0]
        assert (newest["run"], newest["status"]) == (finished.public_id, "done")
        assert newest["summary"]["conclusion"] == finished.result["conclusion"]
        whole = client.predict(finished.public_id, api_name="/evaluation_result")
        assert whole["arms"]["gated"]["accuracy"] == finished.result["arms"]["gated"]["accuracy"]
        with pytest.raises(AppError, match="no run under this id"):
            client.predict("nothing", api_name="/evaluation_result")
    finally:
        client.close()


def test_downloads_are_files_for_whoever_is_signed_in(site, finished, services):
    unfinished = services.runs.request(KIND, EvaluationRequest("x.csv").as_json(), requested_by="ada")
    with httpx.Client(base_url=site.url, cookies={COOKIE: site.cookie("asa")}) as client:
        for file, start_of in (
            ("report.html", "<!doctype html>"),
            ("arms.csv", "model,arm"),
            ("result.json", "{"),
        ):
            reply = client.get(f"/evaluations/{finished.public_id}/{file}")
            assert reply.text.startswith(start_of)
            assert reply.headers["content-disposition"].startswith("attachment")
        for path in (
            f"{finished.public_id}/other.txt",
            f"{unfinished.public_id}/result.json",
            "nothing/arms.csv",
        ):
            assert client.get(f"/evaluations/{path}").status_code == 404
    assert httpx.get(f"{site.url}/evaluations/{finished.public_id}/arms.csv").status_code == 401
    assert "download evaluation" in {entry.action for entry in services.audit.entries()}


def test_a_file_is_kept_once_and_as_new_and_the_request_names_it(services, tmp_path):
    path = write_statements(tmp_path / "mine.csv", split=True)
    form = replace(BUNDLED, source="file", path=str(path), declared="paper")
    folder, runs = services.settings.evaluations_folder, []
    for _ in range(2):
        runs.append(start(services, services.people.find("ada"), form))
        [kept] = folder.iterdir()
        assert kept.stat().st_mtime > 0  # workers remove old files that nothing waits for
        os.utime(kept, (0, 0))
    assert {run.settings["data"] for run in runs} == {kept.name}
    assert kept.read_bytes() == path.read_bytes()
    assert kept.stat().st_mode & 0o777 == 0o600
    assert (runs[0].settings["name"], runs[0].settings["declared"]) == ("mine.csv", "paper")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"source": "file"}, "Choose a file first"),
        ({"preset": "paper"}, "split of their own"),
        ({"preset": "own", "train": 100}, "Give both sizes"),
        ({"declared": "likelihood_gated"}, "there is: gated, paper"),
    ],
)
def test_what_cannot_be_run_is_refused_before_it_is_queued(services, changed, words):
    before = len(services.runs.list(KIND))
    with pytest.raises(BadInput, match=words):
        start(services, services.people.find("ada"), replace(BUNDLED, **changed))
    assert len(services.runs.list(KIND)) == before


def test_the_estimate_comes_from_evaluations_like_this_one(tmp_path, services):
    assert checked(services, replace(BUNDLED, extra=["fine_tuned"])).about_seconds is None
    request = EvaluationRequest("x.csv", extra=("fine_tuned",))
    run = finished_run(services.runs, request, {"n_train": 10, "n_test": 10})
    request = checked(services, replace(BUNDLED, extra=["fine_tuned"]))
    finished = services.runs.get(run.public_id)
    took = (finished.finished_at - finished.started_at).total_seconds()
    assert request.about_seconds == pytest.approx(took / 20 * (request.train + request.test))


def test_a_vectors_evidence_is_the_latest_evaluation_of_its_strategy_on_its_model(services):
    chosen = synthetic_result()["choices"]
    place = (chosen["layer"], chosen["strength"])
    vector = VectorRecord(
        "m", "cd" * 32, Category.TRIAGE, *place, "v", "01", strategy="gated", preset="gated"
    )
    assert services.evidence.of(vector) == (NOT_EVALUATED, "")
    result = synthetic_result() | {"model_sha256": vector.model_sha256}
    for _ in range(2):
        run = finished_run(services.runs, EvaluationRequest("x.csv"), result)
    line, source = services.evidence.of(vector)
    assert "is not shown to help (+15.7 points" in line
    assert source == run.public_id
    used = services.vectors.register(replace(vector, file_sha256="02"))
    verdict = Answer(Arm.STEERED, "m", used.model_sha256, chosen["prompt"], 0.1, vector=used.name)
    assert services.evidence.of_answer(verdict) == (line, source)
    assert OTHER_PROMPT in services.evidence.of_answer(replace(verdict, prompt_version="another"))[0]
    assert OF_VERDICTS in services.evidence.of_answer(replace(verdict, text="It may be."))[0]
    papers = replace(vector, strategy="mean_difference", preset=PAPER_PRESET)
    assert "+2.8 points" in services.evidence.of(papers)[0]
    for made_otherwise in (
        replace(papers, preset="custom"),
        replace(vector, alpha=vector.alpha * 2),
        replace(vector, layer=vector.layer + 1),
    ):
        assert services.evidence.of(made_otherwise) == (NOT_EVALUATED, "")
    assert services.evidence.of(replace(vector, strategy="pca")) == (NOT_EVALUATED, "")
