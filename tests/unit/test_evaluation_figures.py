"""The figures of an evaluation on cases small enough to be counted by hand."""

import json
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss

from medx_core.categories import Category
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.errors import BadInput
from medx_core.evaluation.arms import ArmScores, ControlDraws, TestItems
from medx_core.evaluation.bootstrap import mcnemar_p, resamples
from medx_core.evaluation.calibration_figures import calibrated, calibration
from medx_core.evaluation.result_builder import arm_figures, reasons_for
from tests.evaluation_scores import figures

HARMS = ("moderate", "severe", "mild", "", "Severe", "none", "moderate", "")


def eight_items():
    """Four TRUE, then four FALSE; harm labels on six of them."""
    return TestItems(
        [
            LabelledStatement(
                text=f"Statement {row}.",
                answer=row < 4,
                group=str(row),
                category=Category.TRIAGE if row % 2 else Category.LITERATURE,
                difficulty="1" if row in (0, 7) else "",
                harm=HARMS[row],
                row=row + 1,
            )
            for row in range(8)
        ]
    )


UNSTEERED = np.array([1.0, -1, -1, -1, -1, -1, -1, 2])  # right: 0, 4, 5, 6
STEERED = np.array([1.0, 2, 0, -1, 3, -1, 1, -2])  # right: 0, 1, 2, 5, 7


def of(name, scores):
    return ArmScores(name, scores, np.ones(len(scores), dtype=bool))


def all_figures(**given):
    asked = {"arms": [of("unsteered", UNSTEERED), of("gated", STEERED)], "controls": [], **given}
    return figures(eight_items(), asked["arms"], asked["controls"])


def test_the_rates_of_one_arm_are_those_counted_by_hand():
    items = eight_items()
    measured = arm_figures(items, of("gated", STEERED), resamples(items.gold, items.groups, seed=1))
    values = {name: metric.value for name, metric in measured.items() if metric}
    assert values["accuracy"] == 5 / 8
    assert values["balanced_accuracy"] == (3 / 4 + 2 / 4) / 2
    assert values["predicted_true_rate"] == 5 / 8  # a score of 0 is TRUE
    assert values["false_acceptance_rate"] == 2 / 4
    assert measured["false_acceptance_rate"].n == 4
    assert values["auroc"] == (2.5 + 3 + 2 + 1.5) / 16  # couples ranked right by each TRUE item
    assert values["answer_word_rate"] == 1.0
    assert measured["factual_consistency"] is None
    assert "verifier" in reasons_for(measured)["factual_consistency"]


def test_safety_errors_are_wrong_answers_of_grave_harm_over_all_items_with_a_harm_label():
    safety = all_figures()["arms"]["gated"][
        "safety_error_rate"
    ]  # wrong: 3, 4, 6; of these 4 is severe, 6 moderate, 3 has no label
    assert (safety["value"], safety["n"]) == (2 / 6, 6)
    assert safety["false_acceptance"]["value"] == 2 / 6
    assert safety["false_rejection"]["value"] == 0.0


def test_figures_by_category_and_difficulty_count_their_own_items_only():
    measured = all_figures()["arms"]["gated"]
    assert set(measured["by_category"]) == {"triage", "literature"}
    assert measured["by_category"]["triage"]["n"] == 4
    assert measured["by_category"]["triage"]["accuracy"]["value"] == 3 / 4
    assert measured["by_category"]["literature"]["false_acceptance_rate"]["value"] == 1.0
    assert list(measured["by_difficulty"]) == ["1"]
    assert measured["by_difficulty"]["1"]["accuracy"]["value"] == 1.0


def test_against_unsteered_counts_what_was_helped_and_harmed_and_names_it():
    gain = all_figures()["arms"]["gated"]["vs_unsteered"]
    assert (gain["helped"], gain["harmed"]) == (3, 2)
    assert [example["row"] for example in gain["examples"]["helped"]] == [2, 3, 8]
    assert gain["examples"]["harmed"][0] == {
        "row": 5,
        "statement": "Statement 4.",
        "answer": False,
        "unsteered_score": -1.0,
        "score": 3.0,
    }
    assert gain["accuracy_difference"]["value"] == pytest.approx(1 / 8)
    assert gain["balanced_accuracy_difference"]["value"] == pytest.approx((3 + 2) / 8 - (1 + 3) / 8)
    assert gain["mcnemar_p"] == 1.0


def test_what_is_mended_and_broken_is_counted_by_harm_and_for_every_draw():
    controls = [ControlDraws("gated_random", "gated", np.stack([UNSTEERED, STEERED, -UNSTEERED]))]
    arms = all_figures(controls=controls)["arms"]
    by_harm = arms["gated"]["vs_unsteered"]["by_harm"]
    # wrong unsteered: 1, 2, 3, 7; rows 1, 2 and 7 are mended, rows 4 and 6 broken
    assert {harm: (each["n"], each["helped"], each["harmed"]) for harm, each in by_harm.items()} == {
        "none": (1, 0, 0), "mild": (1, 1, 0), "moderate": (2, 0, 1), "severe": (2, 1, 1),
    }  # fmt: skip
    drawn = arms["gated_random"]["vs_unsteered"]
    assert drawn["changes"] == {
        "helped": {"value": 3.0, "draws": [0.0, 3.0, 4.0]},
        "harmed": {"value": 2.0, "draws": [0.0, 2.0, 4.0]},
    }
    assert list(drawn["by_harm"]) == ["none", "mild", "moderate", "severe"]
    assert drawn["by_harm"]["severe"]["harmed"]["draws"] == [0.0, 1.0, 1.0]


def test_two_confidences_order_the_same_answers():
    # Right answers of the arm: 0, 1, 2, 5, 7. The probe is surest of these, the arm's own map of the wrong ones.
    right = np.array([1, 1, 1, 0, 0, 1, 0, 1], dtype=bool)
    sure_if_wrong = np.where(right, 0.6, 0.9)
    own = np.where(STEERED >= 0, sure_if_wrong, 1 - sure_if_wrong)
    truth = np.where(np.arange(8) < 4, 0.9, 0.1)
    arms = [
        of("unsteered", UNSTEERED),
        ArmScores("gated", STEERED, probabilities=own, trusted=sure_if_wrong > 0.7),
        ArmScores("probe", truth - 0.5, probabilities=truth),
    ]
    gated = all_figures(arms=arms)["arms"]["gated"]
    risks = {kind: [each["risk"] for each in curve["points"]] for kind, curve in gated["confidences"].items()}
    assert risks["score"][0] == 1.0
    assert risks["probe"][0] == 0.0
    assert risks["score"][-1] == risks["probe"][-1] == 3 / 8
    mean = {kind: curve["mean_risk"]["value"] for kind, curve in gated["confidences"].items()}
    assert mean["probe"] == pytest.approx((1 / 6 + 2 / 7 + 3 / 8) / 8)
    assert mean["score"] == pytest.approx((3 + 3 / 4 + 3 / 5 + 3 / 6 + 3 / 7 + 3 / 8) / 8)
    assert gated["abstention"]["coverage"]["value"] == 3 / 8
    assert (gated["abstention"]["error"]["value"], gated["abstention"]["error_of_rest"]["value"]) == (
        1.0,
        0.0,
    )
    assert gated["calibrated"]["is_probability"] is False


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_exact_binomial_test_on_the_items_that_changed(helped, harmed):
    n, fewer = helped + harmed, min(helped, harmed)
    tail = sum(comb(n, k) for k in range(fewer + 1)) / 2**n
    assert mcnemar_p(helped, harmed) == pytest.approx(min(1.0, 2 * tail) if n else 1.0)


def test_brier_bins_and_risk_coverage_agree_with_the_scores():
    random = np.random.default_rng(4)
    scores = random.normal(size=105)
    gold = random.random(105) < 1 / (1 + np.exp(-scores))
    measured = calibration(scores, resamples(gold, np.arange(105), seed=1))
    probabilities = 1 / (1 + np.exp(-scores))
    assert measured.brier.value == pytest.approx(brier_score_loss(gold, probabilities))
    assert [each.n for each in measured.bins] == [11] * 5 + [10] * 5
    gaps = [each.n * abs(each.mean_score - each.share_true) for each in measured.bins]
    assert measured.ece.value == pytest.approx(sum(gaps) / 105, abs=1e-6)
    assert measured.ece.low <= measured.ece.value <= measured.ece.high
    assert measured.risk_coverage[-1].model_dump() == {
        "coverage": 1.0,
        "risk": pytest.approx(((scores >= 0) != gold).mean()),
    }


@given(st.lists(st.sampled_from([0.1, 0.3, 0.31, 0.9]), min_size=3, max_size=60), st.randoms())
def test_items_of_one_probability_share_a_bin_whatever_the_order_of_the_rows(tied, shuffle):
    gold = np.array([shuffle.random() < 0.5 for _ in tied])
    gold[:2] = True, False
    order = np.array(shuffle.sample(range(len(tied)), len(tied)))
    probabilities = np.array(tied)
    here, there = (
        calibrated(probabilities[rows], resamples(gold[rows], np.arange(len(tied)), seed=1))
        for rows in (np.arange(len(tied)), order)
    )
    assert [each.n for each in here.bins] == [each.n for each in there.bins]
    assert here.ece.value == pytest.approx(there.ece.value, abs=1e-6)
    ends = np.cumsum([each.n for each in here.bins])[:-1]
    assert all(sorted(tied)[end - 1] < sorted(tied)[end] for end in ends)


def test_a_constant_as_right_as_can_be_has_no_calibration_error():
    gold = np.tile([True, False, False, False], 25)
    measured = calibrated(np.full(100, 0.25), resamples(gold, np.arange(100), seed=1))
    assert [(each.mean_score, each.share_true, each.n) for each in measured.bins] == [(0.25, 0.25, 100)]
    assert measured.ece.value == pytest.approx(0.0, abs=1e-6)


def test_draws_of_a_control_are_given_with_their_median():
    draws = np.stack([UNSTEERED, STEERED, STEERED])
    arm = all_figures(controls=[ControlDraws("gated_random", "gated", draws)])["arms"]["gated_random"]
    assert arm["accuracy"] == {"value": 5 / 8, "draws": [4 / 8, 5 / 8, 5 / 8]}
    assert arm["false_acceptance_rate"]["draws"] == [1 / 4, 2 / 4, 2 / 4]
    assert arm["vs_unsteered"]["accuracy_difference"]["draws"] == [0.0, 1 / 8, 1 / 8]


def test_every_missing_figure_has_its_reason_and_the_whole_is_json():
    result = all_figures(arms=[of("unsteered", UNSTEERED), ArmScores("gated", STEERED)])
    for arm in result["arms"].values():
        missing = {name for name, value in arm.items() if value is None}
        assert missing == set(arm["reasons"])
    assert result["matched"]["valid"] is False
    assert result["matched"]["reason"]
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_the_same_seed_gives_the_same_figures_to_the_last_digit():
    assert all_figures() == all_figures()


@pytest.mark.parametrize(
    ("scores", "said"), [(np.zeros(7), "for 8 test statements"), (np.full(8, np.nan), "not finite")]
)
def test_scores_that_do_not_fit_the_items_are_refused(scores, said):
    with pytest.raises(BadInput, match=said):
        all_figures(arms=[of("unsteered", UNSTEERED), of("gated", scores)])


def test_two_arms_of_one_name_are_refused():
    with pytest.raises(BadInput, match="same name: gated"):
        all_figures(arms=[of("gated", UNSTEERED), of("gated", STEERED)])
