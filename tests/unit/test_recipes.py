"""A recipe as a value: its name is the hash of everything that decides an answer, and of nothing else."""

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from medx_core.calibration import AbstentionRule, Calibration, CalibrationKind
from medx_core.categories import Category
from medx_core.metric import Metric
from medx_core.prompts import QUESTION_PROMPT, STATEMENT_PROMPT, VerdictPrompt
from medx_core.recipes import Recipe, SteeringEntry
from tests.recipes import IDENTITY, recipe

CALIBRATION = Calibration(kind=CalibrationKind.TEMPERATURE, slope=0.5, n=100)
ABSTENTION = AbstentionRule(max_error=0.1, promised=True, threshold=0.9, n=100)
STEERED = {"file_sha256": "01" * 32, "strategy": "mean_difference", "layer": 28, "strength": 1.0}


def test_a_recipe_comes_back_from_json_as_the_same_and_whatever_differs_has_another_name():
    first = recipe(steering={"triage": STEERED})
    stored = json.loads(json.dumps(first.model_dump(mode="json", exclude_defaults=True)))
    assert Recipe.model_validate(stored) == first
    assert Recipe.model_validate(stored).id == first.id
    changes = [
        {"model_sha256": "cd" * 32},
        {"number_type": "bfloat16"},
        {"engine": "another"},
        {"prompt": QUESTION_PROMPT},
        {"question_prompt": None},
        {"category_prompts": {Category.TRIAGE: STATEMENT_PROMPT}},
        {"steering": {"triage": STEERED | {"strength": 2.0}}},
        {"steering": {"literature": STEERED}},
        {"threshold": 0.25},
        {"uncertain_margin": 0.1},
        {"identity_sha256": "ef" * 32},
        {"calibration": CALIBRATION},
        {"calibration": CALIBRATION, "abstention": ABSTENTION},
        {"gated_text": True},
        {"max_dose": 0.5},
    ]
    assert {name for change in changes for name in change} == set(Recipe.model_fields), "every field decides"
    ids = {Recipe.model_validate(first.model_dump() | change).id for change in changes}
    assert len(ids | {first.id}) == len(changes) + 1


WORDS = st.text(max_size=12)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False).map(lambda number: number + 0.0)  # -0.0 is 0.0
PROMPTS = st.builds(
    VerdictPrompt,
    **dict.fromkeys(("version", "frame", "true_word", "false_word", "instruction"), WORDS),
    shots=st.lists(st.tuples(WORDS, st.booleans()), max_size=2).map(tuple),
    chat=st.booleans(),
)
ENTRIES = st.builds(
    SteeringEntry,
    **dict.fromkeys(("file_sha256", "strategy", "positions"), WORDS),
    layer=st.integers(0, 99),
    strength=NUMBERS,
)
RECIPES = st.builds(
    Recipe,
    **dict.fromkeys(("model_sha256", "identity_sha256", "number_type", "engine"), WORDS),
    prompt=PROMPTS,
    question_prompt=st.none() | PROMPTS,
    category_prompts=st.dictionaries(st.sampled_from(Category), PROMPTS, max_size=2),
    steering=st.dictionaries(st.sampled_from(["all", *Category]).map(str), ENTRIES, max_size=2),
    threshold=NUMBERS,
    uncertain_margin=st.floats(0, 0.49).map(lambda number: number + 0.0),
    calibration=st.none() | st.just(CALIBRATION),
    gated_text=st.booleans(),
    max_dose=st.none() | st.floats(1e-6, 1e6),
)


@given(RECIPES, RECIPES)
@settings(max_examples=60, deadline=None)
def test_whatever_a_recipe_holds_it_is_read_as_written_and_each_field_that_differs_changes_its_name(
    first, other
):
    read = Recipe.model_validate(json.loads(first.content))
    assert read == first
    assert read.id == first.id
    for name in Recipe.model_fields:
        if name == "calibration":
            continue  # a rule of abstention needs one; the test above changes both
        changed = first.model_copy(update={name: getattr(other, name)})
        assert (changed.id == first.id) is (changed == first), name


def test_the_name_of_a_recipe_stays_the_same_in_later_versions():
    """Answers store it, so a field that is added later must not change it."""
    assert recipe(threshold=0.5).id == "f4ffc7ae64a0"


def test_a_recipe_does_not_change_and_refuses_what_it_does_not_know():
    with pytest.raises(ValidationError):
        recipe().threshold = 1.0
    with pytest.raises(ValidationError):
        recipe(temperature=0.7)
    with pytest.raises(ValidationError):
        recipe(threshold=float("nan"))


def test_a_text_gets_the_prompt_of_its_category_else_that_for_questions_else_the_first():
    own = {Category.TRIAGE: STATEMENT_PROMPT}
    both = recipe(category_prompts=own)
    assert both.prompt_for("Is it safe? ", None) == QUESTION_PROMPT
    assert both.prompt_for("Is it safe?", Category.TRIAGE) == STATEMENT_PROMPT
    assert both.prompt_for("It is safe.", Category.LITERATURE) == STATEMENT_PROMPT
    assert recipe(question_prompt=None).prompt_for("Is it safe?", None) == STATEMENT_PROMPT


def test_what_has_no_vector_of_its_own_is_steered_by_that_of_all():
    some = recipe(steering={"triage": STEERED})
    assert [some.key_for(category) for category in (Category.TRIAGE, Category.LITERATURE, None)] == [
        "triage",
        None,
        None,
    ]
    every = recipe(steering={"triage": STEERED, "all": STEERED})
    assert [every.key_for(category) for category in (Category.TRIAGE, Category.LITERATURE, None)] == [
        "triage",
        "all",
        "all",
    ]


def test_the_abstention_rule_decides_whom_to_trust_and_without_one_the_margin():
    near, far = 0.1, 6.0
    margin = recipe(uncertain_margin=0.05)
    assert [bool(margin.doubt(each)) for each in (near, -near, far, -far)] == [True, True, False, False]
    ruled = recipe(uncertain_margin=0.05, calibration=CALIBRATION, abstention=ABSTENTION)
    assert [bool(ruled.doubt(each)) for each in (near, 4.0, far, -far)] == [True, True, False, False]
    assert "not sure enough of it for the recipe's promise that at most 10 % of the answers" in ruled.doubt(
        near
    )
    none = AbstentionRule(max_error=0.1, promised=False, reason="too few", n=3)
    doubt = recipe(calibration=CALIBRATION, abstention=none).doubt(far)
    assert doubt == (
        "Do not trust this answer: MedX cannot promise for this model, on the statements it was measured on, that at most "
        "10 % of the answers it stands by are wrong, so no answer is marked as trusted; too few."
    )
    with pytest.raises(ValidationError):
        recipe(abstention=ABSTENTION)


def test_the_number_is_a_probability_only_while_a_test_says_so_and_of_answers_made_as_it_was_measured():
    sure = Metric(value=0.02, low=0.01, high=0.04, n=500)
    tested = recipe(calibration=CALIBRATION.tested(sure))
    assert tested.probability(2.0) == pytest.approx(1 / (1 + math.exp(-1.0)))
    assert tested.probability(2.0, as_measured=False) is None
    assert recipe(calibration=CALIBRATION).probability(2.0) is None
    ruled = recipe(uncertain_margin=0.0, calibration=CALIBRATION, abstention=ABSTENTION)
    assert ruled.doubt(0.1)
    assert ruled.doubt(0.1, as_measured=False) == "", "the rule says nothing of the unsteered arm beside it"


@pytest.mark.parametrize(
    "parts", [{"threshold": 3.0}, {"steering": {}}, {"prompt": QUESTION_PROMPT}, {"question_prompt": None}]
)
def test_what_answers_otherwise_keeps_neither_calibration_nor_promise(parts):
    measured = recipe(steering={"all": STEERED}, calibration=CALIBRATION, abstention=ABSTENTION)
    changed = measured.changed(**parts)
    assert (changed.calibration, changed.abstention) == (None, None)
    assert changed.id != measured.id
    assert measured.changed(threshold=measured.threshold) == measured


def test_a_recipe_fits_the_model_it_was_made_for_its_tokenizer_and_template_included():
    made = recipe(replace(IDENTITY, identity_sha256="cd" * 32))
    here = replace(IDENTITY, identity_sha256="cd" * 32)
    assert made.misfit(here) == ""
    assert "another tokenizer, chat template" in made.misfit(replace(here, identity_sha256="ef" * 32))
    assert "runs in bfloat16 here" in made.misfit(replace(here, number_type="bfloat16"))
    assert "other weights" in made.misfit(replace(here, sha256="ef" * 32))
    assert "the engine other" in made.model_copy(update={"engine": "other"}).misfit(here)
    assert not recipe().misfit(replace(here, identity_sha256="ef" * 32)), (
        "older recipes know the weights alone"
    )
