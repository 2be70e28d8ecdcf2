"""One engine answers rows of all strategies together, and applies none where it means nothing."""

import math
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from medx_core.answering import AnsweringEngine
from medx_core.categories import Category, Route, RouteSource
from medx_core.errors import VectorRefused
from medx_core.job_execution.batching import MicroBatcher
from medx_core.job_execution.interfaces import Lane
from medx_core.job_execution.scheduling import BatchLimits
from medx_core.prompts import STATEMENT_PROMPT
from medx_core.questions import ARM_CHOICES, Arm, ArmRow, Mode, Question, Verdict
from medx_core.settings import Settings
from medx_core.steering.gate import Gate
from medx_core.steering.hooks import recorded, steered
from medx_core.steering.loaded_recipe import NOT_FOR_TEXT, OTHER_PROMPT
from medx_core.steering.positions import Positions
from medx_core.steering.steering_vector import SteeringVector
from tests.language_models import WIDTH, tiny_model
from tests.recipes import FixedRecipe

WORDS = sorted({word for text, _ in STATEMENT_PROMPT.shots for word in text.split()})
TEXTS = [" ".join(WORDS[(7 * i + j) % len(WORDS)] for j in range(1 + i % 9)) for i in range(16)]
CONSTANT = SteeringVector(
    category=Category.TRIAGE, direction=torch.linspace(-2, 2, WIDTH), layer=1, model="tiny-llama",
    model_sha256="0" * 64, strategy="mean_difference", alpha=1.0, reading="answer_word", pairs=20, data_sha256="d",
    prompt_version=STATEMENT_PROMPT.version, created_at="2026-01-01", version="triage v1",
)  # fmt: skip
GATED = replace(
    CONSTANT, category=Category.LITERATURE, strategy="gated", alpha=4.0, b0=0.5, version="literature v1",
    gate=Gate(torch.linspace(1, -1, WIDTH), 0.1), direction=torch.linspace(0.5, 1.5, WIDTH),
)  # fmt: skip
AMPLIFY = replace(CONSTANT, category=Category.PATIENT_FACING, strategy="amplify", layer=0, version="p v1")


class RouterByQuestion:
    """Routes to what the question says; these tests choose every category themselves."""

    name = "chosen"

    def route(self, texts):
        shares = dict.fromkeys(Category, 1 / 3)
        return tuple(Route(category=None, probabilities=shares, router=self.name) for _ in texts)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@contextmanager
def counted(model, passes):
    """Note each pass of the network."""
    hook = model.network.base_model.register_forward_pre_hook(lambda *_: passes.append(1))
    yield
    hook.remove()


def engine(model, *vectors, max_dose=math.inf, recipe_max_dose=None, **changes):
    # the states of a random model are short, so that every push is a large one
    limits = Settings(max_new_tokens=6, max_dose=max_dose)
    recipes = FixedRecipe(*vectors, max_dose=recipe_max_dose, **changes)
    return AnsweringEngine(model, RouterByQuestion(), recipes, limits)


def asked(category, mode=Mode.VERDICT, text=TEXTS[5]):
    return Question(text, mode=mode, category=category, arms=ARM_CHOICES["both"])


def rows_of(answering, questions):
    routes = answering.route(questions)
    return [ArmRow(q, r, arm) for q, r in zip(questions, routes, strict=True) for arm in q.arms]


def test_a_batch_of_32_mixed_rows_gives_the_scores_of_32_batches_of_one(model):
    answering = engine(model, CONSTANT, GATED, AMPLIFY)
    categories = list(Category)
    rows = rows_of(answering, [asked(categories[i % 3], text=text) for i, text in enumerate(TEXTS)])
    assert len(rows) == 32
    together = answering.verdicts(rows)
    for answer, row in zip(together, rows, strict=True):
        assert answer.score == pytest.approx(answering.verdicts([row])[0].score, abs=1e-5)
    steered, plain = together[::2], together[1::2]
    assert all(a.score != b.score for a, b in zip(steered, plain, strict=True)), (
        "every strategy did something"
    )
    assert {answer.vector for answer in steered} == {"triage v1", "literature v1", "p v1"}


def test_two_questions_of_one_gated_category_are_moved_by_different_amounts(model):
    answering = engine(model, GATED)
    answers = answering.verdicts(
        rows_of(answering, [asked(Category.LITERATURE, text=text) for text in TEXTS[3:5]])
    )
    moved = [
        torch.logit(torch.tensor(answers[i].score)) - torch.logit(torch.tensor(answers[i + 1].score))
        for i in (0, 2)
    ]
    assert abs(moved[0] - moved[1]) > 1e-4


def test_an_input_dependent_vector_writes_no_text_unless_that_is_set(model):
    quiet, bold = engine(model, GATED), engine(model, GATED, gated_text=True)
    question = asked(Category.LITERATURE, Mode.TEXT)
    steered, plain = quiet.answer(question).answers
    assert (steered.note, steered.vector) == (NOT_FOR_TEXT, None)
    assert steered.text == plain.text
    assert (bold.answer(question).answers[0].note, bold.answer(question).answers[0].vector) == (
        "",
        "literature v1",
    )


def test_an_input_dependent_vector_is_not_applied_to_another_prompt(model):
    answering = engine(model, GATED, CONSTANT)
    question = asked(Category.LITERATURE, text=f"{TEXTS[5]}?")
    steered, plain = answering.answer(question).answers
    assert (steered.note, steered.vector) == (OTHER_PROMPT, None)
    assert steered.score == pytest.approx(plain.score, abs=1e-6)
    assert answering.answer(replace(question, category=Category.TRIAGE)).answers[0].vector == "triage v1"


@pytest.mark.parametrize("positions", [Positions.LAST, Positions.LAST_PROMPT, Positions.ALL])
def test_a_verdict_is_steered_at_the_answer_token_wherever_a_text_would_be(model, positions):
    usual = engine(model, CONSTANT).answer(asked(Category.TRIAGE)).answers[0]
    other = engine(model, replace(CONSTANT, positions=positions)).answer(asked(Category.TRIAGE)).answers[0]
    assert other.score == usual.score


def test_a_verdict_may_be_steered_at_every_token_beside_rows_that_share_the_beginning(model):
    """Each row as the network alone gives it, with the whole prompt moved in the one row that asks for it."""
    every = replace(CONSTANT, verdict_positions=Positions.ALL)
    never = replace(AMPLIFY, verdict_positions=Positions.ANSWER)
    answering = engine(model, every, never, GATED)
    rows = rows_of(answering, [asked(category, text=TEXTS[3]) for category in Category])
    answers = {
        (row.route.category, row.arm): answer
        for row, answer in zip(rows, answering.verdicts(rows), strict=True)
    }
    prompt = torch.tensor([model.tokenizer(STATEMENT_PROMPT.filled(TEXTS[3]))["input_ids"]])
    with torch.inference_mode(), steered(model.network, every.plan.at(Positions.ALL)):
        logits = model.network(input_ids=prompt).logits[0, -1]
    yes, no = (model.tokenizer.convert_tokens_to_ids(word) for word in (" Yes", " No"))
    moved = answers[Category.TRIAGE, Arm.STEERED].score
    assert moved == pytest.approx(torch.sigmoid(logits[yes] - logits[no]).item(), abs=1e-5)
    assert moved != pytest.approx(engine(model, CONSTANT).verdicts(rows[:1])[0].score, abs=1e-4)
    still = [answers[Category.PATIENT_FACING, arm].score for arm in Arm]
    assert still[0] == still[1], "a window in the answer leaves the verdict as it is"
    gated = engine(model, GATED).verdicts([row for row in rows if row.route.category is Category.LITERATURE])
    assert answers[Category.LITERATURE, Arm.STEERED].score == pytest.approx(gated[0].score, abs=1e-6)


def test_on_the_last_prompt_token_alone_only_the_first_written_token_is_steered(model):
    """A strong push makes one token of every choice; on the prompt alone, the model goes on by itself."""
    word = len(model.tokenizer) - 1
    text = model.tokenizer.decode([word])
    says_it = model.network.get_output_embeddings().weight[word].detach()
    strong = replace(CONSTANT, direction=says_it, layer=2, alpha=1000.0)
    everywhere = engine(model, strong).answer(asked(Category.TRIAGE, Mode.TEXT)).answers[0]
    first = engine(model, replace(strong, positions=Positions.LAST_PROMPT))
    written = first.answer(asked(Category.TRIAGE, Mode.TEXT)).answers[0]
    assert everywhere.text == model.tokenizer.decode([word] * 6)
    assert written.text.startswith(text)
    assert written.text != everywhere.text


def test_every_steered_answer_says_its_dose_and_one_above_the_limit_is_refused(model):
    rows = rows_of(engine(model, CONSTANT), [asked(Category.TRIAGE, text=text) for text in TEXTS[1:4]])
    answers = engine(model, CONSTANT).verdicts(rows)
    prompts = [
        torch.tensor([model.tokenizer(STATEMENT_PROMPT.filled(row.question.text))["input_ids"]])
        for row in rows
    ]
    for answer, prompt in zip(answers, prompts, strict=True):
        with torch.inference_mode(), recorded(model.network, [1]) as states:
            model.network(input_ids=prompt)
        wanted = float(CONSTANT.direction.norm() / states[1].norm())
        assert answer.dose == (pytest.approx(wanted, rel=1e-4) if answer.arm is Arm.STEERED else None)
    limited = engine(model, CONSTANT, max_dose=0.01)
    for mode in Mode:
        refused = limited.answer(replace(rows[0].question, mode=mode))
        assert "MEDX_MAX_DOSE allows 0.01" in refused.refusal
        assert refused.route.category is Category.TRIAGE
        (unsteered,) = refused.answers
        assert (unsteered.arm, unsteered.dose) == (Arm.UNSTEERED, None), "which no vector moves"


def limit_between(answers):
    """A limit that the row with the largest dose alone is above."""
    *_, second, largest = sorted(answer.dose for answer in answers if answer.dose is not None)
    assert largest > second
    return (second + largest) / 2


def test_a_row_above_the_limit_is_refused_by_itself_and_the_others_keep_their_answers_of_that_pass(model):
    free = engine(model, CONSTANT)
    rows = rows_of(free, [asked(Category.TRIAGE, text=text) for text in TEXTS])
    before = free.verdicts(rows)
    limit = limit_between(before)
    for limited, named in (
        (engine(model, CONSTANT, max_dose=limit), "MEDX_MAX_DOSE allows"),
        (engine(model, CONSTANT, max_dose=1e6, recipe_max_dose=limit), "the recipe's max_dose allows"),
        (engine(model, CONSTANT, max_dose=limit, recipe_max_dose=1e6), "MEDX_MAX_DOSE allows"),
    ):
        limited.verdicts(rows[:2])  # reads the prompt's beginning
        with counted(model, passes := []):
            after = limited.verdicts(rows)
        refused = [place for place, answer in enumerate(after) if isinstance(answer, VectorRefused)]
        assert refused == [max(range(len(rows)), key=lambda place: before[place].dose or 0.0)]
        assert named in str(after[refused[0]])
        assert [each.score for place, each in enumerate(after) if place not in refused] == [
            each.score for place, each in enumerate(before) if place not in refused
        ]
        with counted(model, again := []):
            free.verdicts(rows)
        assert len(passes) == len(again)


def test_a_batch_in_which_every_row_is_refused_costs_one_pass(model):
    limited = engine(model, CONSTANT, max_dose=1e-6)
    calls = []

    class Counting:
        route = staticmethod(limited.route)
        refresh_recipe = staticmethod(limited.refresh_recipe)

        def verdicts(self, rows):
            calls.append(len(rows))
            return limited.verdicts(rows)

    batcher = MicroBatcher(Counting, BatchLimits(64, 10.0))
    asked_all = [asked(Category.TRIAGE, text=text) for text in TEXTS] * 2
    futures = [batcher.submit(question, lane=Lane.BATCH) for question in asked_all[:32]]
    batcher.start()
    assert all(future.result(60).refusal for future in futures)
    batcher.close()
    assert batcher.answered_questions == 0
    assert calls == [64], "halving came to 63 passes"


def test_a_text_above_the_limit_ends_refused_and_the_one_beside_it_is_written_as_alone(model):
    free = engine(model, CONSTANT)
    questions = [asked(Category.TRIAGE, Mode.TEXT, text) for text in TEXTS[2:4]]
    questions = [replace(question, arms=(Arm.STEERED,)) for question in questions]
    alone = [free.answer(question).answers[0] for question in questions]
    limited = engine(model, CONSTANT, max_dose=limit_between(alone))
    batcher = MicroBatcher(lambda: limited, BatchLimits(len(questions), 10.0))
    futures = [batcher.submit(question, lane=Lane.BATCH) for question in questions]
    batcher.start()
    fine = min((0, 1), key=lambda place: alone[place].dose)
    assert "allows" in futures[1 - fine].result(60).refusal
    assert not futures[1 - fine].result(60).answers
    written = futures[fine].result(60).answers[0]
    batcher.close()
    assert (written.text, written.tokens) == (alone[fine].text, alone[fine].tokens)


def test_the_dose_of_a_text_is_read_while_it_is_written_and_not_after_its_end(model):
    later = replace(CONSTANT, positions=Positions.parse("1:3"))
    answering = engine(model, later, replace(later, category=Category.LITERATURE))
    rows = rows_of(
        answering, [asked(category, Mode.TEXT) for category in (Category.TRIAGE, Category.LITERATURE)]
    )
    writing = answering.write(rows)
    writing.step()
    assert [answer.dose for answer in writing.answers()] == [0.0, None, 0.0, None]
    writing.cancel(0)
    while not writing.finished:
        writing.step()
    ended, written = (writing.answers()[row].dose for row in (0, 2))
    assert ended == 0.0
    assert written > 0.0


@pytest.mark.parametrize(
    "positions", [Positions.LAST, Positions.LAST_PROMPT, Positions.ANSWER, Positions.ALL]
)
def test_both_arms_of_a_text_are_written_as_each_alone(model, positions):
    answering = engine(model, replace(CONSTANT, positions=positions, alpha=3.0), max_dose=1000.0)
    questions = [asked(Category.TRIAGE, Mode.TEXT, text) for text in TEXTS[2:4]]
    together = answering.write(rows_of(answering, questions))
    while not together.finished:
        together.step()
    alone = [
        answering.answer(replace(question, arms=(arm,))).answers[0]
        for question in questions
        for arm in question.arms
    ]
    for ours, own in zip(together.answers(), alone, strict=True):
        assert (ours.text, ours.tokens, ours.vector) == (own.text, own.tokens, own.vector)
        assert (ours.dose or 0) == pytest.approx(own.dose or 0, rel=1e-3)
    assert together.answers()[0].text != together.answers()[1].text


def test_a_row_that_the_router_left_open_stays_unsteered(model):
    answering = engine(model, CONSTANT)
    route = Route(category=None, probabilities={}, router="none", source=RouteSource.ROUTER)
    question = Question(TEXTS[1], arms=ARM_CHOICES["both"])
    answers = answering.verdicts([ArmRow(question, route, arm) for arm in question.arms])
    assert answers[0].vector is None
    assert answers[0].score == answers[1].score


def test_the_threshold_of_the_recipe_decides_and_one_half_of_the_score_lies_on_it(model):
    usual = engine(model)
    questions = [asked(Category.TRIAGE, text=text) for text in TEXTS]
    before = usual.verdicts(rows_of(usual, questions))
    differences = [math.log(answer.score / (1 - answer.score)) for answer in before]
    threshold = sorted(differences)[len(differences) // 2] + 1e-4
    moved = engine(model, threshold=threshold)
    after = moved.verdicts(rows_of(moved, questions))
    said = [answer.raw_verdict is Verdict.TRUE for answer in after]
    assert said == [difference >= threshold for difference in differences]
    assert len(set(said)) == 2
    for answer, difference in zip(after, differences, strict=True):
        assert answer.score == pytest.approx(1 / (1 + math.exp(threshold - difference)), abs=1e-5)
        assert answer.recipe == moved.description.recipe != before[0].recipe
