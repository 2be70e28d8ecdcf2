import threading

from playwright.sync_api import Page, expect

from medx_core.data.emergency_lines import EMERGENCY_LINE
from medx_core.questions import Mode
from tests.browser.conftest import NARROW
from tests.browser.pretend_worker import RECIPE, UNLIMITED, WRITTEN
from web import wording
from web.tabs.ask import AS_IT_IS, MASKED, examples


def ask(page: Page, text: str, *, mode: str = "Verdict") -> None:
    page.get_by_label("Question, or a statement").fill(text)
    page.get_by_label(mode, exact=True).check()
    page.locator("#medx-ask").click()


def cards(page: Page):
    return page.locator(".medx-card")


def test_a_question_is_answered_in_both_arms_and_its_address_shows_it_again(site, open_page):
    page = open_page(site, "asa")
    ask(page, "Chest pain that spreads to the left arm is an emergency.")
    expect(page.locator(".medx-card.steered .medx-verdict")).to_have_text("TRUE")
    expect(page.locator(".medx-card.unsteered .medx-verdict")).to_have_text("FALSE")
    expect(page.locator(".medx-route")).to_contain_text("Category: triage")
    expect(page.locator(".medx-score").first).to_contain_text("score for TRUE (uncalibrated)0.83")
    expect(page.locator(".medx-card.steered .medx-provenance")).to_have_text(
        f"smollm2-135m · recipe {RECIPE} · vector triage v3 · 0.21 s"
    )
    assert page.locator(".medx-answer .medx-emergency").all_text_contents() == [EMERGENCY_LINE]
    expect(page.locator(".medx-evidence").first).to_contain_text("not evaluated")
    page.wait_for_url("**/app/?question=*")
    page.reload()
    expect(page.locator(".medx-card.steered .medx-verdict")).to_have_text("TRUE")
    expect(page.get_by_label("Question, or a statement")).to_have_value(
        "Chest pain that spreads to the left arm is an emergency."
    )


def test_a_written_answer_appears_word_by_word(site, open_page):
    site.worker.words = threading.Semaphore(0)
    try:
        page = open_page(site, "asa")
        ask(page, "What helps against a cold?", mode="Written answer")
        expect(page.locator(".medx-card.steered .medx-state")).to_have_text("Answering ...")
        for _ in range(3):
            site.worker.words.release()
        expect(page.locator(".medx-card.steered .medx-text.writing")).to_have_text("Call for help ")
        for _ in range(100):
            site.worker.words.release()
        expect(page.locator(".medx-card.steered .medx-text")).to_have_text(WRITTEN)
        expect(page.locator(".medx-card.unsteered .medx-text")).to_have_text(WRITTEN)
        expect(page.locator(".medx-text.writing")).to_have_count(0)
    finally:
        site.worker.words = None


def test_a_waiting_question_can_be_cancelled(site, open_page):
    site.worker.allow(0)
    try:
        page = open_page(site, "asa")
        ask(page, "Will this be answered?")
        expect(page.locator(".medx-state").first).to_contain_text("Waiting")
        page.locator("#medx-cancel").click()
        expect(page.locator(".medx-state").first).to_have_text("Cancelled before an answer was written.")
        expect(page.locator("#medx-cancel")).to_be_hidden()
    finally:
        site.worker.allow(UNLIMITED)


def test_without_a_category_the_answer_is_unsteered_and_a_category_can_be_chosen(site, open_page):
    page = open_page(site, "asa", size=NARROW)
    ask(page, "Something unclear.")
    expect(page.locator(".medx-route")).to_contain_text(wording.NO_CATEGORY)
    expect(page.locator(".medx-card.steered .medx-remark")).to_have_text(
        "No category was decided, so nothing was added."
    )
    page.locator("#medx-again").get_by_role("button", name="literature").click()
    expect(page.locator(".medx-route")).to_contain_text("Category: literature, your choice")
    expect(page.locator(".medx-card.steered .medx-provenance")).to_contain_text("vector literature v3")
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]


def test_text_of_a_model_is_never_run(site, open_page):
    hostile = "<img src=x onerror=\"document.title='taken'\"><b>bold</b> ${document.title='taken'} {{value}}"
    page = open_page(site, "asa")
    ask(page, hostile, mode="Written answer")
    expect(page.locator(".medx-card.steered .medx-text")).to_have_text(hostile)
    expect(page.locator(".medx-question")).to_have_text(hostile)
    assert page.locator("#medx-answer img, #medx-answer b").count() == 0
    assert page.title() == "MedX"


def test_the_page_works_by_keyboard_alone_and_says_which_way_an_uncertain_verdict_leans(site, open_page):
    page = open_page(site, "asa")
    expect(page.get_by_label("Question, or a statement")).to_be_focused()
    page.keyboard.type("Only a hunch.")
    page.keyboard.press("Shift+Enter")
    expect(page.locator(".medx-card.steered .medx-verdict")).to_have_text("Uncertain")
    expect(page.locator(".medx-card.steered")).to_contain_text("Leans TRUE")


def test_somebody_elses_question_is_not_shown(site, open_page):
    page = open_page(site, "clio")
    ask(page, "A question of my own.")
    page.wait_for_url("**/app/?question=*")
    address = page.url.removeprefix(site.url)
    other = open_page(site, "asa", address)
    expect(other.get_by_text(wording.NO_SUCH_JOB)).to_be_visible()
    expect(cards(other)).to_have_count(0)


def test_an_empty_form_says_what_to_do_and_an_example_fills_it(site, open_page):
    page = open_page(site, "asa")
    page.locator("#medx-ask").click()
    refused = page.locator("#medx-refused")
    expect(refused).to_have_text("The question is empty; write a question or a statement.")
    expect(page.locator(".toast-wrap .toast-body")).to_have_count(
        0
    )  # what covers the page and goes is no answer
    written = next(example for example in examples() if example.mode is Mode.TEXT)
    page.get_by_role("button", name=written.text).click()
    expect(page.get_by_label("Question, or a statement")).to_have_value(written.text)
    expect(page.get_by_label("Written answer")).to_be_checked()
    expect(refused).to_be_empty()


def stored(site) -> list[str]:
    """The questions that anybody asked, as the database has them."""
    return [
        item.text
        for job in site.services.jobs.recent(limit=1000)
        for item in site.services.jobs.every_item(job.public_id)
    ]


def test_patient_data_is_shown_masked_before_storing_and_asked_so_by_keyboard(site, open_page):
    page = open_page(site, "asa", size=NARROW)
    before = stored(site)
    page.keyboard.type("May Mrs Ottilie Brandreth, ann@example.org, born 1.2.1950, fly?")
    page.keyboard.press("Shift+Enter")
    warning, masked = page.locator("#medx-identifiers"), "May Mrs [removed], [removed], born [removed], fly?"
    expect(warning).to_contain_text(
        "may contain a name, an e-mail address, a date of birth. Nothing is stored yet."
    )
    expect(warning.locator("blockquote")).to_have_text(masked)
    assert stored(site) == before
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]
    expect(page.get_by_role("button", name=MASKED)).to_be_focused()
    for part in (warning.locator(".medx-lead"), warning.locator("blockquote")):
        expect(part).to_be_in_viewport(ratio=1)
    page.keyboard.press("Enter")
    expect(page.locator(".medx-question")).to_have_text(masked)
    expect(page.get_by_label("Question, or a statement")).to_have_value(masked)
    expect(page.locator(".medx-card.steered .medx-verdict")).to_be_visible()
    expect(warning).to_be_hidden()
    assert stored(site) == [masked, *before]


def test_a_question_goes_as_written_only_with_what_the_person_was_warned_of(site, open_page):
    page = open_page(site, "asa")
    before = stored(site)
    ask(page, "Should 555-123-4567 be called?")
    expect(page.locator("#medx-identifiers")).to_contain_text("may contain a telephone number.")
    longer = "Should 555-123-4567 be called, or ann@example.org asked?"
    page.get_by_label("Question, or a statement").fill(longer)
    page.get_by_role("button", name=AS_IT_IS).click()
    expect(page.locator("#medx-identifiers")).to_contain_text("a telephone number, an e-mail address.")
    assert stored(site) == before
    page.get_by_role("button", name=AS_IT_IS).click()
    expect(page.locator(".medx-question")).to_have_text(longer)
    expect(page.locator("#medx-identifiers")).to_be_hidden()
    assert stored(site) == [longer, *before]
