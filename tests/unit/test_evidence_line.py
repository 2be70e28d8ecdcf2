"""The line below a steered answer that says what its vector is worth."""

import pytest

from medx_core.evaluation.evidence_line import NOT_EVALUATED, evidence_line
from tests.evaluation_results import bare_result, synthetic_result


def test_the_evidence_line_gives_gain_interval_size_and_false_acceptance():
    helping = synthetic_result() | {"helps": True, "failed_controls": []}
    helping["judged"]["differences"]["unsteered"] = {"value": 0.041, "low": 0.02, "high": 0.062, "n": 2500}
    line = evidence_line(helping).replace("\u202f", " ")
    assert line == (
        "A vector made this way helps (+4.1 points, 2.0 to 6.2, n 2,500), also where wording gives nothing away. "
        "On twins: +3.0 points (−0.5 to 6.4) above swaps of false statements, which may be plausibility, not truth. "
        "False statements accepted: 13.1 % without steering, 36.2 % with it. Measured on invented_statements.csv."
    )


def test_the_evidence_line_names_what_was_not_beaten_and_what_stays_open():
    result = synthetic_result()
    assert "is not shown to help (+15.7 points" in evidence_line(result)
    assert (
        "does not beat shuffled labels or a moved threshold where wording gives nothing away"
        in evidence_line(result)
    )
    assert "not shown to help (+2.8 points" in evidence_line(result, arm="paper")
    assert ": wording cannot be ruled out." in evidence_line(bare_result())


def test_twins_without_their_control_say_once_that_plausibility_was_not_told_apart():
    result = synthetic_result()
    reasons = {"excess_valid": "the file has no swaps of FALSE statements"}
    result["arms"]["gated"]["matched"] |= {"excess": None, "excess_valid": False, "reasons": reasons}
    said = "Plausibility cannot be told from truth: the file has no swaps of FALSE statements."
    assert said in evidence_line(result)
    open_for_it = {"helps": None, "failed_controls": [], "reason": said[:1].lower() + said[1:-1]}
    line = evidence_line(result | open_for_it | {"judged": result["judged"] | open_for_it})
    assert line.count("no swaps of FALSE statements") == 1


@pytest.mark.parametrize("nothing", [None, {}, {"arms": {}}, {"helps": True, "arms": {}}])
def test_without_an_evaluation_the_evidence_line_says_so(nothing):
    assert evidence_line(nothing) == NOT_EVALUATED
    assert evidence_line(synthetic_result(), arm="never_run") == NOT_EVALUATED
