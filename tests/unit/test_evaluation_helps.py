"""When MedX says that steering helps: never without every control, and never past the wording."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medx_core.data.labelled_statements import LabelledStatement
from medx_core.evaluation.arms import ArmScores, ControlDraws, TestItems
from medx_core.evaluation.bootstrap import resamples
from medx_core.evaluation.decision_rule import Comparison, holm, judged
from medx_core.evaluation.result import Figures
from medx_core.evaluation.sentences import conclusion
from medx_core.evaluation.verdicts import Verdict
from medx_core.evaluation.wording_free import matched_part, no_part
from tests.evaluation_scores import figures

N = 400
GOLD = np.arange(N) % 2 == 0
ITEMS = TestItems([LabelledStatement(f"S{i}", bool(gold), str(i)) for i, gold in enumerate(GOLD)])
WEIGHTS = resamples(GOLD, np.arange(N), seed=1)
EVERY = np.ones(N, dtype=bool)
ALL = matched_part(EVERY, 4_000, {"surface": 0.5, "words": 0.5, "characters": 0.5})


def right_in(share, seed=0):
    """Scores of an arm that is right in `share` of both kinds of item."""
    right = np.random.default_rng(seed).random(N) < share
    return np.where(right == GOLD, 1.0, -1.0)


def draws_of(name, share, *, count=20, of="gated"):
    return ControlDraws(name, of, np.stack([right_in(share, 100 + draw) for draw in range(count)]))


def comparison(**changed):
    """A comparison that `gated` wins, but for what is changed: arms by name, `controls`, `part`."""
    arms = {"unsteered": 0.55, "prompt_only": 0.6, "prior": 0.58, "gated": 0.8}
    scores = {name: right_in(share, seed) for seed, (name, share) in enumerate(arms.items())}
    scores |= {
        name: given_scores
        for name, given_scores in changed.items()
        if name in arms and given_scores is not None
    }
    controls = changed.get("controls", [draws_of("gated_random", 0.55), draws_of("gated_shuffled", 0.55)])
    kept = {
        name: ArmScores(name, given_scores)
        for name, given_scores in scores.items()
        if changed.get(name, 0) is not None
    }
    return Comparison(ITEMS, kept, controls, WEIGHTS, lambda: changed.get("part", ALL))


def test_an_arm_that_beats_everything_helps():
    judgement = judged(comparison(), "gated")
    assert judgement.helps is True
    assert judgement.failed_controls == ()
    assert set(judgement.differences) == {
        "unsteered",
        "prompt_only",
        "prior",
        "gated_random",
        "gated_shuffled",
        "matched_unsteered",
        "matched_prior",
    }


def test_test_statements_that_were_fitted_on_leave_the_question_open():
    judgement = judged(replace(comparison(), shared=3), "gated")
    assert judgement.helps is None
    assert "3 of" in judgement.reason
    assert judged(replace(comparison(unsteered=right_in(0.8, 9)), shared=3), "gated").helps is False


@pytest.mark.parametrize("control", ["unsteered", "prompt_only", "prior"])
def test_one_control_that_is_as_good_is_enough_to_fail(control):
    judgement = judged(comparison(**{control: right_in(0.8, 9)}), "gated")
    assert judgement.helps is False
    assert control in judgement.failed_controls


def test_the_median_draw_may_be_beaten_and_one_lucky_draw_still_fails_the_arm():
    random = draws_of("gated_random", 0.55)
    lucky = np.where(GOLD, 1.0, -1.0)
    one_lucky = replace(random, scores=np.stack([*random.scores[:-1], lucky]))
    judgement = judged(comparison(controls=[one_lucky, draws_of("gated_shuffled", 0.55)]), "gated")
    assert judgement.differences["gated_random"].above_zero
    assert judgement.failed_controls == ("gated_random",)
    assert judgement.helps is False


def test_a_gain_that_is_gone_where_wording_gives_nothing_away_is_no_help():
    part = replace(ALL, members=np.arange(N) < 100)
    gated = np.where(np.arange(N) < 100, right_in(0.5, 7), right_in(0.95, 8))
    judgement = judged(comparison(gated=gated, part=part), "gated")
    assert judgement.helps is False
    assert judgement.failed_controls == ("matched_unsteered", "matched_prior")


@pytest.mark.parametrize(
    "part", [no_part("the file has too little", N), matched_part(EVERY, 4_000, {"words": 0.6})]
)
def test_without_a_valid_wording_free_part_nobody_can_say(part):
    judgement = judged(comparison(part=part), "gated")
    assert judgement.helps is None
    assert judgement.failed_controls == ()
    assert judgement.verdict is Verdict.WORDING_NOT_RULED_OUT
    assert "wording cannot be ruled out" in judgement.reason


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"prior": None}, "prior"),
        ({"controls": [draws_of("gated_random", 0.55)]}, "shuffled draws of gated"),
        (
            {"controls": [draws_of("gated_random", 0.5), draws_of("gated_shuffled", 0.5, count=5)]},
            "there are 5",
        ),
        ({"gated": None}, "the declared arm gated was not run"),
    ],
)
def test_a_control_that_was_not_run_leaves_the_question_open(changed, said):
    judgement = judged(comparison(**changed), "gated")
    assert judgement.helps is None
    assert said in judgement.reason


def test_controls_of_another_arm_are_not_its_own():
    others = [draws_of("random", 0.99, of="paper"), draws_of("shuffled", 0.99, of="paper")]
    assert judged(comparison(controls=[*comparison().controls, *others]), "gated").helps is True
    assert judged(comparison(controls=others), "gated").helps is None


def test_a_failed_control_counts_although_another_was_not_run():
    judgement = judged(comparison(prior=None, unsteered=right_in(0.8, 9)), "gated")
    assert judgement.helps is False


def test_the_wording_free_part_is_left_alone_when_a_quick_judgement_has_failed():
    def never():
        raise AssertionError

    failing = replace(comparison(unsteered=right_in(0.8, 9)), find_part=never)
    assert judged(failing, "gated", thorough=False).helps is False


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_a_p_and_keeps_their_order(ps):
    named = {str(place): p for place, p in enumerate(ps)}
    adjusted = holm(named)
    assert all(adjusted[name] >= named[name] for name in named)
    ranked = sorted(named, key=lambda name: named[name])
    assert [adjusted[name] for name in ranked] == sorted(adjusted.values())
    assert max(adjusted.values()) <= 1


def test_holm_gives_the_textbook_values():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})


def test_arms_nobody_declared_are_judged_as_exploratory():
    asked = comparison(part=ALL)
    arms = [*asked.arms.values(), ArmScores("paper", right_in(0.56, 5)), ArmScores("probe", right_in(0.9, 6))]
    result = figures(ITEMS, arms, asked.controls)
    assert set(result["exploratory"]) == {"paper"}
    assert result["exploratory"]["paper"]["helps"] is False
    assert result["exploratory"]["paper"]["p_holm"] >= result["exploratory"]["paper"]["p"]


def accepting(unsteered, gated):
    """The real figures of two arms that accept such shares of the FALSE statements and judge half of the TRUE ones right."""
    half = np.arange(N) % 4 == 0
    arms = [
        ArmScores(name, np.where(GOLD, half, np.arange(N) % 20 < 20 * share) - 0.5)
        for name, share in (("unsteered", unsteered), ("gated", gated))
    ]
    measured = Figures.model_validate(figures(ITEMS, arms, []))
    return measured.arm("unsteered"), measured.arm("gated")


def test_the_conclusion_begins_with_false_acceptance_when_it_rose():
    sentence = conclusion(judged(comparison(), "gated"), *accepting(0.2, 0.6))
    assert sentence.startswith(
        "False statements are accepted more often, 60.0 % after steering and 20.0 % before"
    )
    assert "helps" in sentence


def test_the_conclusion_gives_false_acceptance_also_when_it_did_not_rise():
    sentence = conclusion(judged(comparison(unsteered=right_in(0.8, 9)), "gated"), *accepting(0.6, 0.2))
    assert sentence.startswith("Gated changes balanced accuracy by ")
    assert "does not beat the unsteered model" in sentence
    assert sentence.endswith("false statements accepted go from 60.0 % to 20.0 %.")


@pytest.mark.parametrize(
    "changed",
    [{}, {"prior": right_in(0.8, 9)}, {"part": no_part("nobody knows", N)}],
    ids=["true", "false", "null"],
)
def test_every_conclusion_is_one_sentence(changed):
    sentence = conclusion(judged(comparison(**changed), "gated"), *accepting(0.2, 0.3))
    assert sentence.count(". ") == 0
    assert sentence.endswith(".")
