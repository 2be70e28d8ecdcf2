"""Exploring on the Admin page: from the slider through the queue's tables to a real engine on a tiny model, and back."""

import asyncio
from dataclasses import replace

import pytest
import torch

from medx_core.answering import AnsweringEngine
from medx_core.errors import BadInput, VectorRefused
from medx_core.prompts import STATEMENT_PROMPT
from medx_core.questions import Arm
from medx_core.settings import PatientDataRule
from medx_core.steering.hooks import SteeringPlan, steered
from medx_core.storage.leases import LeaseStore
from medx_core.traces.damage import repetition
from medx_core.vector_registry import VectorRegistry
from tests.integration.test_web_recipes import ToTriage, vector_for
from tests.language_models import tiny_model
from tests.web_site import prepared_services, site_settings
from web.tabs.ask import _AskHandlers
from web.tabs.explore import ExploreHandlers

TEXT = "The heart pumps blood through the body."


@pytest.fixture
def services(tmp_path):
    # the states of a random model are short, so that every vector is a large dose
    made = prepared_services(site_settings(tmp_path / "home", max_dose=1000, max_new_tokens=6))
    yield made
    made.database.close()


@pytest.fixture
def ada(services):
    return services.people.find("ada")


@pytest.fixture
def model():
    return tiny_model()


@pytest.fixture
def vectors(services, model):
    registry = VectorRegistry(services.database, services.settings)
    second = replace(vector_for(model, seed=2), layer=2, alpha=0.5)
    return [registry.publish(vector).file_sha256 for vector in (vector_for(model, seed=1), second)]


@pytest.fixture
def worker(services, model):
    """What a worker does with the items of a job, without its threads."""
    registry = VectorRegistry(services.database, services.settings)
    engine = AnsweringEngine(model, ToTriage(), registry, services.settings)
    leases = LeaseStore(services.database)

    def answered(public_id):
        (item,) = services.jobs.every_item(public_id)
        (leased,) = leases.lease([item.id], owner="w", seconds=60, max_attempts=1)
        leases.finish([(leased, engine.answer(leased.question))])
        (item,) = services.jobs.every_item(public_id)
        return {stored.answer.arm: stored.answer for stored in item.answers}

    return answered


def shown(services, person, jobs) -> list[str]:
    async def collected():
        return [str(html) async for html in ExploreHandlers(services).watch(person, jobs)]

    return asyncio.run(asyncio.wait_for(collected(), timeout=60))


def test_vectors_together_at_any_strength_give_verdict_and_text_that_count_as_no_answer(
    services, ada, model, vectors, worker
):
    verdict_job, text_job = ExploreHandlers(services).submit(ada, TEXT, vectors, -1.5, [])
    verdict, text = worker(verdict_job), worker(text_job)

    steps = [
        replace(step, shift=lambda states, step=step: -1.5 * step.shift(states))
        for vector in (vector_for(model, seed=1), replace(vector_for(model, seed=2), layer=2, alpha=0.5))
        for step in vector.plan.steps
    ]
    prompt = torch.tensor([model.tokenizer(STATEMENT_PROMPT.filled(TEXT))["input_ids"]])
    with torch.inference_mode(), steered(model.network, SteeringPlan(tuple(steps))):
        logits = model.network(input_ids=prompt).logits[0, -1]
    yes, no = (model.tokenizer.convert_tokens_to_ids(word) for word in (" Yes", " No"))
    steered_answer = verdict[Arm.STEERED]
    assert steered_answer.score == pytest.approx(torch.sigmoid(logits[yes] - logits[no]).item(), abs=1e-5)
    assert (steered_answer.vector, steered_answer.alpha) == ("triage v1 + triage v2", -1.5)
    assert steered_answer.dose > 0
    assert {answer.recipe for answer in (*verdict.values(), *text.values())} == {None}

    unsteered = text[Arm.UNSTEERED]
    assert (unsteered.dose, unsteered.repetition) == (None, repetition(unsteered.text))
    assert text[Arm.STEERED].perplexity > unsteered.perplexity > 1, "greedy text is the least surprising one"

    page = shown(services, ada, [verdict_job, text_job])[-1]
    assert "Exploration, not a measured answer: 2 vectors, -1.5 times as strong as made." in page
    assert f"{steered_answer.score:.3f}" in page
    assert f"{text[Arm.STEERED].perplexity:.3g}" in page
    rater = services.people.find("clio")
    assert services.ratings.next_to_rate(rater.id) is None
    assert verdict_job not in str(_AskHandlers(services).list_recent(ada))


def test_no_strength_is_unsteered_to_the_last_bit_and_a_new_try_takes_the_place_of_the_one_before(
    services, ada, vectors, worker
):
    page = ExploreHandlers(services)
    first = page.submit(ada, TEXT, vectors[:1], 4.0, [])
    second = page.submit(ada, TEXT, vectors[:1], 0.0, first)
    answers = worker(second[0])
    assert answers[Arm.STEERED].score == answers[Arm.UNSTEERED].score
    assert answers[Arm.STEERED].dose == 0.0
    assert {services.jobs.get(job).status for job in first} == {"cancelled"}
    assert shown(services, ada, first) == []


def test_a_dose_that_is_too_large_is_refused_on_the_page_and_is_no_failed_question(
    services, ada, model, vectors
):
    limited = services.settings.model_copy(update={"max_dose": 0.01})
    engine = AnsweringEngine(model, ToTriage(), VectorRegistry(services.database, services.settings), limited)
    leases = LeaseStore(services.database)
    jobs = ExploreHandlers(services).submit(ada, TEXT, vectors, 1.0, [])
    for public_id in jobs:
        (item,) = services.jobs.every_item(public_id)
        (leased,) = leases.lease([item.id], owner="w", seconds=60, max_attempts=1)
        leases.finish([(leased, engine.answer(leased.question))])
    assert "MEDX_MAX_DOSE allows 0.01; use a weaker vector." in shown(services, ada, jobs)[-1]
    assert services.health.quarantined() == ()


@pytest.mark.parametrize(
    ("text", "chosen", "words"),
    [
        ("  ", slice(None), "empty"),
        (TEXT, slice(0), "Choose at least one vector"),
    ],
)
def test_what_cannot_be_explored_is_refused_before_anything_is_stored(
    services, ada, vectors, text, chosen, words
):
    with pytest.raises(BadInput, match=words):
        ExploreHandlers(services).submit(ada, text, vectors[chosen], 1.0, [])
    assert services.jobs.recent() == ()


PATIENT = "Write to john@example.org; born 01/02/1950, he has a cough."


def test_patient_data_is_masked_before_a_try_is_stored(services, ada, vectors):
    jobs = ExploreHandlers(services).submit(ada, PATIENT, vectors[:1], 1.0, [])
    texts = {item.text for job in jobs for item in services.jobs.every_item(job)}
    assert len(texts) == 1
    stored = texts.pop()
    assert stored.endswith("he has a cough.")
    assert stored.count("[removed]") == 2


def test_patient_data_is_refused_before_a_try_is_stored_where_the_setting_says_so(services, ada, vectors):
    strict = replace(
        services, settings=services.settings.model_copy(update={"patient_data": PatientDataRule.REFUSE})
    )
    with pytest.raises(BadInput):
        ExploreHandlers(strict).submit(ada, PATIENT, vectors[:1], 1.0, [])
    assert services.jobs.recent() == ()


def test_a_vector_of_another_model_is_refused_by_name(services, model, vectors, ada):
    (job, _) = ExploreHandlers(services).submit(ada, TEXT, [*vectors, "f" * 64], 1.0, [])
    (item,) = services.jobs.every_item(job)
    (leased,) = LeaseStore(services.database).lease([item.id], owner="w", seconds=60, max_attempts=1)
    engine = AnsweringEngine(
        model, ToTriage(), VectorRegistry(services.database, services.settings), services.settings
    )
    with pytest.raises(VectorRefused, match="There is no vector ffffffffffff for tiny-llama"):
        engine.answer(leased.question)
