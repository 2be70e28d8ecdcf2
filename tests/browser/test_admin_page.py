from dataclasses import replace

import pytest
from playwright.sync_api import expect

from medx_core.categories import Category
from medx_core.jobs.submission import SubmittedItem
from medx_core.storage.vector_store import VectorRecord, VectorStatus
from tests.browser.pretend_worker import TOO_LONG
from tests.samples import submission
from tests.waiting import until


@pytest.fixture
def page(fresh_site, open_page):
    """The admin page of a site with a vector in use and another one waiting."""
    for file_sha256 in ("first", "second"):
        record = VectorRecord("tiny", "ab" * 32, Category.TRIAGE, 2, 1.0, "v.safetensors", file_sha256)
        fresh_site.services.vectors.register(record)
    return open_page(fresh_site, "ada", "/app/admin")


def test_health_is_told_in_plain_words(page):
    expect(page.locator("#medx-health")).to_contain_text("A worker is at work, last seen")
    expect(page.locator("#medx-health")).to_contain_text("Nothing is waiting.")


def test_a_vector_is_promoted_and_the_act_is_audited(page, fresh_site):
    expect(page.locator("#medx-vectors tbody tr")).to_have_count(2)
    page.get_by_label("Vector to promote").click()
    page.get_by_role("option", name="triage v2 for tiny").click()
    page.locator("#medx-promote").click()
    expect(page.locator("#medx-vectors tbody tr").first).to_contain_text("triage v2active")
    states = {vector.name: vector.status for vector in fresh_site.services.vectors.list()}
    assert states == {"triage v2": VectorStatus.ACTIVE, "triage v1": VectorStatus.RETIRED}
    assert "promote vector" in {entry.action for entry in fresh_site.services.audit.entries()}


def test_a_question_that_was_set_aside_is_tried_again(page, fresh_site):

    items = (SubmittedItem(row=1, text="An unanswerable question."),)
    job = fresh_site.services.jobs.submit(replace(submission(), items=items), chunk_rows=32)
    until(lambda: fresh_site.services.jobs.get(job.public_id).progress.quarantined)
    page.reload()
    expect(page.locator("#medx-quarantined")).to_contain_text(TOO_LONG)
    fresh_site.worker.allow(0)
    page.locator("#medx-retry-all").click()
    expect(page.locator("#medx-quarantined")).to_contain_text("Nothing was set aside.")
    assert fresh_site.services.jobs.get(job.public_id).progress.queued == 1


def test_somebody_is_disabled_and_enabled_again(page, fresh_site):
    for state in ("disabled", "active"):
        page.get_by_label("Change somebody").click()
        page.get_by_role("option", name="asa").click()
        page.locator("#medx-switch").click()
        expect(page.locator("#medx-people tr").filter(has_text="asa")).to_contain_text(state)
    page.get_by_label("Change somebody").click()
    page.get_by_role("option", name="ada").click()
    page.locator("#medx-switch").click()
    expect(page.get_by_text("You cannot disable your own account")).to_be_visible()
