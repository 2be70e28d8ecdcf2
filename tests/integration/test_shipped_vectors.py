"""The vectors that come with MedX are registered for exactly the weights they were made for, without torch."""

import pytest

from medx_core.categories import Category
from medx_core.steering.vector_files import load_vector
from medx_core.storage.engine import Database
from medx_core.storage.vectors import (
    SHIPPED_VECTORS,
    VectorStatus,
    VectorStore,
    provenance_of,
    register_shipped_vectors,
)
from medx_core.vector_registry import VectorRegistry

DEFAULT_WEIGHTS = (
    "a672150fb4f99d7c8f4168cecdd464069c0ef3a37d8113f22ddb9d48031d03cd"  # converted from the pinned GGUF
)


@pytest.fixture
def store(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'medx.sqlite3'}")
    database.upgrade()
    yield VectorStore(database)
    database.close()


def test_each_category_of_the_default_model_gets_its_vector_with_provenance_and_finding(store, tmp_path):
    records = register_shipped_vectors(store, DEFAULT_WEIGHTS, tmp_path / "vectors")
    assert {record.category for record in records} == set(Category)
    for record in records:
        assert record.status is VectorStatus.ACTIVE
        assert {"validation", "validation_gain"} <= record.diagnostics.keys()
        made = provenance_of(tmp_path / "vectors", record)
        assert (made.reading, made.pairs) == ("answer_word", 200)
    active = VectorRegistry(store, tmp_path / "vectors").active(DEFAULT_WEIGHTS)
    shipped = load_vector(SHIPPED_VECTORS / "triage.safetensors", model_sha256=DEFAULT_WEIGHTS)
    assert active[Category.TRIAGE].direction.equal(shipped.direction)
    assert register_shipped_vectors(store, DEFAULT_WEIGHTS, tmp_path / "vectors") == []


def test_other_weights_get_none(store, tmp_path):
    assert register_shipped_vectors(store, "0" * 64, tmp_path / "vectors") == []
    assert store.list() == ()
