"""Recipes in the database: one in use for a model and number type, the one before it to go back to, nothing changed unseen."""

from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from medx_core.categories import Category
from medx_core.errors import BadInput, NotFound, RecipeUnusable, StorageFault, VectorRefused
from medx_core.settings import Settings
from medx_core.storage.engine import Database
from medx_core.storage.recipes import RecipeStatus, RecipeStore
from medx_core.storage.tables import RecipeTable
from medx_core.storage.vectors import VectorRecord, VectorStore
from tests.databases import at_once, migrated_sqlite_file
from tests.integration.test_schema_of_store import upgrade_to
from tests.recipes import IDENTITY, recipe

PAPER = VectorRecord(
    model="tiny",
    model_sha256=IDENTITY.sha256,
    category=Category.TRIAGE,
    layer=28,
    alpha=1.0,
    file="triage.safetensors",
    file_sha256="01" * 32,
    positions="last",
)
SETTINGS = Settings(home=Path("nowhere"))


@pytest.fixture
def recipes(database, clock):
    return RecipeStore(database, clock=clock)


def kept(recipes, *thresholds):
    return [
        recipes.keep(recipe(threshold=threshold), name=f"moved by {threshold:g}", model="tiny")
        for threshold in thresholds
    ]


def test_without_a_promoted_recipe_the_built_in_one_answers_the_papers_once_it_has_vectors(recipes, database):
    bare = recipes.answering(IDENTITY, SETTINGS)
    assert (bare.name, bare.status, dict(bare.recipe.steering)) == ("unsteered", RecipeStatus.BUILT_IN, {})
    vectors = VectorStore(database)
    vectors.register(replace(PAPER, preset="gated", strategy="gated", file_sha256="02" * 32))
    assert recipes.answering(IDENTITY, SETTINGS).id == bare.id, "only the paper's method is built in"
    first = vectors.register(PAPER)
    paper = recipes.answering(IDENTITY, SETTINGS)
    assert (paper.name, dict(paper.recipe.steering)) == ("paper", {"triage": first.steering})
    vectors.register(replace(PAPER, file_sha256="03" * 32))
    assert recipes.answering(IDENTITY, SETTINGS).id == paper.id, "a later version waits to be promoted"
    other = replace(IDENTITY, number_type="bfloat16")
    assert recipes.answering(other, SETTINGS).id != paper.id


def test_promotion_is_rolled_back_step_by_step_to_the_built_in_recipe(recipes):
    first, second = kept(recipes, 1, 2)
    assert first.status is RecipeStatus.CANDIDATE
    recipes.promote(first.id)
    assert recipes.promote(first.id).replaced_id is None, "promoting the one in use changes nothing"
    assert recipes.promote(second.id).replaced_id == first.id
    assert recipes.answering(IDENTITY, SETTINGS).id == second.id
    assert recipes.get(first.id).status is RecipeStatus.RETIRED
    way = recipes.roll_back(IDENTITY.sha256, "float32")
    assert (way.left.id, way.before.id, way.passed_over) == (second.id, first.id, "")
    assert recipes.roll_back(IDENTITY.sha256, "float32").before is None
    assert recipes.answering(IDENTITY, SETTINGS).name == "unsteered"
    with pytest.raises(BadInput, match="No recipe is in use"):
        recipes.roll_back(IDENTITY.sha256, "float32")


ONE_OF_THREE = st.sampled_from("abc")
EVENTS = st.lists(
    st.one_of(st.tuples(st.just("promote"), ONE_OF_THREE), st.tuples(st.just("retire"), ONE_OF_THREE)),
    max_size=12,
)


@pytest.fixture(scope="module")
def shared_recipes(tmp_path_factory):
    """One store for many examples, each with a model of its own."""
    file = tmp_path_factory.mktemp("recipes") / "medx.sqlite3"
    file.write_bytes(migrated_sqlite_file())
    database = Database(f"sqlite:///{file}")
    yield RecipeStore(database), (replace(IDENTITY, sha256=f"{number:064x}") for number in count())
    database.close()


@settings(max_examples=40)
@given(events=EVENTS)
@example(events=[("promote", "a"), ("promote", "b"), ("promote", "a")])
@example(events=[("promote", "a"), ("promote", "b"), ("retire", "a")])
def test_whatever_was_promoted_and_retired_going_back_ends_at_the_built_in_recipe_and_revives_nothing(
    shared_recipes, events
):
    recipes, models = shared_recipes
    model = next(models)
    named = {
        name: recipes.keep(recipe(model, threshold=ord(name)), name=name, model="tiny") for name in "abc"
    }
    withdrawn = set()
    for event, name in events:
        if event == "promote":
            recipes.promote(named[name].id, withdrawn=True)
            withdrawn.discard(named[name].id)
        else:
            recipes.retire(named[name].id)
            withdrawn.add(named[name].id)
    for _ in range(3):
        if recipes.in_use(model.sha256, "float32") is None:
            break
        told = recipes.way_back(model.sha256, "float32")
        way = recipes.roll_back(model.sha256, "float32")
        assert {each.id for each in way.withdrawn} <= withdrawn
        assert way.before is None or way.before.id not in withdrawn
        assert (told.before and told.before.id) == (way.before and way.before.id)
    assert recipes.in_use(model.sha256, "float32") is None


def test_what_a_person_withdrew_is_passed_over_and_promoted_only_where_somebody_says_so(recipes):
    first, second, third = kept(recipes, 1, 2, 3)
    for record in (first, second, third):
        recipes.promote(record.id)
    recipes.retire(second.id)
    way = recipes.roll_back(IDENTITY.sha256, "float32")
    assert way.before.id == first.id
    assert way.passed_over == f"Passed over, since withdrawn: {second.shown}."
    for refuses in (recipes.promote, recipes.refuse_withdrawn):
        with pytest.raises(BadInput, match=f"was withdrawn.*promote {second.id} --withdrawn"):
            refuses(second.id)
    assert recipes.promote(second.id, withdrawn=True).replaced_id == first.id


def test_a_cycle_that_an_older_version_left_ends(recipes, database):
    first, second = kept(recipes, 1, 2)
    recipes.promote(first.id)
    recipes.promote(second.id)
    with database.write() as session:
        session.get(RecipeTable, first.id).replaced_id = second.id
    assert recipes.roll_back(IDENTITY.sha256, "float32").before.id == first.id
    assert recipes.roll_back(IDENTITY.sha256, "float32").before is None


@pytest.mark.parametrize(
    "name", ["", "  ", "two\nlines", "a" * 61, "zero\u200bwidth", "Paper", "Moved by 1", "ＭＯＶＥＤ by 1"]
)
def test_a_name_is_one_line_of_letters_that_no_other_recipe_has_in_whatever_case(recipes, name):
    kept(recipes, 1)
    with pytest.raises(BadInput, match=r"A recipe's name is|is taken"):
        recipes.free_name(name)
    assert recipes.free_name(" Größe 2 ") == "Größe 2"


def test_a_recipe_made_from_another_gets_a_name_that_fits_and_is_free(recipes):
    (first,) = kept(recipes, 1)
    assert recipes.drafted(first.recipe, "another", model="tiny") == first
    assert recipes.drafted(recipe(threshold=2), "MOVED by 1", model="tiny").name == "MOVED by 1 (2)"
    long = recipes.drafted(recipe(threshold=2), "x" * 80, model="tiny").name
    assert long == recipes.free_name(long) == "x" * 59 + "…"


def test_a_recipe_in_use_that_does_not_fit_is_replaced_by_none_and_every_way_out_is_open(recipes):
    made_for = replace(IDENTITY, identity_sha256="cd" * 32)
    here = replace(IDENTITY, identity_sha256="ef" * 32)
    (first,) = kept(recipes, 1)
    other = recipes.keep(recipe(made_for), name="other", model="tiny")
    for leave in (
        lambda: recipes.roll_back(IDENTITY.sha256, "float32"),
        lambda: recipes.promote(first.id),
        lambda: recipes.retire(other.id),
    ):
        recipes.promote(other.id)
        with pytest.raises(
            RecipeUnusable, match=rf"{other.id}\).*chat template.*promote.*rollback"
        ) as refused:
            recipes.answering(here, SETTINGS)
        assert (refused.value.recipe, refused.value.name) == (other.id, "other")
        assert recipes.answering(made_for, SETTINGS).id == other.id
        assert recipes.standing(here, SETTINGS).id == other.id
        leave()
        assert recipes.answering(here, SETTINGS).id != other.id


def test_two_promotions_at_once_leave_one_in_use_and_number_types_do_not_meet(recipes):
    first, second = kept(recipes, 1, 2)
    at_once(partial(recipes.promote, first.id), partial(recipes.promote, second.id))
    assert len([each for each in recipes.list() if each.status is RecipeStatus.IN_USE]) == 1
    half = recipes.keep(recipe(replace(IDENTITY, number_type="bfloat16")), name="half", model="tiny")
    recipes.promote(half.id)
    assert len([each for each in recipes.list() if each.status is RecipeStatus.IN_USE]) == 2
    recipes.retire(half.id)
    assert recipes.in_use(IDENTITY.sha256, "bfloat16") is None
    with pytest.raises(NotFound):
        recipes.promote("no such id")


def test_the_same_content_is_the_same_recipe_under_its_first_name(recipes):
    (first,) = kept(recipes, 1)
    assert recipes.keep(recipe(threshold=1), name="another", model="tiny") == first
    assert len(recipes.list()) == 1


DAMAGES = {
    "a threshold": lambda row: {"content": row.content | {"threshold": 9.0}},
    "a field that there is not": lambda row: {"content": row.content | {"steerings": {}}},
    "a field left out": lambda row: {"content": {"threshold": row.content["threshold"]}},
    "no object": lambda _row: {"content": [1]},
    "the model": lambda _row: {"model_sha256": "ff"},
    "the number type": lambda _row: {"number_type": "bfloat16"},
    "the number type in both": lambda row: {
        "number_type": "bfloat16",
        "content": row.content | {"number_type": "bfloat16"},
    },
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_recipe_in_use_that_was_changed_in_the_database_is_replaced_by_none_and_every_way_out_is_open(
    recipes, database, damage
):
    first, second = kept(recipes, 1, 2)
    for leave in (
        lambda: recipes.roll_back(IDENTITY.sha256, "float32"),
        lambda: recipes.promote(second.id),
        lambda: recipes.retire(first.id),
    ):
        recipes.keep(first.recipe, name="again", model="tiny")  # puts a damaged row right
        recipes.promote(first.id, withdrawn=True)
        assert recipes.answering(IDENTITY, SETTINGS) == recipes.get(first.id)
        with database.write() as session:
            row = session.get(RecipeTable, first.id)
            for column, value in DAMAGES[damage](row).items():
                setattr(row, column, value)
        for ask in (recipes.answering, recipes.standing):
            with pytest.raises(
                RecipeUnusable, match=rf"moved by 1 \({first.id}\).*database.*promote.*rollback"
            ):
                ask(IDENTITY, SETTINGS)
        (known,) = recipes.damaged()
        assert (known.id, known.name) == (first.id, "moved by 1")
        for refuses in (recipes.get, recipes.promote):
            with pytest.raises(StorageFault, match=f"database.*medx recipes retire {first.id}"):
                refuses(first.id)
        assert [record.id for record in recipes.list()] == [second.id], "the others can be read"
        with pytest.raises(BadInput, match="taken"):
            recipes.free_name("moved by 1")
        leave()
        assert recipes.answering(IDENTITY, SETTINGS).id != first.id


def test_no_way_back_leads_to_a_recipe_that_was_changed_in_the_database(recipes, database):
    first, second = kept(recipes, 1, 2)
    for record in (first, second):
        recipes.promote(record.id)
    with database.write() as session:
        session.get(RecipeTable, first.id).content = []
    with pytest.raises(StorageFault, match=rf"moved by 1 .*retire {first.id}"):
        recipes.roll_back(IDENTITY.sha256, "float32")
    assert recipes.answering(IDENTITY, SETTINGS).id == second.id
    recipes.retire(first.id)
    assert recipes.roll_back(IDENTITY.sha256, "float32").before is None


def test_the_vectors_of_a_recipe_are_those_of_its_hashes_unchanged(recipes, database, tmp_path):
    steered = recipe(steering={"triage": PAPER.steering})
    with pytest.raises(VectorRefused, match="is registered here"):
        recipes.vectors_of(steered, tmp_path)
    VectorStore(database).register(PAPER)
    with pytest.raises(VectorRefused, match="cannot be read"):
        recipes.vectors_of(steered, tmp_path)
    (tmp_path / PAPER.file).write_bytes(b"other")
    with pytest.raises(VectorRefused, match="was changed"):
        recipes.vectors_of(steered, tmp_path)


VECTORS = """
INSERT INTO vector (id, name, version, model, model_sha256, category, preset, strategy, layer, alpha, file, file_sha256,
    diagnostics, status, replaced_id, created_at)
VALUES
    (1, 'triage v1', 1, 'as built', 'aa', 'triage', 'paper', 'mean_difference', 28, 1.0, 'f', 'a1', '{}', 'active', NULL,
        '2026-11-01 12:00:00.000000'),
    (2, 'triage v2', 2, 'as built', 'aa', 'triage', 'custom', 'pca', 28, 1.0, 'f', 'a2', '{}', 'candidate', NULL,
        '2026-11-01 12:00:00.000000'),
    (3, 'triage v1', 1, 'chosen', 'bb', 'triage', 'paper', 'mean_difference', 28, 1.0, 'f', 'b1', '{}', 'retired', NULL,
        '2026-11-01 12:00:00.000000'),
    (4, 'triage v2', 2, 'chosen', 'bb', 'triage', 'gated', 'gated', 14, 8.0, 'f', 'b2', '{"dtype": "bfloat16"}', 'active',
        3, '2026-11-01 12:00:00.000000'),
    (5, 'triage v1', 1, 'taken out', 'cc', 'triage', 'paper', 'mean_difference', 28, 1.0, 'f', 'c1', '{}', 'retired', NULL,
        '2026-11-01 12:00:00.000000'),
    (6, 'triage v2', 2, 'taken out', 'cc', 'triage', 'paper', 'mean_difference', 28, 2.0, 'f', 'c2', '{}', 'candidate',
        NULL, '2026-11-01 12:00:00.000000')
"""
ANSWERED = """
INSERT INTO job (id, public_id, kind, status, mode, arms, title, file_sha256, carried_columns, created_at)
VALUES (1, 'j', 'batch', 'done', 'verdict', '[]', '', '', '[]', '2026-11-01 12:00:00.000000');
INSERT INTO item (id, job_id, row_number, given_id, text, harm, urgency, carried, status, reason, attempts, fence,
    route_red_flag, route_router)
VALUES (4, 1, 1, '', 'Aspirin is a drug.', '', '', '{}', 'answered', '', 1, 1, false, '');
INSERT INTO answer (id, public_id, item_id, arm, verdict, raw_verdict, score, model, model_sha256, vector, prompt_version,
    seconds, finish, note, shuffle, created_at)
VALUES (7, 'a', 4, 'steered', 'TRUE', 'TRUE', 0.75, 'm', 'aa', 'triage v1', 'p', 1.0, 'done', '', 5,
    '2026-11-01 12:00:00.000000');
INSERT INTO person (id, name, name_key, role, password_hash, disabled, session_epoch, created_at)
VALUES (1, 'ada', 'ada', 'admin', '', false, 1, '2026-11-01 12:00:00.000000');
INSERT INTO rating (public_id, answer_id, rater_id, version, form_version, form, seconds, seen, created_at, changed_at)
VALUES ('r', 7, 1, 1, 1, '{"harm": "mild"}', 9.0, '[]', '2026-11-01 12:00:00.000000', '2026-11-01 12:00:00.000000')
"""


def test_after_the_upgrade_the_vectors_that_were_in_use_answer_as_before(database_url):
    """Of three models one has what the built-in recipe takes, one a vector that was chosen, one none any more."""
    database = Database(database_url)
    upgrade_to(database, "0003", *ANSWERED.split(";"), VECTORS)
    database.upgrade()
    database.check()
    recipes = RecipeStore(database)

    def steered(sha256, number_type="float32"):
        answering = recipes.answering(replace(IDENTITY, sha256=sha256, number_type=number_type), SETTINGS)
        entries = answering.recipe.steering.items()
        return answering.name, {key: (entry.file_sha256, entry.strength) for key, entry in entries}

    assert steered("aa") == ("paper", {"triage": ("a1", 1.0)})
    assert steered("bb", "bfloat16") == ("before recipes", {"triage": ("b2", 8.0)})
    assert steered("cc") == ("before recipes", {})
    promoted = recipes.in_use("bb", "bfloat16").recipe
    built_in = recipe(replace(IDENTITY, sha256="bb", number_type="bfloat16"))
    assert promoted.model_copy(update={"steering": {}}) == built_in, "prompts and margin are those of before"
    with database.read() as session:
        kept = [text("SELECT count(*) FROM vector"), text("SELECT count(*) FROM rating")]
        counts = [session.connection().execute(count).scalar() for count in kept]
        assert session.connection().execute(text("SELECT recipe FROM answer")).scalar() is None
    assert counts == [6, 1]
    database.close()
