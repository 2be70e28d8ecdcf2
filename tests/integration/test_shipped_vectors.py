"""The vectors that come with MedX: registered for exactly their weights, and what the fitting of today makes."""

import pytest
import torch

from medx_core.categories import Category
from medx_core.cli.vector_building import statements_by_category
from medx_core.fitting.examples import examples_of, sha256_of_statements
from medx_core.fitting.fit import fit_vector
from medx_core.fitting.spec import FitSpec
from medx_core.recipes import ModelIdentity
from medx_core.settings import Settings
from medx_core.steering.vector_files import load_vector
from medx_core.storage.vectors import (
    SHIPPED_VECTORS,
    VectorStore,
    provenance_of,
    register_shipped_vectors,
)
from medx_core.traces.statement_runner import StatementRunner
from medx_core.vector_registry import VectorRegistry

DEFAULT_WEIGHTS = (
    "a672150fb4f99d7c8f4168cecdd464069c0ef3a37d8113f22ddb9d48031d03cd"  # converted from the pinned GGUF
)


@pytest.fixture
def store(sqlite_database):
    return VectorStore(sqlite_database)


def test_each_category_of_the_default_model_gets_its_vector_with_provenance_and_finding(
    store, sqlite_database, tmp_path
):
    records = register_shipped_vectors(store, DEFAULT_WEIGHTS, tmp_path / "vectors")
    assert {record.category for record in records} == set(Category)
    for record in records:
        assert {"validation", "validation_gain"} <= record.diagnostics.keys()
        made = provenance_of(tmp_path / "vectors", record)
        assert (made.reading, made.pairs) == ("answer_word", 200)
    registry = VectorRegistry(sqlite_database, Settings(home=tmp_path))
    loaded = registry.answering(ModelIdentity("smollm2-135m", DEFAULT_WEIGHTS, "float32"))
    shipped = load_vector(SHIPPED_VECTORS / "triage.safetensors", model_sha256=DEFAULT_WEIGHTS)
    assert (loaded.name, set(loaded.vectors)) == ("paper", set(Category))
    assert loaded.vectors["triage"].direction.equal(shipped.direction)
    assert register_shipped_vectors(store, DEFAULT_WEIGHTS, tmp_path / "vectors") == []


def test_other_weights_get_none(store, tmp_path):
    assert register_shipped_vectors(store, "0" * 64, tmp_path / "vectors") == []
    assert store.list() == ()


@pytest.fixture
def training_statements():
    """The statements that `medx vectors build` takes, per category."""
    return {category: train for category, (train, _) in statements_by_category("", None, seed=1).items()}


def test_they_were_fitted_on_the_statements_that_are_drawn_today(training_statements):
    spec = FitSpec()
    for category in Category:
        shipped = load_vector(SHIPPED_VECTORS / f"{category.value}.safetensors", model_sha256=DEFAULT_WEIGHTS)
        drawn = examples_of(training_statements[category], spec)
        assert shipped.data_sha256 == sha256_of_statements(drawn)
        assert shipped.prompt_version == spec.prompt.version


@pytest.mark.weights
@pytest.mark.slow
def test_fitting_makes_the_shipped_vector_again(real_model, training_statements):
    spec = FitSpec()
    runner = StatementRunner(real_model, spec.prompt, batch_rows=32)
    made = fit_vector(runner, training_statements[Category.TRIAGE], spec).top
    shipped = load_vector(SHIPPED_VECTORS / "triage.safetensors", model_sha256=real_model.weight_sha256)
    assert (made.layer, made.alpha, spec.reading) == (shipped.layer, shipped.alpha, shipped.reading)
    # The order in which threads add up differs between machines; the vector is a small difference of large states.
    assert torch.cosine_similarity(made.direction, shipped.direction, dim=0) > 0.999
    assert made.direction.norm() == pytest.approx(shipped.norm, rel=0.01)
