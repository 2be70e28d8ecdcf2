"""A gate is the logistic read-out it is defined as, and moves a state by the logits it says."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from medx_core.errors import VectorRefused
from medx_core.steering.gate import fit_gate
from medx_core.steering.strategies import GatedShift

ROWS, WIDTH = 240, 24


def states_and_gold(seed=0, rows=ROWS):
    """States of very unequal coordinates, and labels that some of them tell."""
    random = np.random.default_rng(seed)
    scale, offset = np.exp(random.normal(size=WIDTH)), 5 * random.normal(size=WIDTH)
    drawn = random.normal(size=(rows, WIDTH))
    gold = drawn[:, :5].sum(axis=1) + random.logistic(size=rows) > 0.5
    return torch.tensor(drawn * scale + offset, dtype=torch.float32), gold


@pytest.mark.parametrize("c", [0.003, 1.0, 100.0], ids=["strong penalty", "weak", "hardly any"])
def test_it_is_scikit_learns_logistic_regression_on_z_scores_scaled_to_deviation_one(c):
    states, gold = states_and_gold()
    values = states.double().numpy()
    z = (values - values.mean(axis=0)) / values.std(axis=0)
    expected = LogisticRegression(C=c, tol=1e-10, max_iter=10_000).fit(z, gold).decision_function(z)
    values = fit_gate(states, gold, c=c).values(states).numpy()
    np.testing.assert_allclose(values, expected / expected.std(), atol=2e-3)
    assert values.std() == pytest.approx(1.0, abs=1e-3)


def test_fitting_twice_gives_the_same_gate_to_the_last_digit():
    states, gold = states_and_gold()
    first, second = fit_gate(states, gold), fit_gate(states, gold)
    assert torch.equal(first.weight, second.weight)
    assert first.bias == second.bias


def twins(pairs=120, seed=2):
    """Twins that differ in coordinate 0; coordinate 1 goes with the label only between unlike topics."""
    random = np.random.default_rng(seed)
    gold = np.tile([True, False], pairs)
    states = 0.1 * random.normal(size=(2 * pairs, WIDTH))
    states[:, 0] += np.where(gold, 0.1, -0.1)
    states += np.repeat(random.normal(size=(pairs, WIDTH)), 2, axis=0)
    return torch.tensor(states, dtype=torch.float32), gold, [str(i // 2) for i in range(2 * pairs)]


def test_on_twins_it_ranks_the_true_one_higher_although_topics_differ_far_more():
    states, gold, groups = twins()
    fresh, fresh_gold, _ = twins(seed=3)
    gate = fit_gate(states, gold, groups=groups, differences=True)
    values = gate.values(fresh)
    assert (values[fresh_gold] > values[~fresh_gold]).float().mean() > 0.7
    assert gate.values(states).median().abs() < 0.05, "s is centred on the fitting states"
    assert gate.values(states).std().item() == pytest.approx(1.0, abs=0.01)


def test_groups_of_one_kind_teach_nothing_about_differences():
    states, gold, groups = twins()
    alone = fit_gate(states, gold, groups=groups, differences=True)
    more = torch.cat([states, 50 + torch.zeros((1, WIDTH))])
    beside = fit_gate(more, [*gold, True], groups=[*groups, "single"], differences=True)
    turned = torch.nn.functional.cosine_similarity(alone.weight, beside.weight, dim=0)
    assert turned > 0.5, "only the scale of the coordinates changed"


def test_the_shift_raises_the_logit_difference_by_k_tanh_s_minus_the_bias():
    states, gold = states_and_gold()
    gate, gradient = fit_gate(states, gold), torch.linspace(-2, 3, WIDTH)
    batch = states[:6, None, :]  # (rows, tokens, width)
    moved = GatedShift.along(gradient, gate, k=4.0, b0=1.5)(batch)
    expected = 4.0 * torch.tanh(gate.values(states[:6])) - 1.5
    torch.testing.assert_close((moved @ gradient)[:, 0], expected, atol=1e-4, rtol=1e-4)
    along = moved[:, 0] - (moved[:, 0] @ gradient)[:, None] * gradient / gradient.square().sum()
    assert along.abs().max() < 1e-5, "nothing but the gradient's direction is touched"


def test_the_shift_takes_the_number_type_of_the_states():
    states, gold = states_and_gold()
    shift = GatedShift.along(torch.ones(WIDTH), fit_gate(states, gold), k=2.0, b0=0.0)
    assert shift(states[:2, None, :].bfloat16()).dtype is torch.bfloat16


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gold": np.ones(ROWS, dtype=bool)}, "both TRUE and FALSE"),
        ({"gold": np.ones(7, dtype=bool)}, "7 labels do not fit"),
        ({"states": torch.full((ROWS, WIDTH), torch.nan)}, "finite"),
        ({"states": torch.ones((ROWS, WIDTH))}, "do not differ"),
        ({"differences": True}, "which statements belong together"),
        ({"differences": True, "groups": [str(i) for i in range(ROWS)]}, "No group holds both"),
    ],
)
def test_what_cannot_be_fitted_is_refused_in_words(change, words):
    states, gold = states_and_gold()
    given = {"states": states, "gold": gold} | change
    with pytest.raises(VectorRefused, match=words):
        fit_gate(given.pop("states"), given.pop("gold"), **given)


def test_a_gradient_that_does_not_fit_is_refused():
    states, gold = states_and_gold()
    gate = fit_gate(states, gold)
    with pytest.raises(VectorRefused, match="nothing to push along"):
        GatedShift.along(torch.zeros(WIDTH), gate, k=1.0, b0=0.0)
    with pytest.raises(VectorRefused, match="cannot push along"):
        GatedShift.along(torch.ones(WIDTH + 1), gate, k=1.0, b0=0.0)
