"""Vectors of every strategy from a tiny model: what they carry, what they change, and what is said about that."""

import random
from dataclasses import replace

import pytest
import torch

from medx_core.categories import Category
from medx_core.cli.vector_building import layers_from, statements_by_category
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.errors import BadInput, VectorRefused
from medx_core.evaluation.gain import with_gain
from medx_core.evaluation.vector_findings import gain_sentence, warnings_of
from medx_core.fitting.build import build_vector
from medx_core.fitting.spec import FitSpec
from medx_core.prompts import STATEMENT_PROMPT
from medx_core.steering.names import BUILDABLE
from medx_core.steering.positions import Positions
from medx_core.steering.steering_vector import check_vector
from medx_core.steering.vector_files import load_vector, save_vector
from medx_core.traces.running import FinishedBatches
from medx_core.traces.statement_runner import StatementRunner
from tests.language_models import tiny_model

WORDS = sorted({word for text, _ in STATEMENT_PROMPT.shots for word in text.split()})


def twins(pairs, seed):
    """Statements of known words in which one word decides, so that even a tiny random model's states tell it."""
    chosen, statements = random.Random(seed), []
    for number in range(pairs):
        before = [chosen.choice(WORDS[2:]) for _ in range(5)]
        for truth in (True, False):
            text = " ".join([*before[:2], WORDS[0] if truth else WORDS[1], *before[2:]])
            statements.append(LabelledStatement(text, truth, f"g{seed}-{number}", pair=f"p{seed}-{number}"))
    return statements


TRAIN, HELD_OUT = twins(50, seed=1), twins(30, seed=2)
PAPERS = FitSpec()


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def built(model, spec=PAPERS, train=TRAIN, held_out=HELD_OUT):
    return with_its_gain(StatementRunner(model, spec.prompt), spec, train, held_out)


def with_its_gain(runner, spec, train=TRAIN, held_out=HELD_OUT, **told):
    vector = build_vector(runner, Category.TRIAGE, train, spec, **told)
    return with_gain(runner, vector, train, held_out, seed=spec.seed)


@pytest.mark.parametrize("strategy", BUILDABLE)
def test_every_strategy_builds_a_sound_vector_that_survives_its_file(model, tmp_path, strategy):
    vector = built(model, FitSpec(strategy=strategy, examples=60))
    check_vector(vector, strategy)
    save_vector(vector, tmp_path / "v")
    loaded = load_vector(tmp_path / "v", model_sha256=model.weight_sha256)
    states = torch.randn((2, 1, vector.direction.shape[0]), generator=torch.Generator().manual_seed(1))
    for before, after in zip(vector.plan.steps, loaded.plan.steps, strict=True):
        assert torch.equal(before.shift(states), after.shift(states))
    assert (loaded.strategy, loaded.model_type) == (strategy, "llama")
    assert vector.diagnostics["validation_gain"].keys() == {"value", "low", "high", "n"}
    assert vector.pairs == 60


def test_a_principal_component_is_told_to_be_there_whatever_the_labels(model):
    diagnostics = built(model, FitSpec(strategy="pca", examples=60)).diagnostics
    assert diagnostics["shuffled_cosine_size"] > 0.99
    assert any("whatever is true" in warning for warning in warnings_of(diagnostics))
    real = built(model, FitSpec(reading="statement")).diagnostics
    assert real["separation"] > real["shuffled_separation"]
    assert not any("whatever is true" in warning for warning in warnings_of(real))


def test_a_gate_fitted_on_twins_changes_the_real_output_where_a_constant_vector_does_not(model):
    gated, paper = built(model, FitSpec(strategy="gated")), built(model)
    assert gated.fitted_on == "twins"
    assert gated.diagnostics["validation_gain"]["low"] > 0.1
    assert paper.diagnostics["validation_gain"]["value"] < gated.diagnostics["validation_gain"]["value"]
    assert gated.diagnostics["choices"]["layers_tried"].keys() == {"1"}
    assert gated.alpha in {2.0, 4.0, 8.0}


def test_given_layer_and_strength_are_taken(model):
    gated = built(model, FitSpec(strategy="gated", layers=(0,), alpha=3.0, fit_on="statements"))
    assert (gated.layer, gated.alpha, gated.fitted_on) == (0, 3.0, "statements")
    several = built(model, FitSpec(layers=(0, 1), alpha=2.0, reading="statement", positions=Positions.ALL))
    assert list(several.directions) == [0, 1]
    assert (several.layer, several.alpha, several.positions) == (1, 2.0, Positions.ALL)


def test_layer_and_strength_can_be_chosen_on_the_training_part(model):
    vector = built(model, FitSpec(choose=True, reading="statement"))
    tried = vector.diagnostics["choices"]["places_tried"]
    assert (vector.layer, vector.alpha) in {(cell["layer"], cell["strength"]) for cell in tried}
    chosen = next(cell for cell in tried if (cell["layer"], cell["strength"]) == (vector.layer, vector.alpha))
    assert chosen["balanced_accuracy"] >= max(cell["balanced_accuracy"] for cell in tried) - 0.05


def test_random_and_shuffled_vectors_are_controls_of_the_same_making(model):
    real = built(model, FitSpec(reading="statement"))
    random_one = built(model, FitSpec(reading="statement", strategy="random"))
    mixed = built(model, FitSpec(reading="statement", strategy="shuffled"))
    assert random_one.norm == pytest.approx(real.norm, rel=1e-5)
    assert mixed.norm < real.norm, "labels that mean nothing leave little of the difference"
    other = built(model, FitSpec(reading="statement", strategy="shuffled", seed=2))
    assert not torch.equal(mixed.direction, other.direction)


def test_building_twice_gives_the_same_vector(model):
    first, second = (built(model, FitSpec(strategy="gated", layers=(1,))) for _ in range(2))
    assert torch.equal(first.gate.weight, second.gate.weight)
    assert first.diagnostics == second.diagnostics


def passes_of(model, build) -> int:
    """How often the network's decoder runs while `build` does its work."""
    count = 0

    def note_pass(*_told) -> None:
        nonlocal count
        count += 1

    hook = model.network.base_model.register_forward_hook(note_pass)
    try:
        build()
    finally:
        hook.remove()
    return count


@pytest.mark.parametrize(
    "spec",
    [
        FitSpec(examples=60),
        FitSpec(strategy="gated", layers=(1,), alpha=2.0),
        FitSpec(choose=True, reading="statement", alpha=2.0),
    ],
    ids=["paper", "gated", "chosen"],
)
def test_a_build_that_was_interrupted_goes_on_from_its_finished_batches(model, tmp_path, spec):
    def break_off(done, _total):
        if done >= 40:
            raise KeyboardInterrupt

    finished, vectors = FinishedBatches(tmp_path / "build"), []

    def runner(**kept):
        return StatementRunner(model, spec.prompt, batch_rows=8, **kept)

    def build(**kept):
        vectors.append(with_its_gain(runner(**kept), spec))

    whole = passes_of(model, build)
    with pytest.raises(KeyboardInterrupt):
        with_its_gain(runner(finished=finished), spec, on_progress=break_off)
    rest = passes_of(model, lambda: build(finished=finished))
    again = passes_of(model, lambda: build(finished=finished))
    assert again < rest <= whole - 5, "five batches were done"
    for vector in vectors[1:]:
        assert torch.equal(vector.direction, vectors[0].direction)
        assert vector.diagnostics == vectors[0].diagnostics
        assert (vector.gate is None) == (spec.strategy != "gated")
        assert vector.gate is None or torch.equal(vector.gate.weight, vectors[0].gate.weight)


def test_chosen_places_that_were_kept_are_not_taken_for_those_of_other_labels(model, tmp_path):
    spec = FitSpec(choose=True, reading="statement", alpha=2.0)
    turned = [replace(statement, answer=not statement.answer) for statement in TRAIN]
    kept = {"finished": FinishedBatches(tmp_path / "build")}
    build_vector(StatementRunner(model, spec.prompt, **kept), Category.TRIAGE, TRAIN, spec)
    after = build_vector(StatementRunner(model, spec.prompt, **kept), Category.TRIAGE, turned, spec)
    fresh = build_vector(StatementRunner(model, spec.prompt), Category.TRIAGE, turned, spec)
    assert after.diagnostics["choices"] == fresh.diagnostics["choices"]


def test_a_batch_has_as_many_rows_as_the_runner_is_told(model):
    told = []
    runner, spec = StatementRunner(model, PAPERS.prompt, batch_rows=7), FitSpec(examples=60)
    build_vector(runner, Category.TRIAGE, TRAIN, spec, lambda done, _total: told.append(done))
    assert told == [*range(7, 60, 7), 60]


def test_the_gain_is_none_without_held_out_statements_of_both_kinds(model):
    assert built(model, held_out=[]).diagnostics["validation_gain"] is None
    only_true = [statement for statement in HELD_OUT if statement.answer]
    assert built(model, held_out=only_true).diagnostics["validation_gain"] is None


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"strategy": "hypnosis"}, "no strategy 'hypnosis'"),
        ({"strategy": "imported"}, "no strategy 'imported'"),
        ({"reading": "tea leaves"}, "no reading"),
        ({"strategy": "amplify", "layers": (0, 1)}, "steers one layer"),
        ({"fit_on": "twins"}, "Only the strategy gated"),
        ({"strategy": "gated", "reading": "full_trace"}, "leave the reading out"),
    ],
)
def test_a_specification_that_contradicts_itself_is_refused_before_a_model_runs(spec, words):
    with pytest.raises(BadInput, match=words):
        FitSpec(**spec)


def test_what_cannot_be_built_says_why(model):
    with pytest.raises(BadInput, match="at least 40 complete pairs to fit on; there are 10"):
        built(model, FitSpec(strategy="gated", fit_on="twins"), train=twins(10, seed=3))
    with pytest.raises(BadInput, match="at least 20 statements"):
        built(model, FitSpec(strategy="gated"), train=twins(4, seed=3))
    with pytest.raises(VectorRefused, match="Layer 9 does not exist"):
        built(model, FitSpec(layers=(9,)))


def test_only_the_papers_own_specification_counts_as_the_papers():
    assert FitSpec().is_the_papers
    assert FitSpec(examples=50, alpha=1.0).is_the_papers
    changes = [
        {"strategy": "gated"},
        {"alpha": 2.0},
        {"layers": (3,)},
        {"reading": "statement"},
        {"choose": True},
    ]
    assert not any(replace(FitSpec(), **change).is_the_papers for change in changes)


GAIN = {"value": 0.031, "low": 0.012, "high": 0.05, "n": 120}


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (None, "Not evaluated"),
        (GAIN | {"value": 0.0, "low": -0.01}, "failure signature of poor contrast pairs or a wrong layer"),
        (GAIN | {"value": -0.02, "low": -0.04}, "No gain: -2.0 points"),
        (GAIN | {"low": 0.0}, "Not shown to help: +3.1 points of balanced accuracy [0.0, +5.0] on 120"),
        (GAIN, "Only an evaluation with controls"),
    ],
)
def test_the_gain_is_said_in_words(gain, words):
    assert words in gain_sentence({"validation_gain": gain})


def test_a_direction_that_shuffled_labels_give_too_is_called_the_class_prior():
    assert any("class prior, not medicine" in warning for warning in warnings_of({"shuffled_cosine": 0.97}))
    assert any(
        "unlike directions (cosine -0.39)" in warning for warning in warnings_of({"halves_cosine": -0.39})
    )
    assert warnings_of({"shuffled_cosine": 0.1, "relative_norm": 0.2, "dtype": "bfloat16"}) == ()
    coarse = warnings_of({"relative_norm": 0.002, "dtype": "bfloat16"})
    assert any("in good part rounding" in warning for warning in coarse)
    assert not any(
        "rounding" in warning for warning in warnings_of({"relative_norm": 0.002, "dtype": "float32"})
    )
    rates = {"validation": {"false_acceptance_rate": {"unsteered": 0.13, "steered": 0.41}}}
    assert warnings_of(rates) == (
        "False statements are accepted more often with it: 13 % before, 41 % after.",
    )


def test_layers_are_read_from_the_command_line():
    assert layers_from("28") == (28,)
    assert layers_from(" 24, 20,24 ") == (20, 24)
    assert layers_from("") == ()
    with pytest.raises(BadInput, match="decoder layers from 0"):
        layers_from("penultimate")


def test_a_file_without_categories_needs_one_and_then_is_split(tmp_path):
    rows = [f"{statement.text} {number},{statement.answer}" for number, statement in enumerate(TRAIN)]
    file = tmp_path / "statements.csv"
    file.write_text("\n".join(["statement,answer", *rows]))
    with pytest.raises(BadInput, match="--category triage"):
        statements_by_category(str(file), None, seed=1)
    parts = statements_by_category(str(file), Category.LITERATURE, seed=1)
    train, held_out = parts[Category.LITERATURE]
    assert list(parts) == [Category.LITERATURE]
    assert (len(train), len(held_out)) == (80, 20)
    assert not {statement.group for statement in train} & {statement.group for statement in held_out}
