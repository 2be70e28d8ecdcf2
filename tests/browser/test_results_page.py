from copy import deepcopy
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from medx_core.evaluation.request import EvaluationRequest
from medx_core.storage.runs import Run, RunProgress, RunStatus, RunStore
from tests.browser.conftest import NARROW
from tests.browser.pretend_worker import RECIPE
from tests.evaluation_results import finished_run, synthetic_result
from tests.small_evaluation import write_statements
from tests.web_site import WebSite, running_site
from web.wording import NO_EVALUATION

KIND = "evaluation"


def stored(runs: RunStore, **given: object) -> Run:
    """Keep a finished evaluation whose figures are made up."""
    result = deepcopy(synthetic_result()) | given
    request = EvaluationRequest("invented_statements.csv", seed=int(result["seed"]))
    return finished_run(runs, request, result)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A site with two finished evaluations of one model, the second on other data."""
    with running_site(tmp_path_factory.mktemp("web") / "home") as running:
        stored(running.services.runs)
        stored(running.services.runs, data="other_statements.csv", data_sha256="77" * 32, seed=4)
        yield running


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_label(label, exact=True).click()
    page.get_by_role("option").filter(has_text=option).first.click()


def test_the_newest_evaluation_is_read_compared_and_taken_away(site, open_page):
    page = open_page(site, "asa", "/app/results")
    report = page.locator("#medx-report .mx-report")
    expect(report.locator(".mx-report-conclusion")).to_contain_text(
        "False statements are accepted more often"
    )
    expect(page.locator("#medx-start-evaluation")).to_have_count(0)
    choose(page, "Compare with", "invented_statements.csv")
    beside = page.locator("#medx-beside")
    expect(beside).to_contain_text("The same in both: model.")
    expect(beside).to_contain_text("Not the same: data, seed.")
    expect(beside.locator("tbody tr").filter(has_text="false accepted, judged arm")).to_contain_text("36.2")
    with page.expect_download() as download:
        page.get_by_role("link", name="Report (HTML)").click()
    taken = Path(download.value.path()).read_text(encoding="utf-8")
    assert taken.startswith("<!doctype html>")
    assert "http://" not in taken.replace("http://www.w3.org/2000/svg", "")
    page.get_by_role("button", name="All evaluations").click()
    page.locator("#medx-evaluations tbody tr").last.get_by_role("link").click()
    page.wait_for_url("**/app/results?run=*")
    expect(report).to_contain_text("invented_statements.csv")
    first = page.url
    choose(page, "Evaluation", "other_statements.csv")
    expect(report).to_contain_text("other_statements.csv")
    page.wait_for_function(
        "address => location.href !== address && location.search.startsWith('?run=')", arg=first
    )


@pytest.mark.parametrize("shade", ["light", "dark"])
def test_the_report_fits_a_phone(site, open_page, shade):
    page = open_page(site, "asa", "/app/results", size=NARROW)
    page.emulate_media(color_scheme=shade)
    expect(page.locator("#medx-report .mx-report-conclusion")).to_be_visible()
    choose(page, "Compare with", "invented_statements.csv")
    expect(page.locator("#medx-beside table")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]


def test_an_administrator_starts_an_evaluation_follows_it_and_cancels_it(
    fresh_site: WebSite, open_page, tmp_path: Path
):
    runs = fresh_site.services.runs
    page = open_page(fresh_site, "ada", "/app/results")  # before the first run the form is open
    check = page.locator("#medx-eval-check")
    page.get_by_label("A file", exact=True).check()
    expect(check).to_contain_text("Choose a file first")
    page.locator("#medx-eval-upload input[type=file]").set_input_files(
        write_statements(tmp_path / "statements.csv", split=True)
    )
    expect(check).to_contain_text("statements.csv: 110 statements to train, 40 to test.")
    assert runs.list(KIND) == ()
    page.locator("#medx-eval-start").click()
    status = page.locator("#medx-run-status")
    expect(status).to_contain_text("No worker for evaluations is running. The evaluation is stored")
    page.wait_for_url("**/app/results?run=*")
    [asked] = runs.list(KIND)
    assert (asked.requested_by, asked.settings["name"]) == ("ada", "statements.csv")
    assert (fresh_site.services.settings.evaluations_folder / asked.settings["data"]).exists()
    leased = runs.lease(asked.public_id, owner="w", seconds=60, max_attempts=3)
    runs.renew(leased, seconds=60, progress=RunProgress("steered answers", 12, 40))
    expect(status).to_contain_text("Steered answers: 12 of 40")
    page.locator("#medx-cancel-run").click()
    expect(status).to_contain_text("Cancelled before it finished")
    assert runs.get(asked.public_id).status is RunStatus.CANCELLED
    acts = {entry.action for entry in fresh_site.services.audit.entries()}
    assert {"start evaluation", "cancel evaluation"} <= acts


def test_before_the_first_evaluation_there_is_a_sentence_and_nothing_to_choose(
    fresh_site: WebSite, open_page
):
    page = open_page(fresh_site, "asa", "/app/results")
    expect(page.locator("#medx-run-status")).to_have_text(NO_EVALUATION[False])
    expect(page.locator("#medx-evaluation, #medx-other").filter(visible=True)).to_have_count(0)


def test_how_many_statements_is_asked_only_of_a_file(fresh_site: WebSite, open_page):
    page = open_page(fresh_site, "ada", "/app/results")  # before the first run the form is open
    preset = page.get_by_text("How many")
    expect(page.locator("#medx-eval-source")).to_be_visible()
    expect(preset).to_be_hidden()
    page.get_by_label("A file", exact=True).check()
    expect(preset).to_be_visible()
    page.get_by_label("Sizes of my own").check()
    expect(page.get_by_label("Draw", exact=True)).to_be_visible()
    page.get_by_label("The bundled statements", exact=True).check()
    expect(preset).to_be_hidden()
    expect(page.get_by_label("Draw", exact=True)).to_be_hidden()


def test_a_failed_evaluation_says_why(fresh_site: WebSite, open_page):
    runs = fresh_site.services.runs
    run = runs.begin(KIND, EvaluationRequest("statements.csv").as_json(), owner="w", seconds=60)
    runs.fail(run, "The test part has 12 statements; an evaluation needs at least 20.")
    page = open_page(fresh_site, "asa", f"/app/results?run={run.public_id}")
    expect(page.locator("#medx-run-status")).to_contain_text("needs at least 20")
    expect(page.locator("#medx-cancel-run")).to_be_hidden()


def test_below_a_steered_answer_stands_what_the_evaluation_of_its_recipe_found(site, open_page):
    sha256 = "ab" * 32
    page = open_page(site, "asa")
    page.locator("#medx-question textarea").fill("Chest pain is an emergency.")
    page.locator("#medx-ask").click()
    line = page.locator(".medx-evidence").first
    expect(page.locator(".medx-card.steered .medx-verdict")).to_be_visible()
    expect(line).to_contain_text("not evaluated")
    measured = {"model": "smollm2-135m", "model_sha256": sha256, "recipes": {RECIPE: "gated"}}
    run = stored(site.services.runs, **measured)
    page.reload()
    expect(line).to_contain_text("not shown to help")
    line.get_by_role("link", name="Why?").click()
    page.wait_for_url(f"**/app/results?run={run.public_id}")
    expect(page.locator("#medx-report .mx-report-facts")).to_contain_text("smollm2-135m")
