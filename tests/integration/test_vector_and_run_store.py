"""Vector versions: each under its name, and which of them the paper's method made first."""

from dataclasses import replace

import pytest

from medx_core.categories import Category
from medx_core.errors import NotFound
from medx_core.storage.vectors import VectorRecord, VectorStatus, VectorStore

MODEL = "ab" * 32
PAPER = VectorRecord(
    model="tiny",
    model_sha256=MODEL,
    category=Category.TRIAGE,
    layer=28,
    alpha=1.0,
    file="triage.safetensors",
    file_sha256="01" * 32,
    diagnostics={"norm": 3.5, "cosine": {"literature": -0.125}},
)
GATED = replace(PAPER, preset="gated", strategy="gated", file_sha256="02" * 32)


@pytest.fixture
def vectors(database, clock):
    return VectorStore(database, clock=clock)


def test_versions_are_numbered_within_their_category_and_the_papers_is_the_first_by_its_method(vectors):
    gated = vectors.register(GATED)
    assert vectors.papers(MODEL) == {}
    first = vectors.register(PAPER)
    third = vectors.register(replace(PAPER, file_sha256="03" * 32))
    every = vectors.register(replace(GATED, category=None, file_sha256="04" * 32))
    names = [vector.name for vector in (gated, first, third, every)]
    assert names == ["triage v1", "triage v2", "triage v3", "all v1"]
    assert vectors.papers(MODEL) == {Category.TRIAGE: first}
    assert (first.diagnostics, first.layer, first.alpha) == (PAPER.diagnostics, 28, 1.0)
    listed = [vector.name for vector in vectors.list(MODEL)]
    assert sorted(listed) == sorted(names)
    assert vectors.register(replace(GATED, category=None, file_sha256="04" * 32)) == every


def test_the_same_file_registered_again_is_the_same_version(vectors):
    assert vectors.register(PAPER) == vectors.register(PAPER)
    assert len(vectors.list()) == 1


def test_models_and_categories_do_not_meet(vectors):
    first = vectors.register(PAPER)
    other_category = vectors.register(replace(PAPER, category=Category.LITERATURE))
    other_model = vectors.register(replace(PAPER, model_sha256="cd" * 32))
    assert other_category.name == "literature v1"
    assert vectors.papers(MODEL) == {Category.TRIAGE: first, Category.LITERATURE: other_category}
    assert vectors.papers("cd" * 32) == {Category.TRIAGE: other_model}
    assert vectors.papers("ef" * 32) == {}


def test_a_retired_version_is_kept_and_taken_up_no_more(vectors):
    first = vectors.register(PAPER)
    assert vectors.retire(first.id).status is VectorStatus.RETIRED
    assert vectors.papers(MODEL) == {}
    assert vectors.get(first.id).name == "triage v1"
    with pytest.raises(NotFound):
        vectors.retire(99)
