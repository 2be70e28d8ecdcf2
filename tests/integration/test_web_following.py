"""Following a question: tokens where there is a Redis, the database in any case."""

import asyncio
from collections.abc import Iterator

import pytest

from medx_core.errors import NotFound
from medx_core.jobs.status import ItemStatus, JobKind
from medx_core.questions import Arm, Mode
from tests.browser.pretend_worker import WRITTEN, PretendWorker
from tests.samples import submission
from tests.web_site import prepared_services, site_settings
from web.following import QuestionView, follow
from web.services import Services
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
