"""What is built is what is measured: one rule for the examples, one for twins, and vectors that are equal bit for bit."""

import random
from dataclasses import replace

import pytest
import torch

from medx_core.categories import Category
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.errors import BadInput
from medx_core.evaluation.fit import fit_arms
from medx_core.evaluation.request import EvaluationRequest
from medx_core.fitting.build import build_vector
from medx_core.fitting.examples import drawn_examples, gate_statements
from medx_core.fitting.spec import SWEPT, FitSpec, SweepSpec
from medx_core.fitting.sweep import sweep
from medx_core.prompts import STATEMENT_PROMPT
from medx_core.steering.names import BUILDABLE, GATED, RANDOM, READINGS, SHUFFLED
from medx_core.traces.statement_runner import StatementRunner
from tests.language_models import tiny_model

WORDS = sorted({word for text, _ in STATEMENT_PROMPT.shots for word in text.split()})
PROMPT = replace(
    STATEMENT_PROMPT, true_word=" Yes the", false_word=" No the"
)  # words that survive a full stop


def quiet(*_told):
    """Say nothing."""


def twins(pairs, category):
    """Statements of known words in which one word decides."""
    chosen, statements = random.Random(pairs), []
    for number in range(pairs):
        before = [chosen.choice(WORDS[2:]) for _ in range(5)]
        for truth in (True, False):
            text = " ".join([*before[:2], WORDS[0] if truth else WORDS[1], *before[2:]])
            name = f"{category}-{number}"
            statements.append(LabelledStatement(text, truth, name, category, pair=name))
    return statements


# More than the paper's 200 of one category, so that examples are drawn; fewer of the other.
TRIAGE, LITERATURE = twins(105, Category.TRIAGE), twins(40, Category.LITERATURE)
TRAIN = [*TRIAGE, *LITERATURE]


@pytest.fixture(scope="module")
def runner():
    return StatementRunner(tiny_model(), PROMPT)


@pytest.fixture(scope="module")
def measured(runner):
    """What an evaluation fits."""
    prompt = "verdict-statement-yes-no-4shot-v1"
    return fit_arms(lambda _prompt: runner, TRAIN, EvaluationRequest("statements.csv", prompt=prompt), quiet)


def built(runner, train, **spec):
    return build_vector(runner, Category.TRIAGE, train, FitSpec(**{"prompt": PROMPT, **spec}))


@pytest.mark.parametrize("reading", READINGS)
def test_the_constant_vector_that_is_built_is_the_one_that_is_measured(runner, measured, reading):
    fits = measured.paper[reading].fits
    for category, train in ((None, TRAIN), (Category.TRIAGE, TRIAGE), (Category.LITERATURE, LITERATURE)):
        vector, fit = built(runner, train, reading=reading), fits[category]
        assert torch.equal(vector.direction, fit.direction)
        assert (vector.layer, vector.alpha, vector.reading) == (fit.layer, fit.alpha, reading)
        assert vector.pairs == len(fit.groups) == min(200, len(train))


def test_the_gate_that_is_built_is_the_one_that_is_measured(runner, measured):
    vector, fit = built(runner, TRAIN, strategy=GATED), measured.gated.chosen
    assert torch.equal(vector.direction, fit.direction)
    assert torch.equal(vector.gate.weight, fit.gate.weight)
    assert (vector.gate.bias, vector.b0) == (fit.gate.bias, fit.b0)
    assert (vector.layer, vector.alpha, vector.fitted_on) == (fit.layer, fit.alpha, "twins")
    assert vector.diagnostics["choices"] == measured.gated.as_json()


@pytest.mark.parametrize(("strategy", "version"), [(RANDOM, "random"), (SHUFFLED, "shuffled")])
def test_the_controls_that_are_built_are_those_that_are_measured(runner, measured, strategy, version):
    for reading in READINGS:
        fit = measured.paper[reading].fits[Category.LITERATURE]
        vector = built(runner, LITERATURE, strategy=strategy, reading=reading, seed=7)
        assert torch.equal(vector.direction, getattr(fit, version)(7).direction)
        assert not torch.equal(vector.direction, fit.direction)


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("strategy", SWEPT)
def test_a_swept_vector_is_the_one_that_is_built(runner, strategy, reading):
    spec = SweepSpec((1,), (3.0,), strategy, reading)
    swept = sweep(runner, LITERATURE, TRIAGE[:16], spec, quiet).conditions[0].steps[0]
    vector = built(
        runner,
        LITERATURE,
        strategy=strategy,
        layers=(1,),
        alpha=3.0,
        reading="answer_word" if strategy == GATED else reading,
    )
    states = torch.randn((4, 1, runner.width), generator=torch.Generator().manual_seed(1))
    assert torch.equal(swept.shift(states), vector.shift(states))


def test_every_strategy_that_can_be_built_is_compared_here():
    assert set(BUILDABLE) == {*SWEPT, RANDOM, SHUFFLED}


def test_examples_are_a_seeded_draw_of_whole_groups_half_of_them_true_and_keep_the_order_of_the_file():
    statements = [
        LabelledStatement(str(row), answer=row < 300, group=f"g{row // 3}", row=row) for row in range(399)
    ]
    drawn = drawn_examples(statements, 100, seed=1)
    groups = {statement.group for statement in drawn}
    assert drawn == [statement for statement in statements if statement.group in groups]
    assert len(drawn) == 99
    assert sum(statement.answer for statement in drawn) in {48, 51}
    assert drawn == drawn_examples(statements, 100, seed=1) != drawn_examples(statements, 100, seed=2)
    turned = drawn_examples(statements[::-1], 100, seed=1)
    assert {statement.text for statement in turned} == {statement.text for statement in drawn}


def test_where_one_answer_is_rare_the_other_fills_up_and_few_statements_are_all_taken():
    statements = [LabelledStatement(str(row), answer=row < 10, group=str(row)) for row in range(100)]
    drawn = drawn_examples(statements, 60, seed=1)
    assert (len(drawn), sum(statement.answer for statement in drawn)) == (60, 10)
    assert drawn_examples(statements, 200, seed=1) == drawn_examples(statements, None, seed=1) == statements
    assert drawn_examples(statements, 0, seed=1) == []


def test_a_gate_is_fitted_on_complete_twins_alone_where_there_are_enough_of_them():
    single = [LabelledStatement(f"s{row}", True, f"s{row}") for row in range(30)]
    assert gate_statements([*single, *LITERATURE], "auto") == (LITERATURE, "twins")
    mixed = [*single, *LITERATURE[2:]]
    assert gate_statements(mixed, "auto") == (mixed, "statements")
    assert gate_statements([*single, *LITERATURE], "statements")[1] == "statements"
    with pytest.raises(BadInput, match="at least 40 complete pairs to fit on; there are 39"):
        gate_statements(mixed, "twins")
