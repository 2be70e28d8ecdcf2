"""What an admin does with vectors on the page reaches a worker that runs: real engine, real batcher, tiny model."""

import pytest
import torch

from medx_core.answering import AnsweringEngine, AnsweringLimits
from medx_core.categories import Category, Route
from medx_core.errors import BadInput
from medx_core.job_execution.lanes import Lane
from medx_core.job_execution.micro_batching import MicroBatcher
from medx_core.job_execution.turns import BatchLimits
from medx_core.questions import Arm, Question
from medx_core.steering.vector_files import SteeringVector
from medx_core.vector_registry import VectorRegistry
from tests.language_models import WIDTH, tiny_model
from tests.waiting import until
from tests.web_site import prepared_services, site_settings
from web.tabs.vectors import VectorsPart
from web.vector_markup import PROMOTE, RETIRE, consequence


class ToTriage:
    """Sends everything to triage."""

    name = "fixed"

    def route(self, texts):
        return tuple(Route(Category.TRIAGE, {Category.TRIAGE: 1.0}) for _ in texts)


def vector_for(model, *, seed: int) -> SteeringVector:
    return SteeringVector(
        category=Category.TRIAGE,
        direction=torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed)),
        layer=1,
        model=model.name,
        model_sha256=model.weight_sha256,
        strategy="mean_difference",
        alpha=1.0,
        reading="answer_word",
        pairs=2,
        data_sha256="d",
        prompt_version="p",
        created_at="2026-01-01",
    )


@pytest.fixture
def services(tmp_path):
    made = prepared_services(site_settings(tmp_path / "home"))
    yield made
    made.database.close()


@pytest.fixture
def part(services) -> VectorsPart:
    return VectorsPart(services)


@pytest.fixture
def vectors(services, tmp_path):
    """Two versions for the tiny model, the first one in use."""
    model = tiny_model()
    registry = VectorRegistry(services.vectors, tmp_path / "vectors")
    return model, registry, [registry.publish(vector_for(model, seed=seed)) for seed in (1, 2)]


@pytest.fixture
def used_by_worker(vectors):
    """Ask a running worker's engine, and say which vector it used."""
    model, registry, _ = vectors
    batcher = MicroBatcher(
        lambda: AnsweringEngine(model, ToTriage(), registry, AnsweringLimits()), BatchLimits(8, 0.0)
    )
    batcher.start()
    question = Question("Yes or no?", arms=(Arm.STEERED,))

    def used() -> str | None:
        return batcher.submit(question, lane=Lane.INTERACTIVE).result(30).answers[0].vector

    yield used
    batcher.close()


def test_a_running_worker_takes_up_what_was_promoted_and_lets_go_of_what_was_retired(
    services, part, vectors, used_by_worker
):
    first, second = vectors[2]
    ada = services.people.find("ada")
    assert used_by_worker() == "triage v1"
    part.act(ada, PROMOTE, second.id, consequence(PROMOTE, second, present=first, before=None))
    until(lambda: used_by_worker() == "triage v2")
    second = services.vectors.get(second.id)
    part.act(ada, RETIRE, second.id, consequence(RETIRE, second, present=second, before=None))
    until(lambda: used_by_worker() is None)


def test_what_would_now_do_something_else_than_was_agreed_is_not_done(services, part, vectors):
    first, second = vectors[2]
    agreed = consequence(PROMOTE, second, present=first, before=None)
    services.vectors.retire(first.id)
    with pytest.raises(BadInput, match="Somebody changed the vectors meanwhile"):
        part.act(services.people.find("ada"), PROMOTE, second.id, agreed)
    assert services.vectors.get(second.id) == second
    assert "vector promoted" not in {entry.action for entry in services.audit.entries()}
