"""The synthetic world is what its description says, and the self-test counts what the instrument says in it."""

from collections import Counter

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from medx_core.evaluation import wording_free
from medx_core.evaluation.bootstrap import balanced_accuracies
from medx_core.evaluation.wording_free import balanced_in_bins
from medx_core.lab.self_test import Outcome, Trial, run_trial, summary, trials
from medx_core.lab.synthetic_arms import fit_in, statements_of
from medx_core.lab.synthetic_world import DISTANCES, World

TRAIN = 861
MANY = 10_000
WORLDS = 12


def style_evidence(world, style):
    """The true log-likelihood ratio of TRUE against FALSE that the style words carry, up to a constant."""
    return 2 * world.leaning[style].sum(axis=1)


def gain_where_wording_is_matched(distance, seed):
    """The gated arm's gain in balanced accuracy over the unsteered one, in a world of its own."""
    world, random = World(distance, seed), np.random.default_rng([seed, 1])
    train, asked = world.sample(TRAIN, random), world.sample(MANY, random)
    statements = statements_of(asked, "asked ")
    fitted = fit_in(world, statements_of(train, "train "), statements)
    kept = balanced_in_bins(style_evidence(world, asked.style), asked.gold, random)
    scores = {arm.name: arm.scores for arm in fitted.arms(statements.labelled)}
    right = np.stack([(scores[name] >= 0) == asked.gold for name in ("gated", "unsteered")])
    gated, unsteered = balanced_accuracies(right[:, kept], asked.gold[kept])
    return gated - unsteered


@pytest.mark.parametrize("effect", [0, *(pytest.param(size, marks=pytest.mark.slow) for size in (3, 6)), 12])
def test_the_planted_effect_is_as_large_as_it_is_called(effect, monkeypatch):
    monkeypatch.setattr(
        wording_free, "MOST_BINS", MANY
    )  # as many as the items allow: nothing is left to chance
    with threadpool_limits(1):  # many small products
        gains = [100 * gain_where_wording_is_matched(DISTANCES[effect], seed) for seed in range(WORLDS)]
    error = np.std(gains, ddof=1) / np.sqrt(WORLDS)
    assert error < 0.6
    assert np.mean(gains) == pytest.approx(effect, abs=2 * error)


def test_the_world_looks_like_the_data_it_stands_for():
    evidence, unsteered, rates = [], [], []
    for seed in range(5):
        world = World(0.0, seed)
        asked = world.sample(MANY, np.random.default_rng(seed))
        scores = world.unsteered.scores(asked.states)
        evidence.append(roc_auc_score(asked.gold, style_evidence(world, asked.style)))
        unsteered.append(roc_auc_score(asked.gold, scores))
        rates.append((scores >= 0).mean())
        assert abs(world.unsteered.weights @ world.content) < 1e-9
    assert np.mean(evidence) == pytest.approx(0.85, abs=0.03)
    assert np.mean(unsteered) == pytest.approx(0.67, abs=0.04)
    assert np.mean(rates) == pytest.approx(0.25, abs=0.03)


def test_what_is_planted_is_found_and_permuted_answers_are_not():
    assert run_trial(Trial("planted", 12, 1_077, 0, 1)).helps is True
    permuted = run_trial(Trial("permuted", 0, 1_077, 0, 1))
    assert permuted.helps is False
    assert permuted.failed


def test_style_alone_beats_every_control_until_wording_is_matched():
    trial = run_trial(Trial("style_only", 0, 1_077, 0, 1))
    assert trial.helps is False
    assert set(trial.failed) <= {"matched_unsteered", "matched_prior"}


def test_the_counts_and_powers_are_those_of_the_outcomes():
    def outcomes(kind, effect, n, verdicts):
        return [Outcome(Trial(kind, effect, n, i, 1), verdict, ()) for i, verdict in enumerate(verdicts)]

    table = summary(
        [
            *outcomes("permuted", 0, 1_077, [False] * 20),
            *outcomes("style_only", 0, 1_077, [True, True, None, *[False] * 17]),
            *outcomes("planted", 12, 1_077, [True] * 9 + [False]),
            *outcomes("planted", 6, 5_000, [True] * 7 + [False] * 3),
        ]
    )
    assert table["null"]["runs"] == 40
    assert table["null"]["helps"] == 2
    assert table["null"]["by_kind"]["style_only"]["cannot_tell"] == 1
    assert [(row["effect"], row["n"], row["power"]) for row in table["power"]] == [
        (6, 5_000, 0.7),
        (12, 1_077, 0.9),
    ]
    assert [target["met"] for target in table["targets"]] == [True, False, False, True]


def test_every_kind_of_trial_is_planned_as_often_as_asked():
    planned = Counter(trial.key for trial in trials(200, 50, seed=1))
    cells = {("planted", effect, n): 50 for effect in (3, 6, 12) for n in (216, 1_077, 5_000)}
    twins = {("planted_twins", 6, 750): 50, ("planted_twins", 12, 750): 50, ("association_only", 0, 750): 200}
    assert planned == {("permuted", 0, 1_077): 200, ("style_only", 0, 1_077): 200, **cells, **twins}
