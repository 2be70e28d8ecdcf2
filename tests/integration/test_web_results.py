"""Evaluations through the web without a browser: who may do what, what is refused before it is queued, downloads."""

import os
from dataclasses import replace
from functools import partial
from html import unescape

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from medx_core.errors import BadInput
from medx_core.evaluation.request import EvaluationRequest
from medx_core.evaluation.sentences import NOT_EVALUATED
from medx_core.jobs.snapshots import ArmChanges
from medx_core.questions import Answer, Arm
from medx_core.recipes import DO_NOT_TRUST
from medx_core.storage.evidence import NO_PROBABILITY, OF_VERDICTS, Evidence, KnownEvidence
from medx_core.vector_registry import VectorRegistry
from tests.evaluation_results import finished_run, synthetic_result
from tests.recipes import IDENTITY, recipe
from tests.samples import submission
from tests.small_evaluation import small_evaluation, write_statements
from tests.web_site import running_site
from web.evaluations import StartForm, checked, start
from web.tabs.batch import JobFigures, job_html
from web.tabs.recipes import confirm_html, recipes_html

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
    client = Client(
        f"{site.url}/app", headers={"Cookie": f"{site.cookie_name}={site.cookie('asa')}"}, verbose=False
    )
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
    with httpx.Client(base_url=site.url, cookies={site.cookie_name: site.cookie("asa")}) as client:
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


def test_the_evidence_for_a_recipe_is_the_latest_evaluation_of_that_very_recipe(services):
    measured, other = recipe(), recipe(threshold=0.5)
    sha256 = measured.model_sha256
    assert services.evidence.of(measured.id, sha256).line == NOT_EVALUATED
    result = synthetic_result() | {"model_sha256": sha256, "recipes": {measured.id: "gated"}}
    for _ in range(2):
        run = finished_run(services.runs, EvaluationRequest("x.csv"), result)
    finished_run(services.runs, EvaluationRequest("x.csv"), result | {"recipes": {other.id: "unsteered"}})
    known = services.evidence.of(measured.id, sha256)
    assert "is not shown to help (+15.7 points" in known.line
    assert known.run == run.public_id
    verdict = Answer(Arm.STEERED, "m", sha256, "p", 0.1, recipe=measured.id)
    assert services.evidence.of_answer(verdict) == known
    assert OF_VERDICTS in services.evidence.of_answer(replace(verdict, text="It may be.")).line
    assert "right (" in services.evidence.of(other.id, sha256).line
    for unknown in (replace(verdict, recipe=None), replace(verdict, recipe="0123456789ab")):
        assert services.evidence.of_answer(unknown) == KnownEvidence()


def test_a_newer_evaluation_of_a_recipe_takes_the_word_probability_back_and_another_one_gives_it_again(
    services,
):
    def error(high):
        return {"value": high - 0.02, "low": high - 0.03, "high": high, "n": 500}

    mapped = {"kind": "temperature", "slope": 0.5, "n": 100, "error": error(0.04), "is_probability": True}
    made = recipe(calibration=mapped)
    services.recipes.keep(made, name="mine", model="tiny")
    services.recipes.promote(made.id)
    registry = VectorRegistry(services.database, services.settings)
    given = partial(made.probability, 2.0)

    def told(high):
        result = synthetic_result() | {"model_sha256": made.model_sha256, "recipes": {made.id: "recipe"}}
        tested = {"brier": None, "ece": error(high), "bins": [], "is_probability": high < 0.05}
        result["arms"]["recipe"] = result["arms"]["gated"] | {"calibrated": tested}
        finished_run(services.runs, EvaluationRequest("x.csv"), result)
        loaded = registry.answering(IDENTITY)
        assert loaded.recipe.id == made.id
        return loaded.probability(2.0, as_measured=True), services.evidence.of(
            made.id, made.model_sha256
        ).line

    assert registry.answering(IDENTITY).probability(2.0, as_measured=True) == given()
    probability, line = told(0.08)
    assert probability is None
    assert line.endswith(NO_PROBABILITY)
    probability, line = told(0.03)
    assert probability == given()
    assert NO_PROBABILITY not in line
    services.recipes.retire(made.id)


def test_beside_the_changes_of_a_file_stand_those_of_the_recipes_evaluation_with_random_directions(services):
    made = recipe(threshold=0.7)
    services.recipes.keep(made, name="mine", model="tiny")
    assert services.evidence.changes_of(made.id) is None
    result = small_evaluation().result
    told = {}
    for arm in ("gated", "paper", "probe", "unsteered"):
        written = result.model_dump(mode="json") | {
            "model_sha256": made.model_sha256,
            "recipes": {made.id: arm},
        }
        finished_run(services.runs, EvaluationRequest("x.csv"), written)
        told[arm] = services.evidence.changes_of(made.id)
    assert told["unsteered"] is None
    assert told["probe"].in_words.endswith("; no random directions were drawn for it there.")
    gated, drawn = told["gated"], result.arms["gated_random"].vs_unsteered.changes
    against = result.arm("gated").vs_unsteered
    assert (gated.helped, gated.harmed, gated.n) == (against.helped, against.harmed, result.n_test)
    for band, figure in ((gated.random.helped, drawn.helped), (gated.random.harmed, drawn.harmed)):
        assert (band.fewest, band.most) == (min(figure.draws), max(figure.draws))
    job = services.jobs.submit(submission(2), chunk_rows=2)
    figures = JobFigures(changes=[ArmChanges("", 9, 3, 1)], measured=gated)
    shown = unescape(job_html(job, figures, job.created_at))
    assert "3 wrong answers mended, 1 right answer broken" in shown
    assert gated.in_words in shown
    assert "20 random directions: " in gated.in_words
    assert gated.in_words not in unescape(job_html(job, JobFigures(measured=gated), job.created_at))


def test_a_recipe_that_would_refuse_most_of_what_it_was_measured_on_says_so_at_every_door(services):
    made = recipe(
        steering={"triage": {"file_sha256": "0" * 64, "strategy": "gated", "layer": 1, "strength": 1}}
    )
    record = services.recipes.keep(made, name="strong", model="tiny")
    result = small_evaluation().result
    doses = {"largest": 1.4, "median": 1.1, "values": [1.4, 1.1, 0.2]}

    def told(max_dose, doses):
        written = result.model_dump(mode="json") | {
            "model_sha256": made.model_sha256,
            "recipes": {made.id: "gated"},
            "doses": {"gated": doses},
        }
        finished_run(services.runs, EvaluationRequest("x.csv"), written)
        evidence = Evidence(services.database, max_dose)
        return evidence.of(made.id, made.model_sha256).line, evidence.refusals_of(made.id)

    said = f"2 of the {result.n_test} statements that it was measured on would be refused here"
    line, refused = told(1.0, doses)
    assert refused == f"{said}: their doses reach 1.4, and MEDX_MAX_DOSE allows 1."
    assert line.endswith(refused)
    assert refused in unescape(
        confirm_html(replace(services, evidence=Evidence(services.database, 1.0)), "?", record)
    )
    assert refused in unescape(
        recipes_html(replace(services, evidence=Evidence(services.database, 1.0)), [record])
    )
    assert told(2.0, doses)[1] == ""
    older = {"largest": 1.4, "median": 1.1}
    assert told(1.0, older)[1].startswith(f"More than half of the {result.n_test} statements")


def test_a_newer_evaluation_that_breaks_a_promise_revokes_it_and_one_that_keeps_it_restores_it(services):
    mapped = {"kind": "temperature", "slope": 1.0, "n": 100}
    rule = {"max_error": 0.1, "promised": True, "threshold": 0.6, "coverage": 0.5, "error": 0.02, "n": 200}
    made = recipe(calibration=mapped, abstention=rule)
    services.recipes.keep(made, name="mine", model="tiny")
    services.recipes.promote(made.id)
    registry = VectorRegistry(services.database, services.settings)

    def told(wrong):
        result = synthetic_result() | {"model_sha256": made.model_sha256, "recipes": {made.id: "recipe"}}
        error = None if wrong is None else {"value": wrong, "low": 0.0, "high": 0.4, "n": 60}
        seen = {"coverage": None, "error": error, "error_of_rest": None}
        result["arms"]["recipe"] = result["arms"]["gated"] | {"abstention": seen}
        finished_run(services.runs, EvaluationRequest("x.csv"), result)
        loaded = registry.answering(IDENTITY)
        assert loaded.recipe.id == made.id
        doubts = [loaded.doubt(margin, as_measured=True) for margin in (0.1, 5.0)]
        return *doubts, services.evidence.of(made.id, made.model_sha256).line

    for kept in (0.05, 0.1, None):
        near, sure, line = told(kept)
        assert "not sure enough" in near
        assert not sure
        assert "promise" not in line
        near, sure, line = told(0.15)
        broken = "15 % of the 60 answers that it stood by were wrong, where it promises at most 10 %"
        assert near == sure
        assert sure.startswith(DO_NOT_TRUST)
        assert broken in sure
        assert f"Its promise did not hold there: {broken}" in line
        assert registry.answering(IDENTITY).doubt(5.0, as_measured=False) == ""
