"""Resampling keeps groups whole and labels balanced, and its figures are those of other people's code."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from medx_core.evaluation.bootstrap import Estimate, aurocs, ranked_right, resamples

LABELLED_GROUPS = st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=1, max_size=40)


def numbered(groups):
    return np.unique(np.array(groups), return_inverse=True)[1]


@given(LABELLED_GROUPS)
def test_groups_are_drawn_whole_and_each_kind_of_group_as_often_as_there_are(drawn):
    gold = np.array([answer for answer, _ in drawn])
    groups = numbered([number for _, number in drawn])
    counts = resamples(gold, groups, seed=1, count=30).counts
    of_group = np.array([counts[groups == group][0] for group in range(groups.max() + 1)])
    assert (counts == of_group[groups]).all()
    assert (of_group.sum(axis=0) == len(of_group)).all()
    kinds = [tuple(np.unique(gold[groups == group])) for group in range(groups.max() + 1)]
    for kind in set(kinds):
        members = [place for place, group_kind in enumerate(kinds) if group_kind == kind]
        assert (of_group[members].sum(axis=0) == len(members)).all()


def test_single_items_are_stratified_by_label_and_vary():
    gold = np.arange(60) < 20
    counts = resamples(gold, np.arange(60), seed=3, count=200).counts
    assert (counts[gold].sum(axis=0) == 20).all()
    assert (counts[~gold].sum(axis=0) == 40).all()
    assert counts.mean() == 1
    assert counts.max() > 2


def test_the_same_seed_draws_the_same_and_another_seed_draws_otherwise():
    gold = np.arange(50) % 3 == 0
    first, again, other = (resamples(gold, np.arange(50), seed=seed, count=20).counts for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


@settings(max_examples=25)  # scikit-learn takes its time
@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3), st.integers(2, 9)), min_size=4, max_size=40))
@example([(True, 1, 2)] * 6 + [(False, 1, 3), (False, -1, 4), (True, 0, 5), (False, 1, 2)])
def test_figures_of_every_resample_are_those_of_scikit_learn(drawn):
    """Groups are of unequal size, so that resamples are too: none of their figures may go by the number of items."""
    gold = np.array([True, False, *(answer for answer, _, _ in drawn)])
    scores = np.array([0.0, 1.0, *(float(score) for _, score, _ in drawn)])  # few values, so many ties
    groups = numbered([0, 1, *(group for _, _, group in drawn)])
    weights = resamples(gold, groups, seed=5, count=4)
    area, balanced = weights.auroc(scores), weights.balanced((scores >= 0) == gold)
    share = weights.share(scores >= 0, ~gold)
    assert area.value == pytest.approx(roc_auc_score(gold, scores))
    assert balanced.value == pytest.approx(balanced_accuracy_score(gold, scores >= 0))
    for column, counts in enumerate(weights.counts.T):
        assert area.draws[column] == pytest.approx(roc_auc_score(gold, scores, sample_weight=counts))
        said = balanced_accuracy_score(gold, scores >= 0, sample_weight=counts)
        assert balanced.draws[column] == pytest.approx(said, abs=1e-6)
        accepted = np.average((scores >= 0)[~gold], weights=counts[~gold])
        assert share.draws[column] == pytest.approx(accepted, abs=1e-6)


def test_a_paired_difference_of_an_arm_with_itself_is_exactly_zero():
    gold = np.arange(80) % 2 == 0
    weights = resamples(gold, np.arange(80), seed=1)
    right = weights.balanced(np.arange(80) % 3 == 0)
    assert right.minus(right).interval == (0.0, 0.0)
    assert not right.minus(right).above_zero
    assert right.minus(right).p == 1.0


def test_the_interval_of_a_share_is_as_wide_as_theory_says():
    gold = np.arange(1_000) < 600
    hits = np.arange(1_000) % 10 < 3
    low, high = resamples(gold, np.arange(1_000), seed=2).share(hits).interval
    width = 2 * 1.96 * np.sqrt(0.3 * 0.7 / 1_000)
    assert high - low == pytest.approx(width, rel=0.1)
    assert low < 0.3 < high


@pytest.mark.parametrize("hit", [False, True])
@pytest.mark.parametrize("copies", [1, 3])
def test_a_share_of_none_or_of_all_has_the_interval_of_its_groups(hit: bool, copies: int):
    gold = np.repeat(np.arange(90) >= 45, copies)
    weights = resamples(gold, np.repeat(np.arange(90), copies), seed=3)
    none_accepted = weights.share(gold == hit, ~gold)
    assert none_accepted.interval == pytest.approx((0.9213, 1.0) if not hit else (0.0, 0.0787), abs=1e-4)
    assert none_accepted.n == 45 * copies
    assert weights.share(np.ones(90 * copies, dtype=bool)).interval[0] == pytest.approx(0.9590, abs=1e-4)
    assert weights.share(~gold).interval == (0.5, 0.5), "resamples have as many TRUE items as the data"
    assert weights.share((gold == hit).astype(float) - (gold == hit)).interval == (0.0, 0.0)


def test_resampling_twins_together_widens_what_twins_share():
    gold = np.tile([True, False], 200)
    shared = np.repeat(np.random.default_rng(1).random(200) < 0.5, 2)
    widths = []
    for groups in (np.arange(400), np.repeat(np.arange(200), 2)):
        low, high = resamples(gold, groups, seed=1).share(shared).interval
        widths.append(high - low)
    assert widths[1] / widths[0] == pytest.approx(np.sqrt(2), rel=0.1)


def test_figures_without_both_kinds_of_item_are_none():
    gold = np.ones(10, dtype=bool)
    weights = resamples(gold, np.arange(10), seed=1, count=10)
    assert weights.balanced(gold).metric is None
    assert weights.auroc(np.arange(10.0)).metric is None
    assert weights.share(gold, ~gold).metric is None
    assert np.isnan(aurocs(np.zeros((2, 10)), gold)).all()


def test_ties_of_a_pair_count_half():
    pairs = np.array([[2.0, 1.0], [1.0, 2.0], [1.0, 1.0], [3.0, 0.0]])
    ranked = ranked_right(pairs, np.ones((4, 5), dtype=np.float32))
    assert ranked.value == 0.625
    assert (ranked.draws == 0.625).all()


def test_p_counts_the_resamples_that_are_not_above_zero():
    draws = np.r_[np.full(19, 0.5), [-0.1]]
    assert Estimate(0.4, draws, 10).p == pytest.approx(2 * 2 / 21)
