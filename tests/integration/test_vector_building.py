"""Vectors from the bundled statements on the real model, published, used and found again."""

from dataclasses import replace

import pytest
import torch

from medx_core.categories import Category
from medx_core.cli.vector_building import statements_by_category
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.errors import BadInput, VectorRefused
from medx_core.evaluation.gain import with_gain
from medx_core.fitting.build import build_vector
from medx_core.fitting.examples import drawn_examples
from medx_core.fitting.spec import FitSpec
from medx_core.recipes import ModelIdentity, Recipe
from medx_core.settings import Settings
from medx_core.steering.layers import penultimate_layer
from medx_core.steering.loaded_recipe import REFUSED
from medx_core.steering.vector_files import save_vector
from medx_core.traces.statement_runner import StatementRunner
from medx_core.vector_registry import VectorRegistry

pytestmark = pytest.mark.weights
EXAMPLES = 12
SPEC = FitSpec(examples=EXAMPLES)


def bundled_parts():
    return statements_by_category("", Category.TRIAGE, seed=1)[Category.TRIAGE]


@pytest.fixture(scope="module")
def runner(real_model):
    return StatementRunner(real_model, SPEC.prompt)


@pytest.fixture(scope="module")
def vector(runner):
    train, held_out = bundled_parts()
    built = build_vector(runner, Category.TRIAGE, train, SPEC)
    return with_gain(runner, built, train, held_out[:4], seed=1)


def test_a_vector_is_the_mean_of_correct_minus_incorrect_traces_read_one_by_one(vector, real_model):
    """The batched, shared-prompt reading equals running each trace whole and alone."""
    chosen = drawn_examples(bundled_parts()[0], EXAMPLES, seed=1)
    sums = {True: [], False: []}
    for statement in chosen:
        states = {}
        for truth in (True, False):
            text = SPEC.prompt.filled(statement.text) + SPEC.prompt.word(truth)
            ids = torch.tensor([real_model.tokenizer(text)["input_ids"]])
            with torch.inference_mode():
                states_of = real_model.network.base_model  # without the logits of every token
                hidden = states_of(ids, output_hidden_states=True, use_cache=False).hidden_states
            states[truth] = hidden[-2][0, -1]
        sums[statement.answer].append(states[statement.answer] - states[not statement.answer])
    expected = (torch.stack(sums[True]).mean(dim=0) + torch.stack(sums[False]).mean(dim=0)) / 2
    torch.testing.assert_close(vector.direction, expected, atol=5e-3, rtol=1e-3)


def test_it_carries_its_provenance_and_diagnostics(vector, real_model):
    assert vector.layer == penultimate_layer(real_model.network) == 28
    assert (vector.alpha, vector.strategy, vector.reading) == (1.0, "mean_difference", "answer_word")
    assert vector.pairs == EXAMPLES
    assert vector.norm > 0
    shift = vector.diagnostics["shift"]["mean_shift"]
    assert shift == pytest.approx(vector.norm, rel=1e-2), "steering moves the states by exactly the vector"
    assert vector.diagnostics["validation_gain"]["n"] == 4
    assert vector.diagnostics["validation"]["answer_word_rate"] == {"unsteered": 1.0, "steered": 1.0}


def test_building_twice_gives_the_same_vector(runner, vector):
    again = build_vector(runner, Category.TRIAGE, bundled_parts()[0], SPEC)
    assert torch.equal(again.direction, vector.direction)
    assert again.data_sha256 == vector.data_sha256


def test_the_first_version_is_part_of_the_built_in_recipe_and_a_later_one_answers_by_a_promoted_one(
    database, tmp_path, vector
):
    registry = VectorRegistry(database, Settings(home=tmp_path))
    model = ModelIdentity(vector.model, vector.model_sha256, "float32")
    first = registry.publish(vector)
    second = registry.publish(replace(vector, direction=vector.direction * 2))
    assert (first.name, second.name) == ("triage v1", "triage v2")
    paper = registry.answering(model)
    assert (paper.name, paper.vectors["triage"].version) == ("paper", "triage v1")
    assert torch.equal(paper.vectors["triage"].direction, vector.direction)
    assert registry.recipes.get(paper.recipe.id).name == "paper", "what answers is stored"
    steering = {"triage": second.steering}
    other = registry.recipes.keep(
        Recipe.model_validate(paper.recipe.model_dump() | {"steering": steering}), name="other", model="tiny"
    )
    registry.recipes.promote(other.id)
    assert registry.answering(model).vectors["triage"].version == "triage v2"


def test_a_file_that_was_changed_afterwards_is_refused(database, tmp_path, vector):
    registry = VectorRegistry(database, Settings(home=tmp_path))
    record = registry.publish(vector)
    save_vector(replace(vector, direction=vector.direction * -1), tmp_path / "vectors" / record.file)
    with pytest.raises(VectorRefused, match="was changed after triage v1 was registered"):
        registry.read(record)
    loaded = registry.answering(ModelIdentity(vector.model, vector.model_sha256, "float32"))
    assert (loaded.name, dict(loaded.vectors)) == ("paper", {}), "nothing else answers in its place"
    assert loaded.for_verdict(Category.TRIAGE, vector.prompt_version).note == REFUSED


def test_nothing_to_build_from_is_said(runner):
    with pytest.raises(BadInput, match="no statements of the category triage"):
        build_vector(runner, Category.TRIAGE, [], SPEC)
    with pytest.raises(VectorRefused, match="both TRUE and FALSE"):
        build_vector(runner, Category.TRIAGE, [LabelledStatement("a b", answer=True, group="g")], SPEC)
