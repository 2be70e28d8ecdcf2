from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from medx_core.data.emergency_lines import EMERGENCY_LINE
from tests.browser.conftest import NARROW
from tests.browser.pretend_worker import TOO_LONG, UNLIMITED
from tests.result_files import read_results
from web import submission, wording


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "round.csv"
    lines = [f"q{n},Pain number {n}.,{'TRUE' if n % 4 else 'FALSE'},w{n}" for n in range(1, 41)]
    path.write_text("\n".join(["id,question,answer,ward", *lines, "q41,,TRUE,w41"]) + "\n")
    return path


def check(page: Page, path: Path) -> None:
    page.locator("#medx-upload input[type=file]").set_input_files(path)
    expect(page.locator("#medx-check .medx-check")).to_be_visible()


def run(page: Page) -> None:
    page.locator("#medx-run").click()
    page.wait_for_url("**/app/batch?job=*")


def finished(page: Page, rows: str) -> None:
    expect(page.locator(f".medx-job[data-finished='{rows}']")).to_be_visible()


def test_a_file_is_checked_run_reopened_half_way_and_downloaded(site, open_page, questions):
    before = len(site.services.jobs.recent(limit=1000))
    page = open_page(site, "asa", "/app/batch")
    expect(page.locator("#medx-run")).to_be_disabled()
    check(page, questions)
    expect(page.locator(".medx-lead")).to_contain_text(
        "round.csv: 40 questions, 40 with an answer to compare with."
    )
    expect(page.locator(".medx-check")).to_contain_text("row 41, question The question is empty.")
    expect(page.locator(".medx-check tbody tr")).to_have_count(5)
    assert len(site.services.jobs.recent(limit=1000)) == before
    site.worker.allow(15)
    try:
        run(page)
        finished(page, "15")
        expect(page.locator(".medx-progress")).to_contain_text("15 of 40")
        page.reload()
        finished(page, "15")
    finally:
        site.worker.allow(UNLIMITED)
    finished(page, "40")
    expect(page.locator(".medx-job")).to_have_attribute("data-status", "done")
    expect(page.locator(".medx-accuracy:not(.medx-changes)")).to_contain_text(
        "Steered 0.75 (0.60 to 0.86, n 40)"
    )
    with page.expect_download() as download:
        page.get_by_role("link", name="Download results").click()
    rows = read_results(Path(download.value.path()))
    assert [(row.row, row.id, row.arm) for row in rows[:2]] == [(1, "q1", "steered"), (1, "q1", "unsteered")]
    assert len(rows) == 80
    assert {row.status for row in rows} == {"answered"}


def test_rows_are_found_page_by_page_and_by_search(site, open_page, questions):
    page = open_page(site, "asa", "/app/batch", size=NARROW)
    check(page, questions)
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]
    run(page)
    finished(page, "40")
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]
    rows = page.locator("#medx-rows tbody tr")
    expect(rows).to_have_count(25)
    page.get_by_role("button", name="Next").click()
    expect(rows).to_have_count(15)
    page.get_by_label("Search").fill("number 37")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("Pain number 37.")
    expect(rows).to_contain_text(EMERGENCY_LINE)


def test_a_refused_file_is_explained_and_cannot_be_run(site, open_page, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("name,age\nx,1\n")
    page = open_page(site, "asa", "/app/batch")
    check(page, path)
    expect(page.locator(".medx-check .medx-fault")).to_contain_text("no 'question' or 'statement' column")
    expect(page.locator("#medx-run")).to_be_disabled()


def test_a_running_batch_can_be_cancelled_and_keeps_what_is_finished(site, open_page, questions):
    site.worker.allow(5)
    try:
        page = open_page(site, "asa", "/app/batch")
        check(page, questions)
        run(page)
        finished(page, "5")
        page.locator("#medx-cancel-job").click()
        expect(page.locator(".medx-job")).to_contain_text("answered 5 · cancelled 35")
        expect(page.locator("#medx-cancel-job")).to_be_hidden()
    finally:
        site.worker.allow(UNLIMITED)


def test_a_row_that_cannot_be_answered_is_set_aside_with_its_reason(site, open_page, tmp_path):
    path = tmp_path / "one.csv"
    path.write_text("question\nAn unanswerable question.\nA question.\n")
    page = open_page(site, "ada", "/app/batch")
    check(page, path)
    run(page)
    expect(page.locator(".medx-job")).to_contain_text("answered 1 · failed 1")
    expect(page.locator("#medx-rows")).to_contain_text(f"failed: {TOO_LONG}")
    page.goto(f"{site.url}/app/admin")
    expect(page.locator("#medx-quarantined")).to_contain_text(TOO_LONG)


def test_earlier_batches_are_listed_for_their_owner_only(site, open_page, questions):
    page = open_page(site, "asa", "/app/batch")
    check(page, questions)
    run(page)
    page.goto(f"{site.url}/app/batch")
    page.locator("#medx-history").get_by_role("link", name="round.csv").first.click()
    finished(page, "40")
    other = open_page(site, "clio", "/app/batch")
    expect(other.locator("#medx-history")).to_contain_text("Your batches appear here.")
    other.goto(page.url)
    expect(other.get_by_text(wording.NO_SUCH_JOB)).to_be_visible()


@pytest.mark.parametrize("as_written", [False, True], ids=["masked", "as written"])
def test_patient_data_of_a_file_is_shown_as_it_would_be_stored_and_the_person_decides(
    site, open_page, tmp_path, as_written
):
    path = tmp_path / "clinic.csv"
    asked = "Can Mrs Ottilie Brandreth fly?"
    path.write_text(f"question,MRN,age\n{asked},4829117,40\nCalm is good.,,{int(as_written)}\n")
    page = open_page(site, "asa", "/app/batch", size=NARROW)
    check(page, path)
    panel = page.locator(".medx-found")
    expect(panel).to_contain_text("2 cells may identify a patient: a name, a record number.")
    expect(panel.locator("li").first).to_have_text("row 1, question Can Mrs [removed] fly?")
    expect(panel.locator("mark")).to_have_count(2)
    expect(panel).to_be_in_viewport(ratio=1)
    assert "Notices" not in page.locator(".medx-check").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]
    if as_written:
        page.get_by_label(wording.AS_WRITTEN).check()
    read = submission._masked_content.cache_info()
    run(page)
    job = page.url.split("job=")[1]
    now = submission._masked_content.cache_info()
    assert (now.hits - read.hits, now.misses - read.misses) == (1, 0)  # not looked for a second time
    stored = site.services.jobs.items(job, limit=1)[0][0]
    assert stored.text == (asked if as_written else "Can Mrs [removed] fly?")
