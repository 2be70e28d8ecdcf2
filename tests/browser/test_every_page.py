"""What holds on every page: roles, offline, narrow, dark. `open_page` refuses requests to elsewhere and page faults."""

from itertools import pairwise

import pytest
from playwright.sync_api import expect

from medx_core.storage.account_rules import generated_password
from medx_core.storage.people import Role
from tests.browser.conftest import NARROW
from tests.web_site import PASSWORD, running_site
from web import wording
from web.rendering import serve_below

PAGES = ("", "batch", "review", "results", "admin", "account")


@pytest.mark.parametrize("path", PAGES)
def test_every_page_fits_a_phone_in_light_and_dark(site, open_page, path):
    page = open_page(site, "ada", f"/app/{path}", size=NARROW)
    for shade in ("light", "dark"):
        page.emulate_media(color_scheme=shade)
        expect(page.locator("body.dark")).to_have_count(int(shade == "dark"))
        expect(page.locator("#medx-header")).to_contain_text(wording.RESEARCH_USE)
        expect(page.locator("h1")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]


def test_every_link_of_the_header_can_be_reached_on_a_phone(site, open_page):
    page = open_page(site, "ada", size=NARROW)
    links = page.locator("#medx-header nav a")
    expect(links).to_have_text(["Ask", "Batch", "Review", "Results", "Admin"])
    right_edges = links.evaluate_all("links => links.map(one => one.getBoundingClientRect().right)")
    assert max(right_edges) <= page.evaluate("window.innerWidth")
    tops = page.locator("#medx-header .prose").evaluate(
        "bar => [...bar.querySelectorAll('a, p, button')].map(one => one.getBoundingClientRect()).map(box => box.top + box.height / 2)"
    )
    lines = sorted(tops)
    assert sum(after - before > 12 for before, after in pairwise(lines)) <= 1, lines  # two lines


def test_the_header_leads_an_asker_only_where_they_may_go(site, open_page):
    page = open_page(site, "asa")
    expect(page.locator("#medx-header nav a")).to_have_text(["Ask", "Batch", "Results"])


def test_the_choice_of_light_or_dark_is_kept(site, open_page):
    page = open_page(site, "asa")
    page.get_by_role("button", name="Light / dark").click()
    assert page.evaluate("document.body.classList.contains('dark')") is True
    page.goto(f"{site.url}/app/batch")
    expect(page.locator("body.dark")).to_have_count(1)


def test_somebody_signs_in_goes_on_where_they_wanted_and_signs_out(site, open_page):
    page = open_page(site, None, "/app/batch")
    page.wait_for_url("**/login?next=*")
    page.get_by_label("Name").fill("asa")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/app/batch")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/login")
    page.goto(f"{site.url}/app/")
    page.wait_for_url("**/login?next=*")


def test_below_a_path_somebody_signs_in_walks_the_pages_and_signs_out(tmp_path, open_page):
    with running_site(tmp_path / "home", root_path="/medx") as site:
        page = open_page(site, None, "/medx/app/batch")
        page.get_by_label("Name").fill("asa")
        page.get_by_label("Password").fill(PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_url("**/medx/app/batch")
        expect(page.locator("#medx-header .medx-who")).to_contain_text("asa")
        page.get_by_role("link", name="Ask", exact=True).click()
        page.wait_for_url("**/medx/app/")
        page.get_by_label("Question").fill("Aspirin is a drug.")
        page.get_by_role("button", name="Ask", exact=True).click()
        expect(page.locator(".medx-question")).to_have_text("Aspirin is a drug.")
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url("**/medx/login")
    serve_below("")


def test_a_session_ended_on_the_account_page_opens_nothing_any_more(site, open_page):
    other, page = open_page(site, "clio", "/app/batch"), open_page(site, "clio", "/app/account")
    expect(page.locator("#medx-own-sessions")).to_contain_text("(here)")
    page.locator("#medx-end-own-sessions").click()
    expect(page.locator("#medx-own-sessions-report")).to_contain_text("1 ended.")
    expect(page.locator("#medx-own-sessions tbody tr")).to_have_count(1)
    other.reload()
    other.wait_for_url("**/login?next=*")


def test_a_token_is_shown_once_and_listed_and_a_link_leads_to_a_password(site, open_page):
    page = open_page(site, "ada", "/app/account", size=NARROW)
    page.get_by_label("What it is for").fill("nightly")
    page.locator("#medx-make-token").click()
    expect(page.locator("#medx-token-report")).to_contain_text("Token, shown only now: ")
    token = page.locator("#medx-token-report").inner_text().rsplit(": ", 1)[1].strip()
    assert site.services.sessions.program(token).name == "ada"
    expect(page.locator("#medx-own-sessions")).to_contain_text("token nightly (ask, read)")
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]
    site.services.people.add("mira", Role.ASKER, generated_password("mira"))
    page.goto(f"{site.url}/app/admin")
    expect(page.locator("#medx-people")).to_contain_text("mira")
    page.get_by_label("Change a person", exact=True).fill("mira")
    page.keyboard.press("Enter")
    expect(page.locator("#medx-their-sessions")).to_contain_text("mira is signed in nowhere.")
    page.locator("#medx-make-link").click()
    report = page.locator("#medx-their-sessions-report")
    expect(report).to_contain_text("Link for mira")
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]
    key = report.inner_text().rsplit("key=", 1)[1].strip()
    other = open_page(site, None, f"/link?key={key}")
    for label in ("New password", "New password again"):
        other.get_by_label(label, exact=True).fill("three tin rabbits")
    other.keyboard.press("Enter")
    other.wait_for_url("**/login")
    assert site.services.people.authenticate("mira", "three tin rabbits") is not None


def test_an_administrator_adds_somebody_who_then_changes_the_first_password(site, open_page):
    page = open_page(site, "ada", "/app/admin")
    page.locator("#medx-new-name input, #medx-new-name textarea").fill("noor")
    page.locator("#medx-add-person").click()
    report = page.locator("#medx-people-report")
    expect(report).to_contain_text("Added noor. First password")
    password = report.inner_text().rsplit(": ", 1)[1].strip()
    assert site.services.people.authenticate("noor", password) is not None
    other = open_page(site, None, "/login")
    other.get_by_label("Name").fill("noor")
    other.get_by_label("Password").fill(password)
    other.keyboard.press("Enter")
    expect(other.locator("#medx-header .medx-who")).to_contain_text("noor")
    other.goto(f"{site.url}/app/account")
    for field, value in (
        ("old-password", password),
        ("new-password", "a longer horse"),
        ("new-again", "a longer horse"),
    ):
        other.locator(f"#medx-{field} input").fill(value)
    other.locator("#medx-change-password").click()
    other.wait_for_url("**/login")
    assert site.services.people.authenticate("noor", "a longer horse") is not None
    acts = [entry.action for entry in site.services.audit.entries()]
    assert {"add person", "sign in", "change password"} <= set(acts)
