"""Following a question: tokens where there is a Redis, the database in any case."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace

import pytest

from medx_core.categories import Category, Route
from medx_core.data.emergency_lines import EMERGENCY_LINE
from medx_core.errors import NotFound
from medx_core.jobs.status import ItemStatus, JobKind
from medx_core.questions import Arm, Mode
from medx_core.storage.leases import LeaseStore
from tests.browser.pretend_worker import WRITTEN, PretendWorker
from tests.samples import submission
from tests.web_site import prepared_services, site_settings
from web.api import followed, state_of
from web.following import QuestionView, follow
from web.services import Services
from web.tabs.ask import question_html
from web.token_streams import StreamedText

NOBODY_LISTENS = "redis://127.0.0.1:1/0"


@pytest.fixture
def services(tmp_path) -> Iterator[Services]:
    made = prepared_services(site_settings(tmp_path / "home", redis_url=NOBODY_LISTENS))
    yield made
    made.database.close()


def question_of(services: Services, name: str) -> str:
    asked = submission(1, kind=JobKind.QUESTION, mode=Mode.TEXT, person_id=services.people.find(name).id)
    return services.jobs.submit(asked, chunk_rows=32).public_id


def views(services: Services, public_id: str, name: str) -> list[QuestionView]:
    async def collected() -> list[QuestionView]:
        return [view async for view in follow(services, public_id, services.people.find(name))]

    return asyncio.run(asyncio.wait_for(collected(), timeout=60))


def test_without_redis_the_answer_comes_from_the_database(services):
    public_id = question_of(services, "asa")
    worker = PretendWorker(services.database)
    worker.start()
    try:
        last = views(services, public_id, "asa")[-1]
    finally:
        worker.stop()
    assert last.item.status is ItemStatus.ANSWERED
    assert {stored.answer.text for stored in last.item.answers} == {WRITTEN}


def test_a_program_is_told_what_its_question_and_its_batch_wait_for(services):
    asa = services.people.find("asa")
    sentence = "The recipe in use, mine (0123456789ab), cannot answer."
    services.health.beat("w1", "worker", {"ready": False, "stage": "waiting", "refused": sentence})
    question = services.jobs.get(question_of(services, "asa"))
    state = asyncio.run(asyncio.wait_for(followed(services, question, asa), timeout=60))
    assert (state["status"], state["waits_for"]) == ("queued", sentence)
    batch = services.jobs.submit(submission(3, person_id=asa.id), chunk_rows=32)
    assert state_of(services, batch)["waits_for"] == sentence
    services.health.beat("w1", "worker", {"ready": True, "stage": "ready"})
    assert state_of(services, batch)["waits_for"] == ""


def test_a_cancelled_question_ends_the_following(services):
    public_id = question_of(services, "asa")
    services.jobs.cancel(public_id)
    assert [view.item.status for view in views(services, public_id, "asa")] == [ItemStatus.CANCELLED]


def test_nobody_follows_the_question_of_somebody_else(services):
    with pytest.raises(NotFound):
        views(services, question_of(services, "asa"), "clio")


def test_an_answer_begun_anew_replaces_what_was_written_before():
    streamed = StreamedText(7, (Arm.STEERED.value, Arm.UNSTEERED.value))
    name = "medx:tokens:7:steered"
    for at, fields in enumerate([{"text": "Half an "}, {"restart": "1"}, {"text": "Whole"}, {"done": "1"}]):
        streamed.take(name, f"{at}-0", fields)
    assert streamed.text == {"steered": "Whole"}
    assert list(streamed.last) == ["medx:tokens:7:unsteered"]


class FakeStreams:
    """Streams whose text arrives at once, after `stored` was done; nothing of Redis is needed."""

    reachable = True

    def __init__(self, stored: Callable[[], object]) -> None:
        self._stored = stored
        self._left = ["Call ", "for help."]

    def client(self) -> "FakeStreams":
        return self

    async def aclose(self) -> None:
        """Nothing is open."""

    async def read_on(self, client: object, streamed: StreamedText, *, wait_seconds: float) -> bool:
        if not self._left:
            return False
        self._stored()
        streamed.take("medx:tokens:0:steered", "1-0", {"text": self._left.pop(0)})
        streamed.last = {"still": "0-0"}
        return True


@pytest.mark.parametrize("routed", [True, False])
def test_text_is_shown_only_together_with_the_emergency_line(services, routed):
    public_id = question_of(services, "asa")
    leases = LeaseStore(services.database)
    [item] = services.jobs.every_item(public_id)
    [leased] = leases.lease([item.id], owner="w", seconds=60, max_attempts=3)

    def store_route() -> None:
        if routed:
            assert leases.store_route(leased, Route(Category.TRIAGE, red_flag=True))

    shown: list[str] = []

    async def watch() -> None:
        followed = replace(services, streams=FakeStreams(store_route))
        async for view in follow(followed, public_id, services.people.find("asa")):
            if view.partial:
                shown.append(question_html(view, ("", "")))
            if view.partial.get("steered") == "Call for help." or len(shown) > 1:
                break

    with nullcontext() if routed else pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(watch(), timeout=20 if routed else 1))
    assert len(shown) == (2 if routed else 0)
    assert all("Call" in html and html.count(EMERGENCY_LINE) == 1 for html in shown)
