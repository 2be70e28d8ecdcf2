"""The mean difference is what it is defined to be, and its diagnostics say what they promise."""

import pytest
import torch

from medx_core.errors import VectorRefused
from medx_core.evaluation.vector_findings import SAME_AXIS, warnings_of
from medx_core.fitting.build import stability
from medx_core.fitting.fitted import FittedLayer, fitted_layer
from medx_core.steering.contrast import ContrastTraces, mean_difference, separation
from medx_core.steering.diagnostics import shift_of_distribution
from medx_core.steering.names import ANSWER_WORD, MEAN_DIFFERENCE, PCA


def states(rows: int, *, signal: float, share_true: float = 0.5, seed: int = 0) -> ContrastTraces:
    """States in which the answer word sits on axis 0, and right minus wrong on axis 1 with size `signal`."""
    generator = torch.Generator().manual_seed(seed)
    gold = torch.arange(rows) < round(rows * share_true)
    noise = 0.1 * torch.randn((2, rows, 8), generator=generator)
    true_word, false_word = noise[0], noise[1]
    true_word[:, 0] += 5
    false_word[:, 0] -= 5
    true_word[gold, 1] += signal
    false_word[~gold, 1] += signal
    return ContrastTraces(noise, gold, ANSWER_WORD)


def test_the_share_of_true_statements_does_not_leak_the_answer_word_into_the_vector():
    vector = mean_difference(states(400, signal=1.0, share_true=0.9))
    assert vector[1].item() == pytest.approx(1.0, abs=0.05)
    assert vector[0].item() == pytest.approx(0.0, abs=0.05), (
        "a plain average would hold 8 here: the class prior"
    )


def test_statements_of_one_kind_make_no_vector():
    with pytest.raises(VectorRefused, match="both TRUE and FALSE"):
        mean_difference(states(10, signal=1.0, share_true=1.0))


def test_a_real_direction_is_stable_and_differs_from_shuffled_labels():
    diagnostics = stability(fitted(states(200, signal=1.0)), [str(i // 2) for i in range(200)], seed=1)
    assert diagnostics["halves_cosine"] > 0.9
    assert abs(diagnostics["shuffled_cosine"]) < 0.5


def fitted(traces: ContrastTraces, strategy: str = MEAN_DIFFERENCE) -> FittedLayer:
    return fitted_layer(strategy, 0, traces, [str(row) for row in range(len(traces.gold))], 1.0)


def findings(traces: ContrastTraces, strategy: str = MEAN_DIFFERENCE) -> dict[str, float]:
    """What the builder stores of shuffled labels."""
    fit = fitted(traces, strategy)
    shuffled = stability(fit, fit.groups, seed=0)
    del shuffled["halves_cosine"]
    return shuffled | {"separation": separation(traces, fit.axis)}


def test_an_axis_that_owes_nothing_to_the_labels_is_told_though_its_sign_comes_by_chance():
    """The answer words, ten apart, are the first component whatever the labels; only its sign follows them."""
    diagnostics = findings(states(200, signal=0.0), PCA)
    assert abs(diagnostics["shuffled_cosine"]) < 0.5, "the mean cosine alone says nothing"
    assert diagnostics["shuffled_cosine_size"] > 0.99
    assert any("whatever is true" in warning for warning in warnings_of(diagnostics))


@pytest.mark.parametrize("strategy", [MEAN_DIFFERENCE, PCA])
def test_an_axis_that_shuffled_labels_find_too_because_the_effect_is_strong_is_not_warned_of(strategy):
    strong = states(200, signal=2.0)
    strong.states[0, :, 0] -= 5  # no class prior
    strong.states[1, :, 0] += 5
    diagnostics = findings(strong, strategy)
    assert diagnostics["shuffled_cosine_size"] > SAME_AXIS
    assert diagnostics["separation"] > 3 * diagnostics["shuffled_separation"]
    assert warnings_of(diagnostics) == ()


def test_mean_differences_of_few_examples_are_not_warned_of_for_what_chance_gives():
    diagnostics = findings(states(20, signal=0.0))
    assert 0.1 < diagnostics["shuffled_cosine_size"] < SAME_AXIS
    assert warnings_of(diagnostics) == ()


def test_noise_has_no_stable_direction():
    fit = fitted(states(200, signal=0.0))
    assert abs(stability(fit, fit.groups, seed=1)["halves_cosine"]) < 0.9


def test_separation_is_in_standard_deviations():
    generator = torch.Generator().manual_seed(3)
    gold = torch.tensor([True, False] * 500)
    base = torch.randn((1000, 4), generator=generator)
    other = torch.randn((1000, 4), generator=generator)
    moved = base + torch.tensor([2.0, 0, 0, 0])
    side = gold[:, None]
    in_answers = torch.stack([torch.where(side, moved, other), torch.where(side, other, moved)])
    traces = ContrastTraces(in_answers, gold, ANSWER_WORD)
    assert separation(traces, torch.tensor([3.0, 0, 0, 0])) == pytest.approx(2.0, abs=0.15)


def test_the_shift_of_the_distribution_is_the_distance_of_the_means():
    before = torch.randn((50, 4), generator=torch.Generator().manual_seed(1))
    after = before + torch.tensor([0.0, 3.0, 4.0, 0.0])
    assert shift_of_distribution(before, after)["mean_shift"] == pytest.approx(5.0, rel=1e-5)
