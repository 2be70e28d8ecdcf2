"""The schema of an evaluation's result: what is written is read again, older files too, and nothing else."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.json_docs import DOCUMENT, document
from medx_core.errors import BadInput
from medx_core.evaluation.result import Metric, read_result
from medx_core.evaluation.verdicts import Verdict
from tests.small_evaluation import small_evaluation

VERSION_1 = Path(__file__).parent.parent / "data" / "evaluation-version-1.json"


def test_a_result_survives_its_json():
    result = small_evaluation().result
    text = json.dumps(result.model_dump(mode="json"), allow_nan=False)
    assert read_result(json.loads(text)) == result
    assert result.schema_version == 2


def test_a_result_of_version_1_is_read():
    result = read_result(json.loads(VERSION_1.read_text(encoding="utf-8")))
    assert (result.judged.verdict, result.helps) == (Verdict.CONTROL_NOT_BEATEN, False)
    assert result.arm("gated").accuracy == Metric(value=1.0, low=1.0, high=1.0, n=50)
    assert result.arm("gated").vs_unsteered.false_acceptance_difference is None
    assert list(result.controls_of("gated")) == ["gated_random", "gated_shuffled"]
    assert result.sweep.layers == (1,)


@pytest.mark.parametrize(
    ("reason", "verdict"),
    [
        ("the declared arm gated was not run", Verdict.NOT_RUN),
        ("needed to judge it and not run: prompt_only", Verdict.CONTROLS_NOT_RUN),
        ("wording cannot be ruled out: too few statements", Verdict.WORDING_NOT_RULED_OUT),
        ("plausibility cannot be told from truth: no swaps", Verdict.PLAUSIBILITY_NOT_RULED_OUT),
        ("3 of 50 test statements have a twin or a near copy", Verdict.FITTED_ON_TEST_ITEMS),
    ],
)
def test_an_open_verdict_of_version_1_is_known_by_its_sentence(reason, verdict):
    old = json.loads(VERSION_1.read_text(encoding="utf-8"))
    old["judged"] |= {"helps": None, "failed_controls": [], "reason": reason}
    assert read_result(old).judged.verdict is verdict


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"arms": None}, "has no arms"),
        ({"schema_version": 3}, "version 3 of the result format; this MedX reads versions 1 and 2"),
        ({"seed": "one"}, "at seed: input should be a valid integer"),
        ({"unknown": 1}, "at unknown: extra inputs are not permitted"),
        ({"judged": {}}, "parts of it are missing"),
    ],
)
def test_what_is_not_a_result_is_refused_in_one_sentence(changed, said):
    old = json.loads(VERSION_1.read_text(encoding="utf-8"))
    with pytest.raises(BadInput, match=said) as refusal:
        read_result(old | changed, "old.json")
    assert str(refusal.value).startswith("old.json ")
    assert "\n" not in str(refusal.value)


def test_the_verdict_and_helps_cannot_contradict_each_other():
    result = small_evaluation().result.model_dump(mode="json")
    result["judged"] |= {"verdict": "helps", "helps": False}
    with pytest.raises(BadInput, match="helps is False and the verdict helps"):
        read_result(result)


def test_reading_results_needs_no_numerical_library():
    heavy = "{'torch', 'numpy', 'scipy', 'pandas', 'sklearn'}"
    code = f"import sys, medx_core.evaluation.result, medx_core.evaluation.sentences; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_table_of_the_jsons_fields_is_up_to_date():
    assert DOCUMENT.read_text(encoding="utf-8") == document(), "run: .venv/bin/python -m deploy.json_docs"
