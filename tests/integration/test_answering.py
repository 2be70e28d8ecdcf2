"""The real small model: verdicts, written answers, vectors and provenance from one end to the other."""

import json
import math

import pytest
import torch

from medx_core.answering import AnsweringEngine
from medx_core.categories import Category, Route, RouteSource
from medx_core.questions import ARM_CHOICES, Arm, ArmRow, Mode, Question, Verdict
from medx_core.routing.embedding_router import EmbeddingRouter
from medx_core.settings import Settings
from medx_core.steering.loaded_recipe import NO_VECTOR, NOT_ROUTED
from medx_core.steering.steering_vector import SteeringVector
from tests.recipes import FixedRecipe

pytestmark = pytest.mark.weights
BOTH = ARM_CHOICES["both"]
STATEMENTS = [
    "Insulin lowers the amount of glucose in the blood.",
    "Aspirin is the usual treatment of fever in small children with influenza.",
    "The liver lies in the upper right part of the abdomen.",
    "Is the femur a bone of the leg?",
    "Measles is caused by a virus that spreads through the air from person to person and can be prevented by vaccination.",
]


class FixedRouter:
    """Sends everything the same way."""

    name = "fixed"

    def __init__(self, category: Category | None) -> None:
        self.category = category

    def route(self, texts):
        shares = dict.fromkeys(Category, 1 / 3)
        return tuple(Route(category=self.category, probabilities=shares, router=self.name) for _ in texts)


def vector_for(model, strength=20.0, category=Category.TRIAGE) -> SteeringVector:
    direction = torch.randn(576, generator=torch.Generator().manual_seed(5)) * strength
    return SteeringVector(
        category=category, direction=direction, layer=28, model=model.name, model_sha256=model.weight_sha256,
        strategy="mean_difference", alpha=1.0, reading="answer_word", pairs=200, data_sha256="d", prompt_version="p",
        created_at="2026-01-01", version="triage v1",
    )  # fmt: skip


@pytest.fixture(scope="module")
def engine(real_model):
    recipes = FixedRecipe(vector_for(real_model))
    return AnsweringEngine(real_model, FixedRouter(Category.TRIAGE), recipes, Settings(max_new_tokens=12))


def rows(engine, texts, arms=BOTH):
    questions = [Question(text, arms=arms) for text in texts]
    routes = engine.route(questions)
    return [ArmRow(q, r, arm) for q, r in zip(questions, routes, strict=True) for arm in arms]


def test_a_batch_of_many_gives_the_verdicts_of_batches_of_one(engine):
    many = rows(engine, STATEMENTS)
    together = engine.verdicts(many)
    alone = [engine.verdicts([row])[0] for row in many]
    for batched, single in zip(together, alone, strict=True):
        assert batched.score == pytest.approx(single.score, abs=1e-4)
        assert batched.raw_verdict is single.raw_verdict


def test_steering_changes_the_steered_arm_alone(engine, real_model):
    bare = AnsweringEngine(real_model, FixedRouter(Category.TRIAGE), FixedRecipe(), Settings())
    mixed = engine.verdicts(rows(engine, STATEMENTS[:2]))
    plain = bare.verdicts(rows(bare, STATEMENTS[:2]))
    for steered, unsteered, before in zip(mixed[::2], mixed[1::2], plain[1::2], strict=True):
        assert unsteered.score == pytest.approx(before.score, abs=1e-5)
        assert steered.score != unsteered.score
        assert (steered.vector, steered.layer, steered.alpha) == ("triage v1", 28, 1.0)
        assert (unsteered.vector, unsteered.layer, unsteered.alpha) == (None, None, None)


def test_a_verdict_near_one_half_reads_uncertain_and_keeps_the_raw_one(real_model):
    wide = FixedRecipe(uncertain_margin=0.4999)
    cautious = AnsweringEngine(real_model, FixedRouter(None), wide, Settings())
    answer = cautious.verdicts(rows(cautious, STATEMENTS[:1], (Arm.UNSTEERED,)))[0]
    assert answer.verdict is Verdict.UNCERTAIN
    assert answer.raw_verdict is (Verdict.TRUE if answer.score >= 0.5 else Verdict.FALSE)


def test_without_a_vector_the_steered_arm_goes_unsteered_and_says_why(real_model):
    bare = AnsweringEngine(real_model, FixedRouter(Category.TRIAGE), FixedRecipe(), Settings())
    steered, unsteered = bare.verdicts(rows(bare, STATEMENTS[:1]))
    assert steered.note == NO_VECTOR
    assert "medx vectors build" in steered.note
    assert steered.score == unsteered.score
    lost = AnsweringEngine(real_model, FixedRouter(None), FixedRecipe(), Settings())
    assert lost.verdicts(rows(lost, STATEMENTS[:1]))[0].note == NOT_ROUTED


def test_the_users_category_stands_and_the_routers_view_stays_beside_it(engine):
    question = Question(STATEMENTS[0], category=Category.LITERATURE)
    route = engine.route([question])[0]
    assert (route.category, route.source) == (Category.LITERATURE, RouteSource.USER)
    assert math.isclose(sum(route.probabilities.values()), 1.0)


def test_text_is_written_in_both_arms_with_everything_needed_to_make_it_again(engine):
    answered = engine.answer(Question("What is asthma?", mode=Mode.TEXT, arms=BOTH))
    for answer in answered.answers:
        assert answer.text
        assert answer.finish in {"done", "length"}
        assert answer.tokens <= 12
        assert answer.prompt_version == "text-v1"
        assert answer.seconds > 0


def test_written_answers_do_not_depend_on_the_batch(engine):
    texts = [
        "What is asthma?",
        "Which vaccine protects against measles, and when is it given to small children?",
    ]
    questions = [Question(text, mode=Mode.TEXT, arms=(Arm.UNSTEERED,)) for text in texts]
    routes = engine.route(questions)
    writing = engine.write([ArmRow(q, r, Arm.UNSTEERED) for q, r in zip(questions, routes, strict=True)])
    while not writing.finished:
        writing.step()
    alone = [engine.answer(question).answers[0].text for question in questions]
    assert [answer.text for answer in writing.answers()] == alone


def test_the_json_of_ask_holds_the_contract(engine):
    shown = json.loads(json.dumps(engine.answer(Question(STATEMENTS[0], arms=BOTH)).as_json()))
    assert set(shown["route"]) >= {"category", "probabilities", "abstained"}
    assert [answer["arm"] for answer in shown["answers"]] == ["steered", "unsteered"]
    contract = {
        "arm",
        "verdict",
        "score",
        "text",
        "model",
        "model_sha256",
        "vector",
        "layer",
        "alpha",
        "prompt_version",
        "seconds",
        "recipe",
        "raw_verdict",
    }
    assert shown["recipe"] == shown["answers"][0]["recipe"]
    assert shown["emergency"] is False
    assert all(contract <= set(answer) for answer in shown["answers"])


def test_the_seam_fits_the_real_router():
    assert {"name", "route"} <= set(dir(EmbeddingRouter)) | set(EmbeddingRouter.__dict__)
