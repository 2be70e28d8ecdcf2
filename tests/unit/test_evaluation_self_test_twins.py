"""The world of twins is what its description says, and the self-test asks of them what the rule asks."""

import pickle
from functools import cache

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from medx_core import __version__
from medx_core.data.labelled_statements import LabelledStatement, twins_of
from medx_core.evaluation.bootstrap import preferred
from medx_core.evaluation.wording_free import swapped_pairs
from medx_core.lab.self_test import (
    ASSOCIATION_ONLY,
    PLANTED_TWINS,
    Outcome,
    Trial,
    run_self_test,
    run_trial,
    summary,
    trials,
)
from medx_core.lab.synthetic_arms import TRAIN_TWINS, Statements, fit_in, swapped_statements
from medx_core.lab.synthetic_world import TWIN_DISTANCES, TwinWorld, World, worded_swaps

MANY = 10_000
WORLDS = 6


@cache
def numbered_swaps(source):
    """MANY pairs whose texts are only numbers: the fitted arms read states alone."""
    rows = range(2 * MANY)
    return [LabelledStatement(f"{source} {row}", source and row % 2 == 0, f"{source} {row}") for row in rows]


def preferred_originals(effect, seed):
    """The gated arm's shares, in points, of twins ranked right and of originals preferred in the control."""
    world, random = TwinWorld(World(TWIN_DISTANCES[effect], seed)), np.random.default_rng([seed, 1])
    train = swapped_statements(world, TRAIN_TWINS, "train ", random, source=True)
    asked = [
        Statements(numbered_swaps(source), world.swaps(MANY, random, source=source).states)
        for source in (True, False)
    ]
    arms = fit_in(world.world, train, *asked)
    gated = [next(arm.scores for arm in arms.arms(part.labelled) if arm.name == "gated") for part in asked]
    return [100 * preferred(scores.reshape(-1, 2)).mean() for scores in gated]


@pytest.mark.parametrize("effect", [0, pytest.param(6, marks=pytest.mark.slow), 12])
def test_the_planted_excess_is_as_large_as_it_is_called(effect):
    with threadpool_limits(1):  # many small products
        twins, control = np.array([preferred_originals(effect, seed) for seed in range(WORLDS)]).T
    error = np.std(twins - control, ddof=1) / np.sqrt(WORLDS)
    assert error < 0.6
    assert np.mean(twins - control) == pytest.approx(effect, abs=2 * error)
    if effect == 0:
        assert np.mean(twins) == pytest.approx(65, abs=1)


def test_the_two_versions_share_their_wording_and_differ_in_what_the_world_says():
    world, random = TwinWorld(World(0.5, 3), association=0.8), np.random.default_rng(3)
    assert abs(world.direction @ world.world.content) < 1e-9
    assert np.linalg.norm(world.direction) == pytest.approx(1)
    for source, content in ((True, 1.0), (False, 0.0)):
        swaps = world.swaps(MANY, random, source=source)
        assert (swaps.style[::2] == swaps.style[1::2]).all()
        assert (swaps.gold[::2] == source).all()
        assert not swaps.gold[1::2].any()
        apart = (swaps.states[::2] - swaps.states[1::2]).mean(axis=0)
        assert apart @ world.world.content == pytest.approx(content, abs=0.06)
        assert apart @ world.direction == pytest.approx(1.6, abs=0.06)


def test_swaps_as_text_are_twins_or_their_control_and_never_both():
    world, random = TwinWorld(World(0.0, 4)), np.random.default_rng(4)
    for source in (True, False):
        swaps = world.swaps(50, random, source=source)
        worded = worded_swaps(swaps, "test ", random, source=source)
        assert all(twin.text != other.text for twin, other in zip(worded[::2], worded[1::2], strict=True))
        originals = list(zip(range(0, 100, 2), range(1, 100, 2), strict=True))
        assert twins_of(worded) == (originals if source else [])
        control = swapped_pairs(worded)
        assert [tuple(pair) for pair in control] == ([] if source else originals)


def test_association_alone_beats_every_control_but_its_own():
    outcomes = [run_trial(Trial(ASSOCIATION_ONLY, 0, 750, number, 1)) for number in range(3)]
    # not exactly, because some come close and rounding differs over machines
    assert sum(outcome.helps is not False for outcome in outcomes) <= 1
    assert sum(set(outcome.failed) <= {"association", "association_gain"} for outcome in outcomes) >= 2


def test_an_excess_that_is_there_is_found():
    assert run_trial(Trial(PLANTED_TWINS, 12, 750, 0, 1)).helps is True


def test_the_summary_keeps_twins_apart():
    def outcomes(kind, effect, verdicts):
        return [
            Outcome(Trial(kind, effect, 750, number, 1), helps, failed)
            for number, (helps, failed) in enumerate(verdicts)
        ]

    alone = [(True, ()), (None, ()), (False, ("association", "prior"))] + [(False, ("association",))] * 16
    alone.append((False, ("association", "association_gain")))
    table = summary(
        [
            *outcomes(ASSOCIATION_ONLY, 0, alone),
            *outcomes(PLANTED_TWINS, 6, [(True, ())] + [(False, ("association",))] * 9),
            *outcomes(PLANTED_TWINS, 12, [(True, ())] * 7 + [(False, ("association",))] * 3),
        ]
    )
    assert table["null"]["runs"] == 0
    assert table["power"] == []
    twins = table["twins"]
    assert twins["null"] == {
        "runs": 20,
        "helps": 1,
        "cannot_tell": 1,
        "failed_controls": {"association": 18, "association_gain": 1, "prior": 1},
    }
    assert (
        twins["without_association"] == 18
    )  # the 17 that failed nothing else, and the one that failed nothing
    assert [(row["effect"], row["n"], row["power"]) for row in twins["power"]] == [
        (6, 750, 0.1),
        (12, 750, 0.7),
    ]
    assert all(row["low"] < row["power"] < row["high"] for row in twins["power"])
    assert [(row["found"], row["met"]) for row in table["targets"]] == [(0.05, True), (0.7, False)]
    assert "association_only" in table["targets"][0]["target"]
    assert "750 twins" in table["targets"][1]["target"]


def small_self_test(processes):
    """The self-test with one trial of each kind that cannot help, and what was told of its progress."""
    told: list[tuple[int, int]] = []
    table = run_self_test(lambda *done: told.append(done), processes=processes, null_runs=1, power_runs=0)
    assert told == [(1, 3), (2, 3), (3, 3)]
    return table


def test_a_trial_depends_on_its_own_seed_and_not_on_those_run_before_it():
    table = small_self_test(processes=1)
    assert table["null"]["runs"] == 2
    assert table["twins"]["null"]["runs"] == 1
    assert table["medx_version"] == __version__
    alone = [run_trial(trial) for trial in reversed([*trials(1, 0, seed=1)])]
    # as they come from another process
    alone = pickle.loads(pickle.dumps(alone))  # noqa: S301 - made in this line
    expected = summary(alone)
    assert {part: table[part] for part in expected} == expected


@pytest.mark.slow
def test_a_small_self_test_gives_the_same_figures_in_two_processes():
    one_process, two_processes = small_self_test(processes=1), small_self_test(processes=2)
    for table in (one_process, two_processes):
        del table["seconds"]
    assert two_processes == one_process
