"""What an admin does with recipes on the page reaches a worker that runs: real engine, real batcher, tiny model."""

from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
import torch
from sqlalchemy import text

from medx_core.answering import AnsweringEngine
from medx_core.categories import Category, Route
from medx_core.data.question_files import FileRow
from medx_core.errors import BadInput, RecipeUnusable, VectorRefused
from medx_core.job_execution.batching import MicroBatcher
from medx_core.job_execution.executor import JobExecutor
from medx_core.job_execution.interfaces import Lane
from medx_core.job_execution.leases import LeaseKeeper, LeaseTerms
from medx_core.job_execution.scheduling import BatchLimits
from medx_core.jobs.messages import AnswerRequest
from medx_core.jobs.snapshots import recipes_in_words
from medx_core.jobs.status import ItemStatus, JobKind
from medx_core.jobs.submission import Submission
from medx_core.questions import Arm, Mode, Question
from medx_core.recipes import Recipe
from medx_core.settings import Settings
from medx_core.steering.loaded_recipe import REFUSED
from medx_core.steering.steering_vector import SteeringVector
from medx_core.storage.evidence import KnownEvidence
from medx_core.storage.jobs import result_rows
from medx_core.storage.leases import LeaseStore
from medx_core.vector_registry import VectorRegistry
from tests.language_models import WIDTH, tiny_model
from tests.samples import submission
from tests.waiting import until
from tests.web_site import prepared_services, site_settings
from web.following import QuestionView
from web.tabs.admin import health_html
from web.tabs.ask import question_html
from web.tabs.recipes import PROMOTE, RETIRE, ROLL_BACK, RecipeHandlers, consequence


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
def part(services) -> RecipeHandlers:
    return RecipeHandlers(services)


@pytest.fixture
def registry(services) -> VectorRegistry:
    return VectorRegistry(services.database, services.settings)


@pytest.fixture
def model():
    return tiny_model()


@pytest.fixture
def recipes(services, registry, model):
    """The built-in recipe with a first vector, which answers, and a candidate with a second one."""
    _, second = (registry.publish(vector_for(model, seed=seed)) for seed in (1, 2))
    built_in = registry.answering(model.identity).recipe
    other = Recipe.model_validate(built_in.model_dump() | {"steering": {"triage": second.steering}})
    candidate = services.recipes.keep(other, name="second", model=model.name)
    return services.recipes.get(built_in.id), candidate


@pytest.fixture
def used_by_worker(model, registry, recipes):
    """Ask a running worker's engine, and say which vector and recipe it used."""
    batcher = MicroBatcher(
        lambda: AnsweringEngine(model, ToTriage(), registry, Settings(max_dose=1e6)), BatchLimits(8, 0.0)
    )
    batcher.start()
    question = Question("Yes or no?", arms=(Arm.STEERED,))

    def used() -> tuple[str | None, str | None]:
        answer = batcher.submit(question, lane=Lane.INTERACTIVE).result(30).answers[0]
        return answer.vector, answer.recipe

    yield used
    batcher.close()


def test_a_running_worker_takes_up_what_was_promoted_and_goes_back_from_what_was_retired(
    services, part, recipes, used_by_worker
):
    built_in, candidate = recipes
    ada = services.people.find("ada")
    assert used_by_worker() == ("triage v1", built_in.id)
    part.act(ada, PROMOTE, candidate.id, consequence(PROMOTE, candidate, present=None, before=None))
    until(lambda: used_by_worker() == ("triage v2", candidate.id))
    present = services.recipes.get(candidate.id)
    part.act(ada, RETIRE, present.id, consequence(RETIRE, present, present=present, before=None))
    until(lambda: used_by_worker() == ("triage v1", built_in.id))
    acts = [entry.action for entry in services.audit.entries() if entry.action.startswith("recipe")]
    assert acts == ["recipe retired", "recipe promoted"]


def test_a_job_stays_with_the_recipe_it_began_with_until_that_is_withdrawn_and_then_says_so(
    services, model, registry, recipes
):
    built_in, candidate = recipes
    third = services.recipes.keep(candidate.recipe.changed(threshold=0.5), name="third", model=model.name)
    engine = AnsweringEngine(model, ToTriage(), registry, Settings(max_dose=1e6))
    batcher = MicroBatcher(lambda: engine, BatchLimits(8, 0.0))
    batcher.start()
    until(batcher.ready.done)
    terms = LeaseTerms("w", seconds=30, max_attempts=3)
    leases = LeaseStore(services.database)
    executor = JobExecutor(leases, batcher, LeaseKeeper(leases, terms), terms)
    job, other = (
        services.jobs.submit(submission(9, kind=JobKind.BATCH), chunk_rows=9).public_id for _ in range(2)
    )

    def answered_by(public_id, rows):
        items = [item.id for item in services.jobs.every_item(public_id)][rows]
        executor.run(AnswerRequest(job_id=public_id, item_ids=tuple(items)), lane=Lane.BATCH)
        batcher.submit(Question("Any?"), lane=Lane.BATCH).result(30)
        done = list(services.jobs.every_item(public_id))[rows]
        return {stored.answer.recipe for item in done for stored in item.answers}

    def in_use(record):
        services.recipes.promote(record.id)
        until(
            lambda: (
                batcher.submit(Question("Any?"), lane=Lane.BATCH).result(30).answers[0].recipe == record.id
            )
        )

    in_use(candidate)
    assert answered_by(job, slice(0, 2)) == {candidate.id}
    in_use(built_in)
    assert answered_by(other, slice(0, 2)) == {built_in.id}
    assert answered_by(job, slice(2, 4)) == {candidate.id}, "a promotion in the middle changes nothing"
    assert recipes_in_words(services.jobs.recipes(job)) == ""
    services.recipes.retire(candidate.id)
    in_use(third)
    assert answered_by(job, slice(4, 6)) == {third.id}
    in_use(built_in)
    assert answered_by(job, slice(6, 9)) == {third.id}, "and it stays with the one that took its place"
    assert answered_by(other, slice(2, 9)) == {built_in.id}
    said = recipes_in_words(services.jobs.recipes(job))
    assert said.startswith("Answered by 2 recipes, since the one that it began with was withdrawn")
    assert f"second ({candidate.id}) 4 rows, third ({third.id}) 5 rows" in said
    assert services.jobs.get(job).as_json()["recipe"] == third.id
    batcher.close()


def test_a_promoted_recipe_whose_vector_is_gone_answers_nothing_until_another_one_is_in_use(
    services, model, registry, part, recipes, used_by_worker
):
    built_in, candidate = recipes
    services.recipes.promote(candidate.id)
    until(lambda: used_by_worker() == ("triage v2", candidate.id))
    file = file_of(services, "triage v2")
    file.rename(file.with_name("away"))

    def refused():
        try:
            used_by_worker()
        except RecipeUnusable as unusable:
            return str(unusable)

    sentence = until(refused)
    assert "second (" in sentence
    assert "of triage v2 cannot be read" in sentence
    started_anew = AnsweringEngine(model, ToTriage(), registry, services.settings)
    told = started_anew.description.report(services.settings)
    assert (told["recipe"], told["recipe_name"], told["refused"]) == (candidate.id, "second", sentence)
    services.health.beat("w1", "worker", {"stage": "waiting", **told})
    assert services.refusal() == sentence
    listed, *_ = part.show(services.people.find("ada"))
    assert "of triage v2 cannot be read" in listed
    assert "answers now" not in listed
    assert f"answers nothing: {sentence}" in unescape(health_html(services))
    services.recipes.roll_back(candidate.recipe.model_sha256, "float32")
    until(lambda: refused() is None)
    assert used_by_worker() == ("triage v1", built_in.id)


def test_a_worker_that_finds_its_recipe_damaged_waits_started_or_starting_and_answers_once_it_is_put_right(
    services, model, registry, part, recipes, used_by_worker
):
    _, candidate = recipes
    services.recipes.promote(candidate.id)
    until(lambda: used_by_worker() == ("triage v2", candidate.id))
    with services.database.write() as session:
        session.connection().execute(
            text("UPDATE recipe SET content = :content WHERE id = :id"),
            {"content": '{"threshold": 0', "id": candidate.id},
        )

    def refused():
        try:
            used_by_worker()
        except RecipeUnusable as unusable:
            return str(unusable)

    sentence = until(refused)
    assert f"second ({candidate.id}), cannot answer, and no other one answers in its place" in sentence
    started_anew = AnsweringEngine(model, ToTriage(), registry, services.settings)
    assert started_anew.description.refused == sentence
    listed, *_ = part.show(services.people.find("ada"))
    assert f"medx recipes retire {candidate.id}" in listed
    assert "answers now" not in listed
    services.recipes.keep(candidate.recipe, name="second", model="tiny")
    until(lambda: refused() is None)


def test_a_recipe_with_a_prompt_that_the_model_refuses_is_not_put_to_use_and_in_use_it_answers_nothing(
    services, model, registry, part, recipes
):
    built_in, candidate = recipes
    ada = services.people.find("ada")
    for changes, words in (
        ({"true_word": " No"}, "cannot tell the answer words"),
        ({"frame": "Is it so?"}, "does not hold the question"),
        ({"frame": "{statement}: {}"}, "no one place for the question"),
        ({"chat": True}, "has no chat template"),
        ({"instruction": "Think. " * 600}, "longer than the model tiny reads"),
    ):
        prompt = replace(built_in.recipe.prompt, version=f"own {words}", **changes)
        kept = services.recipes.keep(built_in.recipe.changed(prompt=prompt), name=words, model=model.name)
        told = AnsweringEngine(model, ToTriage(), registry, services.settings).description
        assert words in told.unaskable[kept.id]
        assert not told.refused
        services.health.beat("w1", "worker", {"stage": "ready", **told.report(services.settings)})
        with pytest.raises(BadInput, match=words):
            part.ask(ada, PROMOTE, kept.id)
        services.recipes.promote(kept.id)
        engine = AnsweringEngine(model, ToTriage(), registry, services.settings)
        assert words in engine.description.refused
        with pytest.raises(RecipeUnusable, match=words):
            engine.answer(Question("Yes or no?"))
        services.recipes.promote(candidate.id)
        with pytest.raises(BadInput, match=words):
            part.ask(ada, ROLL_BACK, candidate.id)
        services.recipes.retire(kept.id)


class Alarmed(ToTriage):
    """Finds an emergency in everything."""

    def route(self, texts):
        return tuple(Route(Category.TRIAGE, {Category.TRIAGE: 1.0}, red_flag=True) for _ in texts)


@pytest.mark.parametrize("mode", list(Mode))
def test_what_is_refused_or_fails_keeps_its_emergency_line_and_the_answer_that_needs_no_vector(
    services, model, registry, recipes, mode
):
    limited = AnsweringEngine(
        model, Alarmed(), registry, services.settings.model_copy(update={"max_dose": 1e-3})
    )
    batcher = MicroBatcher(lambda: limited, BatchLimits(8, 0.0))
    terms = LeaseTerms("w", seconds=30, max_attempts=3)
    leases = LeaseStore(services.database)
    executor = JobExecutor(leases, batcher, LeaseKeeper(leases, terms), terms)
    texts = ("Chest pain that spreads to the left arm?", "Chest pain " * 400)
    rows = tuple(FileRow(number, "", text) for number, text in enumerate(texts, start=1))
    asked = Submission(JobKind.BATCH, mode, (Arm.STEERED, Arm.UNSTEERED), rows)
    job = services.jobs.submit(asked, chunk_rows=9)
    batcher.start()

    def items():
        return list(services.jobs.every_item(job.public_id))

    for _ in range(2):  # it may be tried again, and no arm is stored twice
        executor.run(
            AnswerRequest(job_id=job.public_id, item_ids=tuple(each.id for each in items())), lane=Lane.BATCH
        )
        refused, too_long = items()
        assert [item.status for item in items()] == [ItemStatus.QUARANTINED] * 2
        assert "not answered steered" in refused.reason
        assert "longer than the model" in too_long.reason
        assert [item.route.red_flag for item in items()] == [True, True]
        assert [stored.answer.arm for stored in refused.answers] == [Arm.UNSTEERED]
        assert too_long.answers == ()
        services.health.retry_quarantined(refused.id)
    batcher.close()
    progress = services.jobs.get(job.public_id).progress
    assert (progress.answered, batcher.answered_questions) == (0, 0)
    steered, unsteered, *_ = result_rows([refused, too_long], job.arms)
    assert (steered.status, unsteered.status) == ("quarantined", "answered")
    assert (steered.emergency, unsteered.emergency) == (True, True)
    assert (steered.verdict, steered.text) == ("", "")
    assert "not answered steered" not in unsteered.reason
    for item in (refused, too_long):
        shown = question_html(QuestionView(job, item), KnownEvidence())
        assert "emergency" in shown
        assert ("Unsteered" in shown) is bool(item.answers)
        assert unescape(shown).count(item.reason.rstrip(".")) == 1


def test_a_recipe_for_another_model_than_the_workers_say_they_have_is_not_put_to_use(services, part, recipes):
    _, candidate = recipes
    other = Recipe.model_validate(candidate.recipe.model_dump() | {"identity_sha256": "cd" * 32})
    kept = services.recipes.keep(other, name="other", model="tiny")
    model = ("model_name", "weight_sha256", "number_type", "identity_sha256")
    told = dict(zip(model, ("tiny", other.model_sha256, "float32", "ef" * 32), strict=True))
    services.health.beat("w1", "worker", {"ready": True, **told})
    with pytest.raises(BadInput, match="another tokenizer, chat template or configuration than tiny has"):
        part.ask(services.people.find("ada"), PROMOTE, kept.id)


def test_what_would_now_do_something_else_than_was_agreed_is_not_done(services, part, recipes):
    built_in, candidate = recipes
    agreed = consequence(PROMOTE, candidate, present=None, before=None)
    services.recipes.promote(built_in.id)
    with pytest.raises(BadInput, match="Somebody has changed the recipes meanwhile"):
        part.act(services.people.find("ada"), PROMOTE, candidate.id, agreed)
    assert services.recipes.get(candidate.id) == candidate
    assert "recipe promoted" not in {entry.action for entry in services.audit.entries()}


def file_of(services, name):
    (record,) = (vector for vector in services.vectors.list() if vector.name == name)
    return services.settings.vectors_folder / record.file


def changed(file) -> None:
    with file.open("ab") as content:
        content.write(b" ")


@pytest.mark.parametrize(("spoil", "words"), [(Path.unlink, "cannot be read"), (changed, "was changed")])
def test_what_a_worker_could_not_read_is_not_put_to_use(services, part, recipes, spoil, words):
    built_in, candidate = recipes
    ada = services.people.find("ada")
    agreed = consequence(PROMOTE, candidate, present=None, before=None)
    spoil(file_of(services, "triage v2"))
    for refused in (
        lambda: part.ask(ada, PROMOTE, candidate.id),
        lambda: part.act(ada, PROMOTE, candidate.id, agreed),
    ):
        with pytest.raises(VectorRefused, match=f"{words}.*medx recipes promote {candidate.id}"):
            refused()
    assert services.recipes.in_use(built_in.recipe.model_sha256, "float32") is None


def test_no_way_back_leads_to_a_recipe_that_a_worker_could_not_read(services, part, recipes):
    built_in, candidate = recipes
    ada = services.people.find("ada")
    for record in recipes:
        services.recipes.promote(record.id)
    file_of(services, "triage v1").unlink()
    with pytest.raises(VectorRefused, match=r"of triage v1 cannot be read.*medx recipes rollback"):
        part.ask(ada, ROLL_BACK, candidate.id)
    part.ask(ada, RETIRE, candidate.id)
    assert services.recipes.in_use(built_in.recipe.model_sha256, "float32").id == candidate.id


def test_the_lists_say_what_answers_and_how_each_vector_was_read_or_that_its_file_is_missing(
    services, part, recipes
):
    ada = services.people.find("ada")
    listed, *_, vectors = part.show(ada)
    assert listed.count("answers now") == 1
    assert listed.count("not evaluated") == 2
    assert "triage v2" in listed
    assert vectors.count("reading answer word, 2 pairs") == 2
    file_of(services, "triage v2").unlink()
    vectors = part.show(ada)[-1]
    assert vectors.count("reading answer word, 2 pairs") == 1
    assert "of triage v2 cannot be read; put it back" in vectors


def test_one_broken_file_leaves_the_other_categories_steered(services, model, registry, recipes, caplog):
    other = registry.publish(replace(vector_for(model, seed=3), category=Category.LITERATURE))
    first = file_of(services, "triage v1")
    first.rename(first.with_name("away"))
    started_anew = VectorRegistry(services.database, services.settings)
    for _ in range(2):
        assert list(started_anew.answering(model.identity).vectors) == ["literature"]
    assert caplog.text.count("triage questions are answered unsteered: The file") == 1
    engine = AnsweringEngine(model, ToTriage(), started_anew, Settings(max_dose=1e6))
    asked = [replace(Question("Yes or no?", arms=(Arm.STEERED,)), category=kind) for kind in Category]
    used = {question.category: engine.answer(question).answers[0] for question in asked}
    assert used[Category.LITERATURE].vector == other.name
    assert used[Category.TRIAGE].vector is None
    assert used[Category.TRIAGE].note.startswith(REFUSED)
    first.with_name("away").rename(first)
    assert set(started_anew.answering(model.identity).vectors) == {"triage", "literature"}
