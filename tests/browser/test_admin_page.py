import hashlib
from dataclasses import replace

import pytest
from playwright.sync_api import Page, expect

from medx_core.categories import Category
from medx_core.data.question_files import FileRow
from medx_core.storage.vectors import VectorRecord
from tests.browser.conftest import NARROW
from tests.browser.pretend_worker import TOO_LONG
from tests.samples import submission
from tests.waiting import until
from tests.web_site import running_site


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A site with a vector in use and another one waiting."""
    with running_site(tmp_path_factory.mktemp("web") / "home") as running:
        folder = running.services.settings.vectors_folder
        folder.mkdir()
        for content in (b"first", b"second"):
            file, sha256 = f"{content.decode()}.safetensors", hashlib.sha256(content).hexdigest()
            (folder / file).write_bytes(content)
            record = VectorRecord("tiny", "ab" * 32, Category.TRIAGE, 2, 1.0, file, sha256)
            running.services.vectors.register(record)
        yield running


@pytest.fixture
def page(site, open_page):
    return open_page(site, "ada", "/app/admin")


def states(site) -> dict[str, str]:
    return {vector.name: vector.status.value for vector in site.services.vectors.list()}


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_label(label, exact=True).click()
    page.get_by_role("option", name=option).click()


def test_health_is_told_in_plain_words_for_workers_and_web_pages(page):
    health = page.locator("#medx-health")
    expect(health).to_contain_text("A worker is running, last seen")
    expect(health).to_contain_text("Nothing is waiting.")
    expect(health.locator("tbody tr").filter(has_text="web page")).to_contain_text("serving on")


def test_a_vector_is_promoted_rolled_back_and_retired_after_a_second_look(site, open_page):
    page = open_page(site, "ada", "/app/admin", size=NARROW)
    expect(page.locator("#medx-vectors tbody tr")).to_have_count(2)
    choose(page, "Vector", "triage v2 for tiny")
    page.locator("#medx-promote").click()
    expect(page.locator("#medx-confirm")).to_contain_text(
        "Use triage v2 for triage questions on tiny, in place of triage v1?"
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]
    page.locator("#medx-no").click()
    expect(page.locator("#medx-confirm")).to_be_hidden()
    assert states(site) == {"triage v2": "candidate", "triage v1": "active"}
    for button, option, after in (
        ("promote", "triage v2 for tiny", {"triage v2": "active", "triage v1": "retired"}),
        ("roll-back", "triage v2 for tiny", {"triage v2": "retired", "triage v1": "active"}),
        ("retire", "triage v1 for tiny", {"triage v2": "retired", "triage v1": "retired"}),
    ):
        choose(page, "Vector", option)
        page.locator(f"#medx-{button}").click()
        page.locator("#medx-yes").click()
        expect(page.locator("#medx-confirm")).to_be_hidden()
        expect(page.locator("#medx-vectors-report")).to_contain_text("Done:")
        assert states(site) == after
    acts = [entry.action for entry in site.services.audit.entries() if entry.action.startswith("vector")]
    assert acts == ["vector retired", "vector rolled back", "vector promoted"]


def test_a_question_that_failed_is_tried_again(page, site):
    items = (FileRow(1, "", "An unanswerable question."),)
    job = site.services.jobs.submit(replace(submission(), items=items), chunk_rows=32)
    until(lambda: site.services.jobs.get(job.public_id).progress.quarantined)
    page.reload()
    expect(page.locator("#medx-quarantined")).to_contain_text(TOO_LONG)
    site.worker.allow(0)
    page.locator("#medx-retry-all").click()
    expect(page.locator("#medx-quarantined")).to_contain_text("No question failed.")
    assert site.services.jobs.get(job.public_id).progress.queued == 1


def test_somebody_is_disabled_and_enabled_again(page):
    for state in ("disabled", "active"):
        choose(page, "Change a person", "asa")
        page.locator("#medx-switch").click()
        expect(page.locator("#medx-people tr").filter(has_text="asa")).to_contain_text(state)
    choose(page, "Change a person", "ada")
    page.locator("#medx-switch").click()
    expect(page.get_by_text("You cannot disable your own account")).to_be_visible()
