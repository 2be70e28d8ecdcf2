"""The line below a steered answer that says what its vector is worth."""

from medx_core.evaluation.result import Metric
from medx_core.evaluation.sentences import NOT_EVALUATED, evidence_in_short, evidence_line
from medx_core.evaluation.verdicts import Reason, Verdict
from tests.small_evaluation import small_evaluation


def metric(value, half, n=1_000):
    return Metric(value=value, low=value - half, high=value + half, n=n)


def result_with(verdict, *, failed=(), gain=0.041, excess=0.03, accepted=(0.131, 0.362), details=None):
    """The real small result with the verdict and the figures that its evidence line tells replaced."""
    result = small_evaluation().result
    judged = result.judged.model_copy(
        update={
            "verdict": verdict,
            "helps": verdict.helps,
            "failed_controls": failed,
            "reason": verdict.because(**details) if details else None,
        }
    )
    matched = result.arm("gated").matched.model_copy(
        update={
            "excess": metric(excess, 0.035),
            "excess_same_kinds": None,
            "vs_unsteered": None,
            "excess_valid": True,
        }
    )
    arms = {
        name: result.arm(name).model_copy(update={"false_acceptance_rate": metric(share, 0.04)})
        for name, share in zip(("unsteered", "gated"), accepted, strict=True)
    }
    gained = result.arm("gated").vs_unsteered.model_copy(
        update={"balanced_accuracy_difference": metric(gain, 0.021, 2_500)}
    )
    arms["gated"] = arms["gated"].model_copy(update={"matched": matched, "vs_unsteered": gained})
    return result.model_copy(update={"judged": judged, "arms": result.arms | arms})


def test_the_evidence_line_gives_gain_interval_size_and_false_acceptance():
    assert evidence_line(result_with(Verdict.HELPS), "gated").replace("\u202f", " ") == (
        "This recipe helps (+4.1 points, 2.0 to 6.2, n 2,500), also where wording gives nothing away. "
        "On twins: +3.0 points (−0.5 to 6.5) above swaps of false statements, which may be plausibility, not truth. "
        "False statements accepted: 13.1 % without steering, 36.2 % with it. Measured on statements.csv."
    )


def test_the_evidence_line_names_what_was_not_beaten_and_what_stays_open():
    line = evidence_line(
        result_with(Verdict.CONTROL_NOT_BEATEN, failed=("gated_shuffled", "matched_prior")), "gated"
    )
    assert "is not shown to help (+4.1 points" in line
    assert "does not beat shuffled labels or a moved threshold where wording gives nothing away" in line
    open_for_wording = result_with(Verdict.WORDING_NOT_RULED_OUT, details={"why": "too few statements"})
    assert "n 2,500): wording cannot be ruled out." in evidence_line(open_for_wording, "gated")
    assert "This recipe" in evidence_line(small_evaluation().result, arm="paper")


def test_twins_without_their_control_say_once_that_plausibility_was_not_told_apart():
    why = Reason.NO_ASSOCIATION_CONTROL.value
    line = evidence_line(result_with(Verdict.PLAUSIBILITY_NOT_RULED_OUT, details={"why": why}), "gated")
    assert line.count(why) == 1
    result = result_with(Verdict.HELPS)
    matched = {"excess": None, "excess_valid": False, "reasons": {"excess_valid": why}}
    gated = result.arm("gated")
    gated = gated.model_copy(update={"matched": gated.matched.model_copy(update=matched)})
    line = evidence_line(result.model_copy(update={"arms": result.arms | {"gated": gated}}), "gated")
    assert f"Plausibility cannot be told from truth: {why}." in line


def test_of_an_arm_that_is_not_judged_the_line_gives_the_accuracy_and_of_one_that_was_not_run_nothing():
    line = evidence_line(small_evaluation().result, "unsteered").replace("\u202f", " ")
    assert line.startswith("This recipe answers ")
    assert "% right (" in line
    assert line.endswith("Measured on statements.csv.")
    assert evidence_line(small_evaluation().result, "never_run") == NOT_EVALUATED


def test_no_accuracy_stands_without_false_acceptance_in_a_line_or_in_a_table():
    result = small_evaluation().result
    for said in (evidence_line(result, "unsteered"), evidence_in_short(result, "unsteered")):
        assert "% right (" in said
        assert "False statements accepted: " in said
    without = result.arm("unsteered").model_copy(update={"false_acceptance_rate": None})
    all_true = result.model_copy(update={"arms": result.arms | {"unsteered": without}})
    for said in (evidence_line(all_true, "unsteered"), evidence_in_short(all_true, "unsteered")):
        assert "False statements accepted: not known, since none of the test statements is FALSE." in said
    verdict = evidence_in_short(result_with(Verdict.HELPS), "gated").replace("\u202f", " ")
    assert verdict.endswith("False statements accepted: 13.1 % without steering, 36.2 % with it.")
