"""Steering shifts what it says by what it says, and nothing else, in every architecture."""

import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medx_core.errors import BadInput, VectorRefused
from medx_core.steering.dose import DoseMeter
from medx_core.steering.gate import Gate
from medx_core.steering.hooks import (
    ConstantShift,
    SteeringPlan,
    SteeringStep,
    outputs_read,
    plan_for_rows,
    recorded,
    steered,
)
from medx_core.steering.layers import decoder_layers, hidden_of, hidden_size, penultimate_layer
from medx_core.steering.positions import Positions
from medx_core.steering.strategies import AxisShift, GatedShift
from tests.language_models import ARCHITECTURES, WIDTH, tiny_network

GATED = GatedShift.along(
    torch.linspace(0.5, 1, WIDTH), Gate(torch.linspace(1, -1, WIDTH), 0.2), k=3.0, b0=0.5
)
IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])


def added(layer: int, vector: torch.Tensor, strength: float = 1.0) -> SteeringPlan:
    """The plan of a row to which a vector is added."""
    return SteeringPlan((SteeringStep(layer, ConstantShift(strength * vector[None])),))


def hooks_left(network) -> int:
    return sum(len(module._forward_hooks) for module in network.modules())


def states_at(network, layer, plan=None):
    with (
        torch.inference_mode(),
        steered(network, plan or SteeringPlan()),
        recorded(network, [layer]) as states,
    ):
        logits = network(input_ids=IDS, use_cache=False).logits
    return states[layer], logits


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_row_is_shifted_by_exactly_its_vector_and_its_neighbour_not_at_all(architecture):
    network = tiny_network(architecture).eval()
    layer = penultimate_layer(network)
    vector = torch.linspace(-1, 1, WIDTH)
    plan = plan_for_rows([added(layer, vector, 2.0), SteeringPlan()], width=hidden_size(network))

    before, plain_logits = states_at(network, layer)
    after, steered_logits = states_at(network, layer, plan)

    torch.testing.assert_close(after[0] - before[0], 2.0 * vector, atol=1e-5, rtol=1e-5)
    assert torch.equal(after[1], before[1])
    # A mixture of experts groups tokens by expert over the whole batch, so its sums may differ in the last digit.
    torch.testing.assert_close(steered_logits[1], plain_logits[1], atol=1e-6, rtol=1e-5)
    assert not torch.equal(steered_logits[0, -1], plain_logits[0, -1])
    assert torch.equal(steered_logits[0, :-1], plain_logits[0, :-1]), (
        "earlier prompt tokens stay as they were"
    )
    assert hooks_left(network) == 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_penultimate_layer_is_the_one_before_the_last(architecture):
    network = tiny_network(architecture)
    assert len(decoder_layers(network)) == 3
    assert penultimate_layer(network) == 1


def test_rows_of_one_batch_may_be_steered_at_different_layers():
    network = tiny_network("llama").eval()
    vector = torch.ones(WIDTH)
    plan = plan_for_rows([added(0, vector), added(2, vector, -1.0)], width=WIDTH)
    first, _ = states_at(network, 0, plan)
    plain, _ = states_at(network, 0)
    torch.testing.assert_close(first[0] - plain[0], vector)
    assert torch.equal(first[1], plain[1])
    last, _ = states_at(network, 2, plan)
    plain_last, _ = states_at(network, 2)
    torch.testing.assert_close(last[1] - plain_last[1], -vector)


def test_all_positions_shifts_every_token():
    network = tiny_network("llama").eval()
    shift = ConstantShift(torch.ones((1, WIDTH)))
    plan = SteeringPlan((SteeringStep(1, shift, Positions.ALL),))
    _, logits = states_at(network, 1, plan)
    _, plain = states_at(network, 1)
    assert not torch.equal(logits[0, 0], plain[0, 0])


@pytest.mark.parametrize(
    ("window", "in_prompt", "in_answer"),
    [
        ("-2:0", [2, 3], []),
        ("last", [3], [0, 1, 2]),
        ("last-prompt", [3], []),
        ("prompt", [0, 1, 2, 3], []),
        ("answer", [], [0, 1, 2]),
        (":-3", [0], []),
        ("-9:-2", [0, 1], []),
        ("-1:2", [3], [0, 1]),
        ("1:2", [], [1]),
        ("5:9", [], []),
    ],
)
def test_a_window_moves_its_tokens_alone_also_token_by_token_and_in_a_pass_that_begins_in_the_answer(
    window, in_prompt, in_answer
):
    network = tiny_network("llama").eval()
    shift = ConstantShift(torch.ones((1, WIDTH)))
    plan = SteeringPlan((SteeringStep(1, shift, Positions.parse(window)),))
    answer = IDS[:, :3]

    def moved(some_plan, passes, **where):
        """The columns of every pass whose output at the layer is another than unsteered."""
        whole = []
        for use in (some_plan, SteeringPlan()):
            seen = []
            with (
                torch.inference_mode(),
                steered(network, use, **where),
                outputs_read(network, [1], lambda output: hidden_of(output).clone()) as states,
            ):
                for ids in passes:
                    network(input_ids=ids, use_cache=False)
                    seen.append(states[1])
            whole.append(torch.cat(seen, dim=1))
        difference = whole[0] - whole[1]
        columns = difference.abs().amax(dim=(0, 2)) > 1e-6
        torch.testing.assert_close(difference[:, columns], torch.ones_like(difference[:, columns]))
        return columns.nonzero()[:, 0].tolist()

    wanted = in_prompt + [4 + token for token in in_answer]
    assert moved(plan, [IDS, *answer.T[:, :, None]]) == wanted
    assert moved(plan, [answer], begins_at=0) == in_answer
    assert moved(plan, [torch.cat([IDS, answer], dim=1)], begins_at=-4) == wanted
    assert bool(plan.on_the_prompt.steps) is plan.steps[0].positions.in_prompt
    assert moved(plan.on_the_prompt, [IDS]) == in_prompt


@given(st.integers(-30, 30) | st.none(), st.integers(-30, 30) | st.none())
def test_positions_are_written_as_a_word_and_read_back(first, stop):
    if first is not None and stop is not None and first >= stop:
        with pytest.raises(BadInput, match="the second number must be larger"):
            Positions(first, stop)
        return
    positions = Positions(first, stop)
    assert Positions.parse(str(positions)) == positions
    touched = {token for token in range(-40, 40) if positions.within(token, 1) == slice(0, 1)}
    assert touched == set(range(-40 if first is None else first, 40 if stop is None else stop))
    assert positions.in_earlier_prompt is any(token < -1 for token in touched)
    assert (positions.in_prompt, positions.in_answer) == (min(touched) < 0, max(touched) >= 0)


@pytest.mark.parametrize("text", ["", "first", "1", "3:1", "0:0", "-:2", "1:2:3", "1.5:2"])
def test_positions_that_nobody_can_mean_are_refused(text):
    with pytest.raises(BadInput, match=r"positions|No token lies"):
        Positions.parse(text)


def test_a_second_step_at_a_layer_acts_on_what_the_first_one_made():
    network = tiny_network("llama").eval()
    vector = torch.linspace(-1, 1, WIDTH)
    twice = AxisShift(torch.eye(WIDTH)[0], 0.0, 1.0)  # doubles the first value
    order = (SteeringStep(1, ConstantShift(vector[None])), SteeringStep(1, twice))
    plain, _ = states_at(network, 1)
    for steps in (order, order[::-1]):
        alone, _ = states_at(network, 1, SteeringPlan(steps))
        batched, _ = states_at(network, 1, plan_for_rows([SteeringPlan(steps), SteeringPlan()], width=WIDTH))
        wanted = plain[0] + vector
        wanted[0] = 2 * (plain[0, 0] + vector[0]) if steps is order else 2 * plain[0, 0] + vector[0]
        torch.testing.assert_close(alone[0], wanted, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(batched[0], wanted, atol=1e-5, rtol=1e-5)
        assert torch.equal(batched[1], plain[1])


def test_the_dose_is_the_largest_share_of_a_states_length_over_layers_and_tokens_without_padding():
    network = tiny_network("llama").eval()
    vector, positions = torch.linspace(-1, 1, WIDTH), Positions.ALL
    steps = tuple(SteeringStep(layer, ConstantShift(vector[None]), positions) for layer in (0, 1))
    meters = [DoseMeter(tokens) for tokens in (4, 2)]
    rows = [SteeringPlan(steps, meters[0]), SteeringPlan(steps, meters[1]), SteeringPlan(meter=DoseMeter(4))]
    ids = IDS[[0, 0, 1]]
    with torch.inference_mode():
        with (
            steered(network, SteeringPlan(steps[:1])),
            outputs_read(network, [1], lambda output: hidden_of(output).clone()) as second,
        ):
            network(input_ids=ids, use_cache=False)
        with outputs_read(network, [0], lambda output: hidden_of(output).clone()) as first:
            network(input_ids=ids, use_cache=False)
        with steered(network, plan_for_rows(rows, width=WIDTH)):
            network(input_ids=ids, use_cache=False)
    doses = torch.stack([float(vector.norm()) / states.norm(dim=-1) for states in (first[0], second[1])])
    assert meters[0].largest == pytest.approx(doses[:, 0].max().item(), rel=1e-5)
    assert meters[1].largest == pytest.approx(doses[:, 1, 2:].max().item(), rel=1e-5)
    assert rows[2].meter.largest == 0.0
    assert doses[:, 1, :2].max() > doses[:, 1, 2:].max(), "the padding would have had the larger dose"


def test_what_several_vectors_do_at_one_layer_has_one_dose_and_too_much_is_refused_by_layer_and_limit():
    network = tiny_network("llama").eval()
    vector = torch.ones(WIDTH)
    back = (SteeringStep(1, ConstantShift(vector[None])), SteeringStep(1, ConstantShift(-vector[None])))
    doubled = (back[0], SteeringStep(1, AxisShift(vector / WIDTH**0.5, 0.0, 1.0)))

    def metered(steps, limit=math.inf):
        plan = SteeringPlan(steps, DoseMeter(4, limit))
        states_at(network, 1, plan_for_rows([plan, SteeringPlan()], width=WIDTH))
        return plan.meter

    def dose(steps):
        assert metered(steps).refusal is None
        return metered(steps).largest

    assert dose(back) == 0.0
    plain, _ = states_at(network, 1)
    moved = 2 * (plain[0] + vector) @ (vector / WIDTH**0.5) - plain[0] @ (vector / WIDTH**0.5)
    assert dose(doubled) == pytest.approx(float(moved.abs() / plain[0].norm()), rel=1e-5)
    too_much = metered(back[:1], limit=0.1)
    assert too_much.refused_at == 1
    assert re.search(r"dose at layer 1 is .* MEDX_MAX_DOSE allows 0\.1; use a weaker", str(too_much.refusal))
    nan = metered((SteeringStep(1, ConstantShift(torch.full((1, WIDTH), math.nan))),))
    assert "dose at layer 1 is nan" in str(nan.refusal)
    assert hooks_left(network) == 0


def test_rows_of_one_batch_may_be_steered_by_different_strategies():
    """A constant, an input-dependent and an unsteered row: each comes out as it does alone."""
    network = tiny_network("llama").eval()
    ids = torch.cat([IDS, IDS])
    plans = [
        SteeringPlan((SteeringStep(1, AxisShift(torch.ones(WIDTH) / WIDTH**0.5, 0.3, 2.0)),)),
        SteeringPlan(),
        SteeringPlan(added(0, torch.ones(WIDTH), 0.5).steps + added(1, torch.linspace(-1, 1, WIDTH)).steps),
        SteeringPlan((SteeringStep(1, GATED),)),
    ]

    def last_logits(some_ids, plan):
        with torch.inference_mode(), steered(network, plan):
            return network(input_ids=some_ids, use_cache=False).logits[:, -1]

    together = last_logits(ids, plan_for_rows(plans, width=WIDTH))
    plain = last_logits(ids, SteeringPlan())
    for row, own in enumerate(plans):
        alone = last_logits(ids[row : row + 1], plan_for_rows([own], width=WIDTH))
        torch.testing.assert_close(together[row], alone[0], atol=1e-6, rtol=1e-5)
        assert torch.equal(together[row], plain[row]) is (not own.steps)


def test_last_prompt_shifts_the_first_pass_only_and_last_every_one():
    network = tiny_network("llama").eval()
    for positions, later_moves in ((Positions.LAST_PROMPT, False), (Positions.LAST, True)):
        step = SteeringStep(1, ConstantShift(torch.ones((1, WIDTH))), positions)
        with (
            torch.inference_mode(),
            steered(network, SteeringPlan((step,))),
            recorded(network, [1]) as states,
        ):
            network(input_ids=IDS, use_cache=False)
            first = states[1]
            network(input_ids=IDS, use_cache=False)
            second = states[1]
        plain, _ = states_at(network, 1)
        torch.testing.assert_close(first - plain, torch.ones_like(plain), atol=1e-5, rtol=1e-5)
        assert torch.equal(second, plain) is not later_moves
        assert bool(SteeringPlan((step,)).after_the_prompt.steps) is later_moves


def test_the_shift_takes_the_number_type_of_the_states():
    network = tiny_network("llama").eval().to(torch.bfloat16)
    plan = plan_for_rows([added(1, torch.ones(WIDTH))] * 2, width=WIDTH)
    _, logits = states_at(network, 1, plan)
    assert logits.dtype is torch.bfloat16


def test_a_plan_that_does_not_fit_leaves_no_hook_behind():
    network = tiny_network("llama").eval()
    vector = torch.ones(WIDTH)
    plan = plan_for_rows([added(1, vector), added(7, vector)], width=WIDTH)
    with (
        pytest.raises(VectorRefused, match=r"Layer 7 does not exist: .* layers 0 to 2"),
        steered(network, plan),
    ):
        pass
    assert hooks_left(network) == 0


def test_an_error_inside_the_block_leaves_no_hook_behind():
    network = tiny_network("llama").eval()
    plan = plan_for_rows([added(1, torch.ones(WIDTH))] * 3, width=WIDTH)
    with pytest.raises(VectorRefused, match=r"A steering plan for 3 rows .* met a batch"):
        states_at(network, 1, plan)
    assert hooks_left(network) == 0


def test_a_vector_of_another_width_is_refused():
    with pytest.raises(VectorRefused, match=r"shape \(8,\) does not fit a model of hidden size 32"):
        plan_for_rows([added(1, torch.ones(8))], width=WIDTH)
