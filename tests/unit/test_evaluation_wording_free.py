"""The part of the test set where wording gives nothing away, and when it is not to be trusted."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer

from medx_core.data.labelled_statements import LabelledStatement
from medx_core.data.leakage import character_grams
from medx_core.evaluation.arms import ArmScores, ControlDraws, TestItems
from medx_core.evaluation.wording_free import (
    balanced_in_bins,
    group_folds,
    read_wording,
    wording_free_part,
)
from tests.evaluation_scores import figures

NOUNS = ("heart", "liver", "lung", "kidney", "spleen", "nerve", "artery", "vein", "muscle", "bone")


def leaning(count, *, seed, prefix):
    """Statements in which 'always' leans towards FALSE; the nouns say nothing."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        answer = bool(random.random() < 0.6)
        cue = "always" if random.random() < (0.2 if answer else 0.7) else "often"
        text = f"The {random.choice(NOUNS)} is {cue} near the {random.choice(NOUNS)}"
        rows.append(LabelledStatement(text, answer, f"{prefix}{number}"))
    return rows


def twin_items(pairs, controls):
    """Complete twins, then pairs of which both are false; the first of a pair is the original."""
    rows = []
    for number in range(pairs + controls):
        source = number < pairs
        for original in (True, False):
            said = "one" if original else "other"
            rows.append(
                LabelledStatement(
                    f"{said} {number}",
                    source and original,
                    f"g{number}",
                    pair=f"p{number}",
                    source_answer=source,
                    original=original,
                )
            )
    return TestItems(rows)


def twin_arms(pairs, controls, preferred):
    """Arms that prefer the original in the first `preferred` twins and in half of the control."""
    first = np.r_[np.arange(pairs) < preferred, np.arange(controls) % 2 == 0]
    scores = np.stack([first, ~first], axis=1).ravel().astype(float)
    return [ArmScores("unsteered", np.zeros(len(scores))), ArmScores("gated", scores)]


def test_twins_are_ranked_and_stand_beside_their_association_control():
    result = figures(twin_items(120, 40), twin_arms(120, 40, 90), [])
    assert (result["matched"]["kind"], result["matched"]["n"], result["matched"]["valid"]) == (
        "twins",
        120,
        True,
    )
    gated = result["arms"]["gated"]["matched"]
    assert gated["accuracy"]["value"] == 0.75
    assert gated["association"]["value"] == 0.5
    assert gated["association"]["n"] == 40
    assert gated["excess"]["value"] == pytest.approx(0.25)
    assert gated["excess"]["low"] < 0.25 < gated["excess"]["high"]
    assert result["arms"]["unsteered"]["matched"]["accuracy"]["value"] == 0.5  # all ties
    assert gated["vs_unsteered"]["accuracy_difference"]["low"] > 0


@pytest.mark.parametrize(
    ("preferred", "said"),
    [(110, "so plausibility alone does not explain it"), (66, "so it may be plausibility, not truth")],
)
def test_the_conclusion_never_leaves_the_association_control_out(preferred, said):
    result = figures(twin_items(120, 120), twin_arms(120, 120, preferred), [])
    assert "prefers the original of 50.0 % of false statements" in result["conclusion"]
    assert said in result["conclusion"]


def drawn_controls(pairs):
    """Random and shuffled draws of the gated arm that are right half of the time."""
    said = np.tile([1.0, 1.0, -1.0, -1.0], pairs // 2 + 1)[: 2 * pairs]
    return [ControlDraws(f"gated_{kind}", "gated", np.tile(said, (20, 1))) for kind in ("random", "shuffled")]


def judged_on_twins(pairs, controls, *, preferred=110, control_preferred=0.5, unsteered_first=None):
    """The evaluation of a gated arm that ranks `preferred` twins right and beats everything but perhaps plausibility."""
    items = twin_items(pairs, controls)
    first = np.r_[np.arange(pairs) < preferred, np.arange(controls) < control_preferred * controls]
    scores = np.where(np.stack([first, ~first], axis=1).ravel(), 1.0, -1.0)
    no = ("unsteered", "prompt_only", "prior")
    arms = [*(ArmScores(name, np.full(len(scores), -1.0)) for name in no), ArmScores("gated", scores)]
    if unsteered_first is not None:  # it ranks, though it says FALSE to everything
        ranked = np.where(np.stack([unsteered_first, ~unsteered_first], axis=1).ravel(), -1.0, -2.0)
        arms[0] = ArmScores("unsteered", ranked)
    return figures(items, arms, drawn_controls(pairs))


def test_an_arm_that_beats_everything_on_twins_helps_when_plausibility_explains_less():
    result = judged_on_twins(120, 120)
    assert result["helps"] is True
    assert result["judged"]["differences"]["association"]["low"] > 0


def test_an_arm_that_prefers_the_original_of_false_statements_as_often_does_not_help():
    result = judged_on_twins(120, 120, control_preferred=0.9)
    assert result["helps"] is False
    assert result["failed_controls"] == ["association", "association_gain"]
    assert "it does not beat plausibility" in result["conclusion"]


@pytest.mark.parametrize(
    ("controls", "said"),
    [(0, "has no swaps of FALSE statements"), (99, "has too few swaps of FALSE statements (99;")],
)
def test_twins_without_enough_of_their_control_leave_the_question_open(controls, said):
    result = judged_on_twins(120, controls)
    assert result["helps"] is None
    assert f"plausibility cannot be told from truth: the file {said}" in result["conclusion"]
    assert result["conclusion"].count("swaps of FALSE") == 1


def test_twins_without_their_control_say_so_also_when_nothing_is_gained():
    result = judged_on_twins(120, 0, preferred=60)
    assert result["helps"] is False
    assert "how much of what its twins show is plausibility is not known" in result["conclusion"]


def of_kinds(items, twin_kind, control_kind):
    """The items with the kind of word that each pair exchanged, by the number of its pair."""
    return TestItems(
        [
            replace(statement, kind=(twin_kind if statement.source_answer else control_kind)(number // 2))
            for number, statement in enumerate(items.statements)
        ]
    )


def judged_by_kinds(twin_kind, control_kind, right):
    """A gated arm that ranks the twins `right` (by number) and prefers the original in half of 120 control pairs."""
    items = of_kinds(twin_items(len(right), 120), twin_kind, control_kind)
    first = np.r_[right, np.arange(120) % 2 == 0]
    scores = np.where(np.stack([first, ~first], axis=1).ravel(), 1.0, -1.0)
    no = ("unsteered", "prompt_only", "prior")
    arms = [*(ArmScores(name, np.full(len(scores), -1.0)) for name in no), ArmScores("gated", scores)]
    return figures(items, arms, drawn_controls(len(right)))


def test_like_is_held_against_like_where_the_control_lacks_some_kinds():
    # the counts are all ranked right, the nerves as often as in the control, which has nerves only
    right = np.r_[np.ones(100, bool), np.arange(120) % 2 == 0]
    result = judged_by_kinds(lambda n: "count" if n < 100 else "nerve", lambda _: "nerve", right)
    matched = result["arms"]["gated"]["matched"]
    assert matched["excess"]["low"] > 0
    assert matched["excess_same_kinds"]["value"] == pytest.approx(0.0)
    assert matched["excess_same_kinds"]["n"] == 240
    assert result["judged"]["differences"]["association"] == matched["excess_same_kinds"]
    assert result["helps"] is False
    assert "among twins of the same kinds of word" in result["conclusion"]


@pytest.mark.parametrize(
    ("twin_kind", "control_kind"), [("count", "nerve"), ("", "nerve"), ("nerve", "")], ids=repr
)
def test_a_control_of_other_kinds_is_none(twin_kind, control_kind):
    result = judged_by_kinds(lambda _: twin_kind, lambda _: control_kind, np.ones(120, bool))
    assert result["helps"] is None
    assert "too few twins exchange a kind of word" in result["judged"]["reason"]
    assert result["arms"]["gated"]["matched"]["excess_valid"] is False
    assert "does not explain" not in result["conclusion"]


def test_where_all_kinds_stand_in_the_control_all_twins_count():
    right = np.arange(120) < 110
    result = judged_by_kinds(lambda n: ("nerve", "bone")[n % 2], lambda n: ("bone", "nerve")[n % 2], right)
    matched = result["arms"]["gated"]["matched"]
    assert result["helps"] is True
    assert matched["excess_same_kinds"] is None
    assert "all appear in the control" in matched["reasons"]["excess_same_kinds"]


def part_of(items, wording=()):
    """The wording-free part of test items whose readers are fitted on `wording`."""
    return wording_free_part(items, read_wording(items, wording, seed=1)).about


def test_twins_nobody_could_read_for_wording_say_so():
    part = part_of(twin_items(120, 0))
    assert part.kind == "twins"
    assert "was not checked" in part.notice


def test_swaps_of_false_statements_count_in_no_other_figure():
    result = figures(twin_items(120, 40), twin_arms(120, 40, 90), [])
    assert result["arms"]["gated"]["accuracy"]["n"] == 240
    assert result["arms"]["gated"]["false_acceptance_rate"]["n"] == 120


def test_without_swaps_of_false_statements_there_is_no_excess_and_a_reason():
    result = figures(twin_items(120, 0), twin_arms(120, 0, 90), [])
    gated = result["arms"]["gated"]["matched"]
    assert gated["excess"] is None
    assert "FALSE statements" in gated["reasons"]["excess"]


def test_fewer_than_a_hundred_twins_are_not_enough():
    assert part_of(twin_items(100, 0)).kind == "twins"
    none = part_of(twin_items(99, 0))
    assert none.kind is None
    assert "outside the test set" in none.reason


def test_twins_that_wording_tells_apart_say_so():
    items = TestItems(
        [
            LabelledStatement(
                f"It is {'often' if answer else 'always'} so", answer, str(pair), pair=str(pair)
            )
            for pair in range(100)
            for answer in (True, False)
        ]
    )
    part = part_of(items, leaning(300, seed=2, prefix="o"))
    assert part.kind == "twins"
    assert not part.valid
    assert "not symmetric swaps" in part.reason
    assert part.read_right["words"].value == 1.0


def test_matching_removes_what_readers_of_wording_see():
    items = TestItems(leaning(600, seed=1, prefix="t"))
    wording = leaning(3_000, seed=2, prefix="o")
    reading = read_wording(items, wording, seed=1)
    part, kept = wording_free_part(items, reading).about, reading.matched
    assert part.kind == "matched"
    assert part.valid
    assert items.gold[kept].mean() == 0.5
    assert 200 < part.n < 500
    always = np.array(["always" in statement.text for statement in items.statements])
    assert abs(always[items.gold].mean() - always[~items.gold].mean()) > 0.4
    assert abs(always[kept & items.gold].mean() - always[kept & ~items.gold].mean()) < 0.05
    assert all(value <= 0.55 for value in part.residual_auc.values())


def test_too_few_statements_to_fit_on_make_the_part_invalid_in_words():
    part = part_of(TestItems(leaning(300, seed=1, prefix="t")), leaning(861, seed=2, prefix="o"))
    assert not part.valid
    assert "861 statements" in part.reason


def test_every_bin_keeps_as_many_true_as_false_and_the_seed_decides_which():
    random = np.random.default_rng(1)
    scores = random.normal(size=1_000)
    gold = random.random(1_000) < 1 / (1 + np.exp(-2 * scores))
    first, again, other = (balanced_in_bins(scores, gold, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()
    for held in np.array_split(np.argsort(scores, kind="stable"), 50):
        trues, falses = gold[held].sum(), (~gold[held]).sum()
        assert (first & gold)[held].sum() == (first & ~gold)[held].sum() == min(trues, falses)


def test_folds_keep_groups_together_and_answers_even():
    groups = [f"g{number // 2}" for number in range(200)]
    answers = np.arange(200) // 2 % 4 == 0
    fold = group_folds(answers, groups, np.random.default_rng(1))
    assert (fold[::2] == fold[1::2]).all()
    assert [int(answers[fold == part].sum()) for part in range(5)] == [10] * 5


@given(st.text())
def test_character_grams_are_those_of_scikit_learn(text):
    theirs = CountVectorizer(analyzer="char_wb", ngram_range=(2, 4)).build_analyzer()
    assert sorted(character_grams(text)) == sorted(theirs(text))
