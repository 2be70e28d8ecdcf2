"""What an admin does with vectors on the page reaches a worker that runs: real engine, real batcher, tiny model."""

from dataclasses import replace

import pytest
import torch

from medx_core.answering import AnsweringEngine
from medx_core.categories import Category, Route
from medx_core.errors import BadInput, VectorRefused
from medx_core.job_execution.batching import MicroBatcher
from medx_core.job_execution.interfaces import Lane
from medx_core.job_execution.scheduling import BatchLimits
from medx_core.questions import Arm, Question
from medx_core.settings import Settings
from medx_core.steering.steering_vector import SteeringVector
from medx_core.vector_registry import VectorRegistry
from tests.language_models import WIDTH, tiny_model
from tests.waiting import until
from tests.web_site import prepared_services, site_settings
from web.tabs.vectors import PROMOTE, RETIRE, ROLL_BACK, VectorHandlers, consequence


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
def part(services) -> VectorHandlers:
    return VectorHandlers(services)


@pytest.fixture
def vectors(services):
    """Two versions for the tiny model, the first one in use."""
    model = tiny_model()
    registry = VectorRegistry(services.vectors, services.settings.vectors_folder)
    return model, registry, [registry.publish(vector_for(model, seed=seed)) for seed in (1, 2)]


@pytest.fixture
def used_by_worker(vectors):
    """Ask a running worker's engine, and say which vector it used."""
    model, registry, _ = vectors
    batcher = MicroBatcher(
        lambda: AnsweringEngine(model, ToTriage(), registry, Settings()), BatchLimits(8, 0.0)
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
    with pytest.raises(BadInput, match="Somebody has changed the vectors meanwhile"):
        part.act(services.people.find("ada"), PROMOTE, second.id, agreed)
    assert services.vectors.get(second.id) == second
    assert "vector promoted" not in {entry.action for entry in services.audit.entries()}


def changed(services, record) -> None:
    with (services.settings.vectors_folder / record.file).open("ab") as file:
        file.write(b" ")


def missing(services, record) -> None:
    (services.settings.vectors_folder / record.file).unlink()


@pytest.mark.parametrize(("spoil", "words"), [(missing, "cannot be read"), (changed, "was changed")])
def test_what_a_worker_could_not_read_is_not_put_to_use(services, part, vectors, spoil, words):
    first, second = vectors[2]
    ada = services.people.find("ada")
    agreed = consequence(PROMOTE, second, present=first, before=None)
    spoil(services, second)
    for refused in (
        lambda: part.ask(ada, PROMOTE, second.id),
        lambda: part.act(ada, PROMOTE, second.id, agreed),
    ):
        with pytest.raises(VectorRefused, match=f"{words}.*medx vectors promote {second.id}"):
            refused()
    assert services.vectors.active(vectors[0].weight_sha256)[Category.TRIAGE].id == first.id


def test_no_way_back_leads_to_a_vector_that_a_worker_could_not_read(services, part, vectors):
    first, second = vectors[2]
    ada = services.people.find("ada")
    services.vectors.promote(second.id)
    missing(services, first)
    with pytest.raises(VectorRefused, match=r"of triage v1 cannot be read.*medx vectors roll-back 2"):
        part.ask(ada, ROLL_BACK, second.id)
    part.ask(ada, RETIRE, second.id)
    assert services.vectors.active(vectors[0].weight_sha256)[Category.TRIAGE].id == second.id


def test_the_list_says_how_each_vector_was_read_or_that_its_file_is_missing(services, part, vectors):
    ada = services.people.find("ada")
    assert part.show(ada)[0].count("reading answer word, 2 pairs") == 2
    missing(services, vectors[2][1])
    listed = part.show(ada)[0]
    assert listed.count("reading answer word, 2 pairs") == 1
    assert "of triage v2 cannot be read; put it back" in listed


def test_one_broken_file_leaves_the_other_categories_steered(services, vectors, caplog):
    model, registry, (first, _) = vectors
    other = registry.publish(replace(vector_for(model, seed=3), category=Category.LITERATURE))
    (services.settings.vectors_folder / first.file).rename(services.settings.vectors_folder / "away")
    started_anew = VectorRegistry(services.vectors, services.settings.vectors_folder)
    for _ in range(2):
        assert list(started_anew.active(model.weight_sha256)) == [Category.LITERATURE]
    assert caplog.text.count("triage questions are answered unsteered: The file") == 1
    engine = AnsweringEngine(model, ToTriage(), started_anew, Settings())
    asked = [replace(Question("Yes or no?", arms=(Arm.STEERED,)), category=kind) for kind in Category]
    used = {question.category: engine.answer(question).answers[0] for question in asked}
    assert used[Category.LITERATURE].vector == other.name
    assert used[Category.TRIAGE].vector is None
    assert "answered unsteered" in used[Category.TRIAGE].note
    (services.settings.vectors_folder / "away").rename(services.settings.vectors_folder / first.file)
    assert set(started_anew.active(model.weight_sha256)) == {Category.TRIAGE, Category.LITERATURE}
