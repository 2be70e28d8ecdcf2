from dataclasses import replace

import pytest
from playwright.sync_api import Page, expect

from medx_core.categories import Category
from medx_core.data.question_files import FileRow
from medx_core.jobs.status import JobKind
from medx_core.storage.vectors import VectorRecord
from tests.browser.conftest import NARROW
from tests.browser.pretend_worker import TOO_LONG, UNLIMITED, WRITTEN
from tests.recipes import recipe
from tests.samples import submission
from tests.waiting import until
from tests.web_site import running_site

FIRST, SECOND = (
    f"{name} ({recipe(threshold=threshold).id}) for tiny"
    for name, threshold in (("first", 1.0), ("second", 2.0))
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A site with a recipe in use and another one waiting."""
    with running_site(tmp_path_factory.mktemp("web") / "home") as running:
        recipes = running.services.recipes
        first, _ = (
            recipes.keep(recipe(threshold=threshold), name=name, model="tiny")
            for name, threshold in (("first", 1.0), ("second", 2.0))
        )
        recipes.promote(first.id)
        running.services.vectors.register(
            VectorRecord("tiny", "ab" * 32, Category.TRIAGE, 2, 1.0, "t.safetensors", file_sha256="cd" * 32)
        )
        yield running


@pytest.fixture
def page(site, open_page):
    return open_page(site, "ada", "/app/admin")


def states(site) -> dict[str, str]:
    return {record.name: record.status.value for record in site.services.recipes.list()}


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_label(label, exact=True).click()
    page.get_by_role("option", name=option).click()


def test_health_is_told_in_plain_words_for_workers_and_web_pages(page):
    health = page.locator("#medx-health")
    expect(health).to_contain_text("A worker is running, last seen")
    expect(health).to_contain_text("Nothing is waiting.")
    expect(health.locator("tbody tr").filter(has_text="web page")).to_contain_text("serving on")


def test_a_recipe_is_promoted_rolled_back_and_retired_after_a_second_look(site, open_page):
    page = open_page(site, "ada", "/app/admin", size=NARROW)
    expect(page.locator("#medx-recipes tbody tr")).to_have_count(2)
    choose(page, "Recipe", SECOND)
    page.locator("#medx-promote").click()
    expect(page.locator("#medx-confirm")).to_contain_text(
        f"Answer by {SECOND} in float32, in place of {FIRST.removesuffix(' for tiny')}?".replace(
            "for tiny", "on tiny"
        )
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]
    page.locator("#medx-no").click()
    expect(page.locator("#medx-confirm")).to_be_hidden()
    assert states(site) == {"second": "candidate", "first": "in use"}
    for button, option, after in (
        ("promote", SECOND, {"second": "in use", "first": "retired"}),
        ("roll-back", SECOND, {"second": "retired", "first": "in use"}),
        ("retire", FIRST, {"second": "retired", "first": "withdrawn"}),
    ):
        choose(page, "Recipe", option)
        page.locator(f"#medx-{button}").click()
        page.locator("#medx-yes").click()
        expect(page.locator("#medx-confirm")).to_be_hidden()
        expect(page.locator("#medx-recipes-report")).to_contain_text("Done:")
        assert states(site) == after
    acts = [entry.action for entry in site.services.audit.entries() if entry.action.startswith("recipe")]
    assert acts == ["recipe retired", "recipe rolled back", "recipe promoted"]


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


def test_a_strength_is_tried_by_the_slider_and_the_newest_try_is_the_one_that_is_shown(site, open_page):
    site.worker.allow(UNLIMITED)
    page = open_page(site, "ada", "/app/admin", size=NARROW)
    page.locator("#medx-explored textarea").fill("Is chest pain that spreads to the left arm an emergency?")
    choose(page, "Vectors, together", "triage v1 for tiny")
    page.keyboard.press("Escape")
    shown = page.locator("#medx-exploration")
    page.locator("#medx-explore").click()
    expect(shown).to_contain_text("Exploration, not a measured answer: 1 vector, 1 times as strong as made.")
    expect(shown.locator("tr[data-arm=steered]")).to_contain_text("TRUE")
    expect(shown.locator("section.steered")).to_contain_text(WRITTEN)
    slider = page.locator("#medx-strength input[type=range]")
    slider.fill("-4")
    slider.dispatch_event("pointerup")
    expect(shown).to_contain_text("-4 times as strong as made.")
    expect(shown.locator("section.unsteered")).to_contain_text(WRITTEN)
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]
    tried = [job for job in site.services.jobs.recent() if job.kind is JobKind.EXPLORATION]
    assert {job.exploration.strength for job in tried} == {1.0, -4.0}
    assert site.services.audit.entries()[0].action == "explore"
