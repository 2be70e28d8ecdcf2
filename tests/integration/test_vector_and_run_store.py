"""Vector versions, one in use for a model and category."""

from dataclasses import replace
from functools import partial

import pytest

from medx_core.categories import Category
from medx_core.errors import BadInput, NotFound
from medx_core.storage.vectors import VectorRecord, VectorStatus, VectorStore
from tests.databases import at_once

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


def test_the_first_vector_of_the_paper_is_in_use_and_later_ones_are_candidates(vectors):
    first = vectors.register(PAPER)
    second = vectors.register(GATED)
    third = vectors.register(replace(PAPER, file_sha256="03" * 32))
    assert [(vector.name, vector.status) for vector in (first, second, third)] == [
        ("triage v1", VectorStatus.ACTIVE),
        ("triage v2", VectorStatus.CANDIDATE),
        ("triage v3", VectorStatus.CANDIDATE),
    ]
    assert vectors.active(MODEL) == {Category.TRIAGE: first}
    assert (first.diagnostics, first.layer, first.alpha) == (PAPER.diagnostics, 28, 1.0)
    assert vectors.list(MODEL) == (third, second, first)


def test_a_candidate_that_came_first_is_not_in_use_until_it_is_promoted(vectors):
    vectors.register(GATED)
    assert vectors.active(MODEL) == {}
    paper = vectors.register(PAPER)
    assert vectors.active(MODEL) == {Category.TRIAGE: paper}


def test_the_same_file_registered_again_is_the_same_version(vectors):
    assert vectors.register(PAPER) == vectors.register(PAPER)
    assert len(vectors.list()) == 1


def test_models_and_categories_do_not_meet(vectors):
    first = vectors.register(PAPER)
    other_category = vectors.register(replace(PAPER, category=Category.LITERATURE))
    other_model = vectors.register(replace(PAPER, model_sha256="cd" * 32))
    assert other_category.name == "literature v1"
    assert vectors.active(MODEL) == {Category.TRIAGE: first, Category.LITERATURE: other_category}
    assert vectors.active("cd" * 32) == {Category.TRIAGE: other_model}
    assert vectors.active("ef" * 32) == {}


def test_promotion_can_be_rolled_back_step_by_step(vectors):
    first, second, third = (vectors.register(replace(PAPER, file_sha256=f"0{n}" * 32)) for n in range(3))
    vectors.promote(second.id)
    vectors.promote(third.id)
    assert vectors.active(MODEL)[Category.TRIAGE].id == third.id
    assert vectors.get(second.id).status is VectorStatus.RETIRED

    assert vectors.roll_back(MODEL, Category.TRIAGE).id == second.id
    assert vectors.roll_back(MODEL, Category.TRIAGE).id == first.id
    with pytest.raises(BadInput, match="no earlier vector for triage"):
        vectors.roll_back(MODEL, Category.TRIAGE)
    assert vectors.active(MODEL)[Category.TRIAGE].id == first.id


def test_an_earlier_version_can_be_promoted_again(vectors):
    first, second = (vectors.register(replace(PAPER, file_sha256=f"0{n}" * 32)) for n in range(2))
    for chosen in (second, first, second):
        vectors.promote(chosen.id)
        assert vectors.active(MODEL)[Category.TRIAGE].id == chosen.id


def test_promoting_the_one_in_use_or_twice_at_once_leaves_one_in_use(vectors):
    first, second, third = (vectors.register(replace(PAPER, file_sha256=f"0{n}" * 32)) for n in range(3))
    assert vectors.promote(first.id) == first
    at_once(partial(vectors.promote, second.id), partial(vectors.promote, third.id))
    in_use = [vector for vector in vectors.list() if vector.status is VectorStatus.ACTIVE]
    assert len(in_use) == 1
    vectors.retire(in_use[0].id)
    assert vectors.active(MODEL) == {}
    with pytest.raises(NotFound):
        vectors.promote(99)
