"""What may be asked of an evaluation, and how a stored request comes back."""

import json

import pytest

from medx_core.errors import BadInput
from medx_core.evaluation.data_split import PartSizes
from medx_core.evaluation.request import EvaluationRequest, arms_named, request_from


def test_a_request_comes_back_from_its_json():
    asked = EvaluationRequest(
        "folder/data.csv", sample=400, split="300/100", extra=("fine_tuned",), models=("a", "b"), seed=4
    )
    stored = json.loads(json.dumps(asked.as_json()))
    assert stored["name"] == "data.csv"
    back = request_from(stored | {"of_a_later_version": 1})
    assert back.as_json() == asked.as_json()
    assert back.sizes == PartSizes(400, (300, 100))


def test_a_preset_states_its_sizes():
    assert EvaluationRequest("x.csv", preset="paper").sizes == PartSizes(1077, (861, 216))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"data": ""}, "Say which statements"),
        ({"preset": "other"}, "'other' is not known; there is: paper"),
        ({"preset": "paper", "sample": 100}, "either the preset or those"),
        ({"split": "80-20"}, "write the sizes"),
        ({"declared": "random"}, "'random' is not known"),
        ({"declared": "likelihood_gated"}, "'likelihood_gated' is not known; there is: gated, paper"),
        ({"extra": ("gated",)}, "'gated' is not known"),
        ({"fit_on": "all"}, "auto, twins, statements"),
        ({"category": "triage"}, "file, auto"),
        ({"draws": 5}, "20 controls or more"),
        ({"sample": 10}, "40 statements or more"),
    ],
)
def test_a_request_that_cannot_be_meant_is_refused_in_words(given, words):
    with pytest.raises(BadInput, match=words):
        EvaluationRequest(**{"data": "x.csv"} | given)


def test_arms_are_named_by_comma_and_only_the_optional_ones_matter():
    assert arms_named("gated, fine_tuned,likelihood_gated") == ("likelihood_gated", "fine_tuned")
    assert arms_named("") == ()
    with pytest.raises(BadInput, match="'gatd' is not known"):
        arms_named("gatd")
