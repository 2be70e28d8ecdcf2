from dataclasses import replace

import pytest
from playwright.sync_api import expect

from medx_core.data.question_files import FileRow
from medx_core.questions import Mode
from medx_core.review import Extent, Harm, Urgency
from tests.browser.conftest import NARROW
from tests.samples import submission
from tests.waiting import until
from tests.web_site import running_site


@pytest.fixture
def site(fresh_site):
    """A site with two triage verdicts to rate, one an arm."""
    answer_all(fresh_site, rows=1, text="Sudden pain is an emergency.")
    return fresh_site


@pytest.fixture(scope="module")
def site_to_look_at(tmp_path_factory):
    """The same, for tests that store nothing."""
    with running_site(tmp_path_factory.mktemp("web") / "home") as running:
        answer_all(running, rows=1, text="Sudden pain is an emergency.")
        yield running


def answer_all(site, *, rows: int, text: str, mode: Mode = Mode.VERDICT) -> None:

    items = tuple(FileRow(row, "", text) for row in range(1, rows + 1))
    job = site.services.jobs.submit(replace(submission(mode=mode), items=items), chunk_rows=32)
    until(lambda: site.services.jobs.get(job.public_id).progress.answered == rows)


def test_an_answer_is_rated_by_keyboard_alone_and_changed_with_its_history_kept(site, open_page):
    page = open_page(site, "clio", "/app/review")
    expect(page.locator(".medx-field.current")).to_contain_text("Harm")
    first = page.locator(".medx-blinded").get_attribute("data-answer")
    for key in "32113213":
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    expect(page.locator("#medx-review-progress")).to_contain_text("1 rated by you · 1 left")
    expect(page.locator(f".medx-blinded[data-answer='{first}']")).to_have_count(0)
    expect(page.locator(".medx-field.current")).to_contain_text("Harm")
    expect(page.locator(".medx-field input:checked")).to_have_count(0)
    clio = site.services.people.find("clio").id
    stored = site.services.ratings.of_rater(clio)[0]
    assert stored.answer.answer_id == first
    assert (stored.form.harm, stored.form.wrong_content) == (Harm.MODERATE, Extent.NO)
    assert (stored.form.missing_content, stored.form.urgency) == (Extent.GREAT, Urgency.RIGHT)
    assert 0 < stored.seconds < 600
    page.locator("#medx-own-ratings").get_by_role("link", name="change").click()
    page.wait_for_url("**/app/review?rating=*")
    expect(page.locator("#medx-harm input").nth(2)).to_be_checked()
    page.locator("#medx-harm input").nth(3).check()
    page.locator("#medx-save").click()
    expect(page.locator("#medx-own-ratings")).to_contain_text("severe or death")
    changed = site.services.ratings.of_rater(clio)[0]
    assert (changed.version, changed.form.harm) == (2, Harm.SEVERE)


def test_nothing_on_the_page_says_which_arm_or_model_answered(site_to_look_at, open_page):
    page = open_page(site_to_look_at, "clio", "/app/review")
    expect(page.locator(".medx-blinded")).to_contain_text("Sudden pain")
    shown = page.content().lower()
    for word in ("smollm2", "triage v3", 'data-arm="', ">steered<", ">unsteered<", "0.83"):
        assert word not in shown


def test_an_incomplete_rating_is_not_saved_and_says_what_is_missing(site_to_look_at, open_page):
    page = open_page(site_to_look_at, "clio", "/app/review")
    expect(page.locator(".medx-field.current")).to_contain_text("Harm")
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Choose how likely the harm is.")).to_be_visible()
    assert site_to_look_at.services.ratings.count() == 0


def test_an_answer_can_be_skipped_or_declared_beyond_judging(site, open_page):
    page = open_page(site, "clio", "/app/review", size=NARROW)
    expect(page.locator(".medx-field.current")).to_contain_text("Harm")
    first = page.locator(".medx-blinded").get_attribute("data-answer")
    page.keyboard.press("s")
    expect(page.locator("#medx-review-progress")).to_contain_text("skipped")
    expect(page.locator(f".medx-blinded[data-answer='{first}']")).to_have_count(0)
    page.keyboard.press("c")
    expect(page.get_by_text("Say why")).to_be_visible()
    page.get_by_role("button", name="Tags, correction and comment").click()
    page.locator("#medx-reason textarea, #medx-reason input").fill("It names no drug.")
    page.locator("#medx-cannot").click()
    expect(page.locator("#medx-own-ratings")).to_contain_text("cannot judge")
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]


def test_letters_typed_into_a_comment_are_no_commands(site_to_look_at, open_page):
    page = open_page(site_to_look_at, "clio", "/app/review")
    expect(page.locator(".medx-field.current")).to_contain_text("Harm")
    first = page.locator(".medx-blinded").get_attribute("data-answer")
    page.get_by_role("button", name="Tags, correction and comment").click()
    page.locator("#medx-comment textarea").fill("")
    page.locator("#medx-comment textarea").focus()
    page.keyboard.type("scs 123")
    expect(page.locator("#medx-comment textarea")).to_have_value("scs 123")
    expect(page.locator(".medx-field input:checked")).to_have_count(0)
    expect(page.locator(f".medx-blinded[data-answer='{first}']")).to_be_visible()
