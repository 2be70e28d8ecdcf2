"""A browser, sites to look at, and a watch over everything a page asks for."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.web_site import WebSite, running_site

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
WIDE, NARROW = (1280, 900), (390, 844)
SECONDS = 30

OpenPage = Callable[..., Page]

expect.set_options(timeout=SECONDS * 1000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("browser")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, broker_url: str) -> Iterator[WebSite]:
    """One site for all tests that do not mind what others left there."""
    home = tmp_path_factory.mktemp("web") / "home"
    with running_site(home, redis_url=broker_url, questions_a_minute=1000) as running:
        yield running


@pytest.fixture
def fresh_site(tmp_path: Path) -> Iterator[WebSite]:
    """A site with nothing in it yet."""
    with running_site(tmp_path / "home") as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        sentence = (
            "no Chromium on this machine; install it (Debian: apt-get install chromium) to run browser tests"
        )
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(sentence)
        pytest.skip(sentence)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield launched
        launched.close()


class Seats:
    """One browser context a person who looks at pages at the same time; what it has loaded of the pages stays loaded."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._free: list[BrowserContext] = []

    def take(self) -> BrowserContext:
        return self._free.pop() if self._free else self._browser.new_context()

    def give_back(self, context: BrowserContext) -> None:
        """Leave nothing for whoever comes next but the browser's cache."""
        for page in context.pages:
            if page.url.startswith("http"):
                page.evaluate("localStorage.clear()")
            page.close()
        context.clear_cookies()
        self._free.append(context)


@pytest.fixture(scope="session")
def seats(browser: Browser) -> Seats:
    return Seats(browser)


@pytest.fixture
def open_page(seats: Seats) -> Iterator[OpenPage]:
    """Open an address of a site as one of its people; afterwards: no fault in the page, no request to elsewhere."""
    taken: list[BrowserContext] = []
    asked: list[str] = []
    faults: list[str] = []
    hosts: set[str] = set()

    def open_as(site: WebSite, name: str | None, path: str = "/app/", *, size=WIDE) -> Page:
        context = seats.take()
        taken.append(context)
        hosts.add(urlsplit(site.url).netloc)
        page = context.new_page()
        page.set_viewport_size({"width": size[0], "height": size[1]})
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: _note(faults, str(error)))
        page.on("console", lambda message: message.type == "error" and _note(faults, message.text))
        if name is not None:
            context.add_cookies([{"name": site.cookie_name, "value": site.cookie(name), "url": site.url}])
        page.goto(f"{site.url}{path}")
        if name is not None:
            expect(page.locator("#medx-header .medx-who")).to_contain_text(name)
        return page

    yield open_as
    for context in taken:
        seats.give_back(context)
    elsewhere = [
        url for url in asked if not url.startswith(("data:", "blob:")) and urlsplit(url).netloc not in hosts
    ]
    assert elsewhere == []
    assert faults == []


def _note(faults: list[str], fault: str) -> None:
    # Leaving a page ends what it still listens to; the browser may report that, and it is no fault.
    if not any(sign in fault for sign in ("AbortError", "Connection errored out")):
        faults.append(fault)
