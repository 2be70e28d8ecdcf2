"""Constant and amplifying strategies do what their names say; the controls hold nothing of the labels."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medx_core.errors import VectorRefused
from medx_core.fitting.fitted import fitted_layer
from medx_core.steering.contrast import ContrastTraces, mean_difference, pca, random_direction, shuffled
from medx_core.steering.names import AMPLIFY, CLAMP, MEAN_DIFFERENCE, PROJECT
from medx_core.steering.strategies import SteeredLayer

WIDTH = 12


def contrast(paired=True, rows=60) -> ContrastTraces:
    """Correct lies above incorrect along axis 2 by amounts around 1; both share what the statements are about."""
    generator = torch.Generator().manual_seed(4)
    shared = torch.randn((rows, WIDTH), generator=generator) if paired else torch.zeros((rows, WIDTH))
    noise = 0.05 * torch.randn((2, rows, WIDTH), generator=generator)
    amount = 1 + 0.3 * torch.randn(rows, generator=generator)
    correct, incorrect = shared + noise[0], shared + noise[1]
    correct[:, 2] += amount
    if not paired:
        gold = torch.arange(rows + rows // 2) < rows
        return ContrastTraces(torch.cat([correct, incorrect[: rows // 2]]), gold, "statement")
    gold = torch.arange(rows) % 2 == 0
    side = gold[:, None]
    in_answers = torch.stack([torch.where(side, correct, incorrect), torch.where(side, incorrect, correct)])
    return ContrastTraces(in_answers, gold, "answer_word")


@pytest.mark.parametrize("paired", [True, False])
def test_the_first_component_points_from_incorrect_to_correct_and_is_as_long_as_the_mean_difference(paired):
    states = contrast(paired)
    direction = pca(states)
    assert float(direction.norm()) == pytest.approx(float(mean_difference(states).norm()), rel=1e-5)
    assert direction[2] > 0.95 * direction.norm()
    torch.testing.assert_close(pca(states.relabelled(~states.gold)), -direction, atol=1e-4, rtol=1e-3)


def test_a_constant_direction_is_added_strength_times_to_every_state():
    direction = torch.arange(1.0, WIDTH + 1)
    states = torch.randn((3, 2, WIDTH))
    steered = SteeredLayer(strategy=MEAN_DIFFERENCE, layer=0, direction=direction, alpha=2.0)
    moved = states + steered.shift(states)
    torch.testing.assert_close(moved - states, (2 * direction).expand_as(states), atol=1e-5, rtol=1e-5)


def test_amplifying_by_one_doubles_the_distance_from_the_middle_and_touches_nothing_else():
    states = contrast()
    fit = fitted_layer(AMPLIFY, 0, states, [str(row) for row in range(len(states.gold))], 1.0)
    unit = fit.direction / fit.direction.norm()
    batch = states.sides[0][:5, None, :]
    moved = batch + fit.shift(batch)
    before, after = batch @ unit - fit.centre, moved @ unit - fit.centre
    torch.testing.assert_close(after, 2 * before, atol=1e-5, rtol=1e-5)
    rest = (moved - batch) - ((moved - batch) @ unit)[..., None] * unit
    assert rest.abs().max() < 1e-6


def test_projecting_takes_a_share_of_the_coordinate_and_clamping_sets_it_whatever_it_was():
    states = contrast()
    groups = [str(row) for row in range(len(states.gold))]
    correct, incorrect = states.sides
    batch = torch.cat([correct[:4], 9 * incorrect[:4]])[:, None, :]
    direction = mean_difference(states)
    unit = direction / direction.norm()

    def moved(strategy, alpha):
        shift = fitted_layer(strategy, 0, states, groups, alpha).shift(batch)
        assert ((shift @ unit)[..., None] * unit - shift).abs().max() < 1e-5, "nothing else is touched"
        return (batch + shift) @ unit

    for share in (1.0, 0.25, 0.0):
        torch.testing.assert_close(moved(PROJECT, share), (1 - share) * (batch @ unit), atol=1e-5, rtol=1e-5)
    for target, wanted in ((1.0, correct), (-1.0, incorrect)):
        mean = float((wanted @ unit).mean())
        torch.testing.assert_close(moved(CLAMP, target), torch.full((8, 1), mean), atol=1e-4, rtol=1e-4)


def test_the_random_control_of_a_clamp_has_its_target_where_states_lie_along_its_own_axis():
    states = contrast()
    random = fitted_layer(CLAMP, 0, states, [str(row) for row in range(len(states.gold))], 0.0).random(1)
    unit = random.direction / random.direction.norm()
    middle = sum(side.mean(dim=0) for side in states.sides) / 2
    after = middle[None] + random.shift(middle[None, None])[:, 0]
    torch.testing.assert_close(after @ unit, middle[None] @ unit, atol=1e-5, rtol=1e-5)


def test_a_random_direction_has_the_length_asked_for_and_depends_on_the_seed_alone():
    drawn = [random_direction(400, 7.5, seed=seed) for seed in (1, 1, 2)]
    assert float(drawn[0].norm()) == pytest.approx(7.5, rel=1e-5)
    assert torch.equal(drawn[0], drawn[1])
    assert abs(torch.nn.functional.cosine_similarity(drawn[0], drawn[2], dim=0)) < 0.2


@pytest.mark.parametrize("norm", [0.0, float("nan")])
def test_a_direction_that_steers_nothing_is_refused(norm):
    with pytest.raises(VectorRefused, match="would steer nothing"):
        random_direction(4, norm, seed=1)


def test_a_reading_without_one_of_its_sides_is_refused():
    states = torch.ones((4, WIDTH))
    with pytest.raises(VectorRefused, match="found no correct or no incorrect traces"):
        _ = ContrastTraces(states, torch.ones(4, dtype=torch.bool), "statement").sides


def test_relabelling_swaps_the_sides_of_exactly_the_relabelled_statements():
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randn((2, 4, 3), generator=generator)
    states = ContrastTraces(drawn, torch.tensor([True, True, False, False]), "answer_word")
    other = states.relabelled(torch.tensor([True, False, False, True]))
    (correct, incorrect), (turned, _) = states.sides, other.sides
    assert torch.equal(turned[[0, 2]], correct[[0, 2]])
    assert torch.equal(turned[[1, 3]], incorrect[[1, 3]])


labelled = st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=1, max_size=60)


@given(rows=labelled, seed=st.integers(0, 99))
def test_shuffling_keeps_how_many_are_true_and_what_balanced_groups_hold(rows, seed):
    labels = np.array([label for label, _ in rows])
    groups = np.array([group for _, group in rows])
    drawn = shuffled(labels, groups, seed)
    assert drawn.sum() == labels.sum()
    for group in set(groups.tolist()):
        inside = groups == group
        if 2 * labels[inside].sum() == inside.sum():
            assert drawn[inside].sum() == labels[inside].sum()
    assert np.array_equal(drawn, shuffled(labels, groups, seed))


def test_shuffled_twins_keep_one_true_statement_each_and_half_of_them_are_swapped():
    labels = np.tile([True, False], 500)
    drawn = shuffled(labels, [str(i // 2) for i in range(1000)], seed=3)
    assert (drawn.reshape(-1, 2).sum(axis=1) == 1).all()
    assert 0.4 < (drawn != labels).mean() < 0.6


def test_near_copies_of_one_answer_lose_it_together():
    labels = np.repeat([True, False], 300)
    drawn = shuffled(labels, [str(i // 3) for i in range(600)], seed=3)
    assert 0.4 < (drawn == labels).mean() < 0.6
    assert set(drawn.reshape(-1, 3).sum(axis=1).tolist()) == {0, 3}
