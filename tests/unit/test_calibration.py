"""The map from score to probability, and the threshold below which an answer is not trusted."""

import json
from statistics import NormalDist

import numpy as np
import pytest
from pydantic import ValidationError

from medx_core.calibration import AbstentionRule, Calibration, CalibrationKind, Knot
from medx_core.errors import BadInput
from medx_core.fitting.abstention import fit_abstention, one_of_each_group
from medx_core.fitting.calibration import fit_calibration, probabilities
from medx_core.metric import Metric

MAX_ERROR = 0.1


def alone(n: int) -> list[str]:
    return [str(number) for number in range(n)]


def world(n: int, slope: float, intercept: float, seed: int):
    """Scores whose probability of TRUE is 1 / (1 + exp(-(slope * score + intercept)))."""
    random = np.random.default_rng(seed)
    scores = random.normal(0, 3, n)
    return scores, random.random(n) < 1 / (1 + np.exp(-(slope * scores + intercept)))


@pytest.mark.parametrize(("slope", "intercept"), [(0.4, 0.0), (0.5, -1.5)])
def test_a_logistic_world_gets_its_own_map_back(slope: float, intercept: float):
    scores, gold = world(1_000, slope, intercept, seed=1)
    fitted = fit_calibration(scores, gold, alone(1_000)).calibration
    at = np.linspace(-6, 6, 25)
    assert probabilities(fitted, at) == pytest.approx(1 / (1 + np.exp(-(slope * at + intercept))), abs=0.06)
    assert fitted.kind is not CalibrationKind.TEMPERATURE or intercept == 0


def test_a_world_with_steps_gets_an_isotonic_map():
    random = np.random.default_rng(2)
    scores = random.uniform(-3, 3, 1_000)
    chances = np.where(scores < -1, 0.3, np.where(scores < 2, 0.45, 0.95))
    gold = random.random(1_000) < chances
    fitted = fit_calibration(scores, gold, alone(1_000))
    assert fitted.calibration.kind is CalibrationKind.ISOTONIC
    assert np.abs(probabilities(fitted.calibration, scores) - chances).mean() < 0.04


@pytest.mark.parametrize("seed", range(3))
def test_one_answer_is_mapped_as_all_are_and_no_map_falls(seed: int):
    random = np.random.default_rng(seed)
    scores = random.normal(size=300)
    gold = random.random(300) < 0.5 + 0.2 * np.sign(-scores)  # the model is wrong more often than right
    for kind in CalibrationKind:
        fitted = fit_calibration(scores * 10.0**seed, gold, alone(300)).calibration
        at = np.sort(random.normal(0, 50, 200))
        mapped = probabilities(fitted, at)
        assert [fitted.probability(float(score)) for score in at] == pytest.approx(mapped, abs=1e-12), kind
        assert (np.diff(mapped) >= 0).all()
        assert fitted == Calibration.model_validate_json(fitted.model_dump_json())


def test_scores_that_tell_all_apart_are_never_certain():
    gold = np.arange(200) % 2 == 0
    fitted = fit_calibration(np.where(gold, 40.0, -40.0), gold, alone(200)).calibration
    assert 0.9 < fitted.probability(40.0) < 1
    assert 0 < fitted.probability(-1e6) < 0.1 or fitted.kind is not CalibrationKind.ISOTONIC


def test_near_copies_stay_in_one_fold():
    random = np.random.default_rng(3)
    scores, gold = np.repeat(random.normal(size=60), 10), np.repeat(random.random(60) < 0.5, 10)
    unseen = fit_calibration(scores, gold, [str(row // 10) for row in range(600)]).unseen.reshape(60, 10)
    assert (unseen == unseen[:, :1]).all()
    apart = fit_calibration(scores, gold, alone(600)).unseen.reshape(60, 10)
    assert (apart != apart[:, :1]).any()


def test_too_few_statements_are_refused_in_words():
    gold = np.arange(100) % 2 == 0
    with pytest.raises(BadInput, match="10 TRUE and 10 FALSE"):
        fit_calibration(np.zeros(100), gold, [str(row // 12) for row in range(100)])


def test_a_number_is_a_probability_only_while_a_test_says_so():
    untested = Calibration(kind=CalibrationKind.PLATT, slope=1.0, n=100)
    good = untested.tested(Metric(value=0.02, low=0.01, high=0.049, n=900))
    bad = good.tested(Metric(value=0.02, low=0.01, high=0.05, n=900))
    assert [each.is_probability for each in (untested, good, bad, good.tested(None))] == [
        False, True, False, False,
    ]  # fmt: skip
    with pytest.raises(ValidationError):
        Calibration.model_validate(json.loads(bad.model_dump_json()) | {"is_probability": True})


@pytest.mark.parametrize(
    "knots",
    [(), ((0.0, 0.5), (0.0, 0.6)), ((0.0, 0.5), (1.0, 0.4))],
    ids=["none", "same score twice", "falls"],
)
def test_an_isotonic_map_without_rising_knots_is_refused(knots: tuple[tuple[float, float], ...]):
    with pytest.raises(ValidationError):
        Calibration(
            kind=CalibrationKind.ISOTONIC,
            n=10,
            knots=tuple(Knot(score=score, probability=chance) for score, chance in knots),
        )


def test_a_verdict_that_its_map_contradicts_has_a_confidence_below_one_half():
    mapped = Calibration(kind=CalibrationKind.PLATT, slope=1.0, intercept=-2.0, n=100)
    assert mapped.confidence(1.0, said_true=True) == pytest.approx(1 / (1 + np.e))
    assert mapped.confidence(-1.0, said_true=False) > 0.9


def test_a_rule_without_a_promise_trusts_nothing():
    rule = AbstentionRule(max_error=0.1, promised=False, n=20, reason="20 are too few")
    assert not rule.trusts(1.0)
    with pytest.raises(ValidationError):
        AbstentionRule(max_error=0.1, promised=True, n=20)


def test_one_statement_of_each_group_is_drawn():
    groups = ["b", "a", "b", "c", "a", "b"]
    draws = [one_of_each_group(groups, seed) for seed in range(40)]
    assert all(sorted(groups[place] for place in draw) == ["a", "b", "c"] for draw in draws)
    assert {int(place) for draw in draws for place in draw} == set(range(6))


@pytest.mark.parametrize(("n", "tied"), [(100, 98), (100, 1), (40, 37), (40, 1), (60, 60)])
def test_a_model_that_is_always_right_gets_its_promise_however_many_answers_are_tied(n: int, tied: int):
    sure = np.concatenate([np.full(tied, 0.99), np.linspace(0.98, 0.5, n - tied)])
    rule = fit_abstention(sure, np.ones(n, dtype=bool), alone(n), max_error=MAX_ERROR, seed=1)
    assert rule.promised
    assert rule.error == 0
    assert rule.coverage == 1


@pytest.mark.parametrize(("share_wrong", "fewest", "most"), [(0.05, 40, 60), (0.1, 0, 4)])
def test_an_arm_that_says_one_thing_gets_a_promise_where_it_holds(share_wrong: float, fewest: int, most: int):
    """Scores that tell nothing: a constant map's folds differ by their own base rates alone, turned around."""
    promised = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        gold, scores = random.random(400) < share_wrong, -1 - random.random(400) / 2
        fitted = fit_calibration(scores, gold, alone(400))
        rule = fit_abstention(1 - fitted.unseen, ~gold, alone(400), max_error=MAX_ERROR, seed=seed)
        constant = np.ptp(probabilities(fitted.calibration, scores)) == 0
        assert not constant or rule.threshold in (None, 0.0)
        promised += rule.promised
    assert fewest <= promised <= most


@pytest.mark.parametrize(
    ("wrong", "tied", "reason"),
    [
        (
            range(0, 100, 4),
            80,
            "it is equally sure of the 80 answers of 100 that it is surest of, and 20 of them are wrong",
        ),
        (range(0, 100, 4), 1, "of the 40 answers of 100 that it is surest of, 10 are wrong"),
        (
            range(0, 100, 4),
            100,
            "it is equally sure of the 100 answers of 100 that it is surest of, and 25 of them are wrong",
        ),
        (range(80, 100), 80, None),
    ],
)
def test_why_nothing_can_be_promised_is_said_as_it_is(wrong: range, tied: int, reason: str | None):
    sure = np.concatenate([np.full(tied, 0.9), np.linspace(0.89, 0.5, 100 - tied)])
    right = ~np.isin(np.arange(100), list(wrong))
    rule = fit_abstention(sure, right, alone(100), max_error=MAX_ERROR, seed=1)
    assert rule.promised is (reason is None)
    assert (rule.reason or None) == reason


CURVES = {
    "good": lambda sure: 0.5 * np.exp(-4 * sure),
    "all at the limit": lambda sure: np.full_like(sure, MAX_ERROR + 1e-9),
    "too poor": lambda sure: 0.45 - 0.2 * sure,
    "better in the middle": lambda sure: 0.2 - 0.15 * np.sin(np.pi * sure),
}
"""Chance of a wrong answer by how sure the model is, from 0 to 1."""


def broken_promises(
    n: int, copies: int, curve: str, *, levels: int = 0, worlds: int = 500
) -> tuple[int, int]:
    """Return in how many worlds there was a promise, and in how many it was broken; `copies` answers are one fact.

    With `levels`, the model tells no more than so many confidences apart, as an isotonic map does.
    """
    chance, many = CURVES[curve], (np.arange(20_000) + 0.5) / 20_000
    from_here_up = np.cumsum(chance(many)[::-1])[::-1] / np.arange(20_000, 0, -1)
    groups, promised, broken = np.repeat(alone(n // copies), copies).tolist(), 0, 0
    for seed in range(worlds):
        random = np.random.default_rng([n, copies, seed])
        facts = random.random(n // copies)
        right = np.repeat(random.random(len(facts)) >= chance(facts), copies)
        sure = np.ceil(facts * levels) / levels if levels else facts
        rule = fit_abstention(np.repeat(sure, copies), right, groups, max_error=MAX_ERROR, seed=seed)
        if rule.threshold is not None:
            promised += 1
            broken += bool(from_here_up[int(rule.threshold * 20_000)] > MAX_ERROR)
    return promised, broken


@pytest.mark.parametrize("copies", [1, 4])
@pytest.mark.parametrize("curve", CURVES)
def test_the_promise_holds_in_95_of_100_worlds(curve: str, copies: int):
    promised, broken = broken_promises(800, copies, curve)
    assert broken <= 500 * 0.05 + NormalDist().inv_cdf(0.99) * (500 * 0.05 * 0.95) ** 0.5
    assert promised == {"good": promised, "all at the limit": broken}.get(curve, promised)
    if curve == "good":
        assert promised > 450 if copies == 1 else promised > 250


@pytest.mark.parametrize(("n", "levels"), [(60, 0), (150, 3)])
def test_the_promise_holds_where_the_sequence_starts_later_than_planned(n: int, levels: int):
    promised, broken = broken_promises(n, 1, "good", levels=levels)
    assert promised > 50
    assert broken <= 500 * 0.05 + NormalDist().inv_cdf(0.99) * (500 * 0.05 * 0.95) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["platt", "isotonic"])
def test_the_promise_holds_in_95_of_100_worlds_where_the_map_is_fitted_on_the_same_statements(shape: str):
    """Twins share what makes them hard, scores have a bias, and the map is fitted on the very statements it is judged on."""
    random = np.random.default_rng(11)

    def twins(pairs: int):
        hard = np.repeat(random.normal(size=pairs), 2)
        gold = np.tile([True, False], pairs)
        clear = 1.5 + hard if shape == "platt" else np.where(hard > 0.5, 4.0, 0.3)
        return np.where(gold, clear, -clear) + random.normal(size=2 * pairs) + 0.7, gold

    population, truth = twins(50_000)
    groups = [str(row // 2) for row in range(800)]
    promised = broken = 0
    for seed in range(500):
        scores, gold = twins(400)
        fitted = fit_calibration(scores, gold, groups)
        said_true = scores >= 0
        sure = np.where(said_true, fitted.unseen, 1 - fitted.unseen)
        rule = fit_abstention(sure, said_true == gold, groups, max_error=MAX_ERROR, seed=seed)
        if rule.threshold is not None:
            promised += 1
            mapped = probabilities(fitted.calibration, population)
            trusted = np.where(population >= 0, mapped, 1 - mapped) > rule.threshold
            broken += bool(((population >= 0) != truth)[trusted].mean() > MAX_ERROR)
    assert promised > 250
    assert broken <= 500 * 0.05 + NormalDist().inv_cdf(0.99) * (500 * 0.05 * 0.95) ** 0.5
