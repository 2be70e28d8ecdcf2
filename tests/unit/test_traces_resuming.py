"""Going on from cached states gives what a whole pass under hooks gives, in every architecture, and leaves no trace."""

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from medx_core.errors import VectorRefused
from medx_core.models.devices import choose_placement
from medx_core.models.loading import LoadedModel, prepared
from medx_core.prompts import STATEMENT_PROMPT
from medx_core.steering.hooks import ConstantShift, Shift, ShiftsByText, SteeringPlan, SteeringStep, steered
from medx_core.steering.layers import decoder_layers, hidden_of
from medx_core.steering.positions import Positions
from medx_core.traces.resuming import UNSTEERED, SteeredRuns, prompt_batch
from medx_core.traces.statement_runner import StatementRunner
from tests.language_models import ARCHITECTURES, WIDTH, tiny_model

DISTINCT = [
    "The heart pumps blood.",
    "Insulin raises glucose in the blood and the kidneys make urine in the body.",
    "Is",
    "The kidneys are an effective treatment for the common cold.",
]
TEXTS = DISTINCT * 10
VECTOR = torch.linspace(-1, 1, WIDTH)


def constant(strength: float) -> ConstantShift:
    return ConstantShift(strength * VECTOR[None])


def shifted(layer: int, shift: Shift) -> SteeringPlan:
    return SteeringPlan((SteeringStep(layer, shift),))


def gate(states: torch.Tensor) -> torch.Tensor:
    return torch.tanh(states @ VECTOR.to(states))[..., None] * VECTOR.to(states)


def whole_passes(runner: StatementRunner, texts: list[str], *steps: SteeringStep) -> np.ndarray:
    """Every text alone, as a whole prompt, under hooks."""
    scores = []
    for text in texts:
        with steered(runner.model.network, SteeringPlan(steps)):
            state = runner.prefix.last_states([runner.prefix.encoded(text)])
        scores.append(runner.head.logit_differences(state).item())
    return np.array(scores)


def own_forwards(network) -> int:
    return sum("forward" in module.__dict__ for module in network.modules())


def hooks_left(network) -> int:
    return sum(len(module._forward_hooks) for module in network.modules())


@pytest.fixture(scope="module", params=ARCHITECTURES)
def runner(request):
    return StatementRunner(tiny_model(request.param), STATEMENT_PROMPT)


def test_steered_scores_are_those_of_whole_passes_under_hooks(runner):
    cells = [shifted(layer, constant(a)) for layer in range(3) for a in (0.5, -2.0)]
    cells.append(shifted(1, gate))
    cells.append(SteeringPlan((SteeringStep(2, gate), SteeringStep(0, constant(1.0)))))
    plain = runner.scores(TEXTS).scores
    runs = runner.steered(TEXTS, cells)
    assert runner.resumes
    for cell, run in zip(cells, runs, strict=True):
        expected = np.tile(whole_passes(runner, DISTINCT, *cell.steps), len(TEXTS) // len(DISTINCT))
        np.testing.assert_allclose(run.scores, expected, atol=2e-4)
        assert np.abs(run.scores - plain).max() > 1e-3, "the cell must have steered"


def test_a_batch_of_one_gives_what_a_batch_of_32_gives(runner):
    alone = StatementRunner(runner.model, STATEMENT_PROMPT, batch_rows=1)
    texts = TEXTS[:32]
    assert runner.batch_rows == len(texts)
    cells = [shifted(0, gate), shifted(1, constant(1.0))]
    for single, many in zip(alone.steered(texts, cells), runner.steered(texts, cells), strict=True):
        np.testing.assert_allclose(single.scores, many.scores, atol=2e-4)
        np.testing.assert_array_equal(single.answer_words, many.answer_words)
    left, right = alone.recorded(texts, [0, 2]), runner.recorded(texts, [0, 2])
    torch.testing.assert_close(left.states[0], right.states[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(left.states[2], right.states[2], atol=1e-4, rtol=1e-4)


def test_arms_of_several_prompts_are_those_of_separate_passes_and_share_one(runner):
    """Rows with other vectors, layers and numbers of arms, unsteered ones and one steered at every token among them."""
    low, high = shifted(0, constant(-2.0)), shifted(1, gate)
    both = SteeringPlan((SteeringStep(0, gate), SteeringStep(2, constant(-2.0))))
    every = SteeringPlan((SteeringStep(1, constant(1.0), Positions.ALL),))
    cells = [(0, UNSTEERED), (1, low), (0, high), (2, both), (1, UNSTEERED), (0, low), (0, UNSTEERED)]
    rows_seen = []
    counting = decoder_layers(runner.model.network)[0].register_forward_hook(
        lambda _layer, _inputs, output: rows_seen.append(tuple(hidden_of(output).shape[:2]))
    )
    runs = SteeredRuns(runner.prefix)
    assert runs.resumes
    rows_seen.clear()
    finals = runs.of_rows(*of_texts(runner, cells))
    shared = [seen for seen in rows_seen if seen[1] > 1]
    counting.remove()
    expected = [whole_passes(runner, [DISTINCT[text]], *plan.steps)[0] for text, plan in cells]
    np.testing.assert_allclose(runner.head.logit_differences(finals), expected, atol=2e-4)
    assert np.ptp([score for score, (text, _) in zip(expected, cells, strict=True) if text == 0]) > 1e-2
    assert [seen[0] for seen in shared] == [3], "three prompts were run once"
    mixed = runs.of_rows(*of_texts(runner, [*cells, (1, every)]))
    [alone] = runs.of_plans([runner.prefix.encoded(DISTINCT[1])], [every])
    torch.testing.assert_close(mixed, torch.cat([finals, alone]), atol=1e-4, rtol=1e-4)


def of_texts(runner: StatementRunner, cells: list) -> tuple[list, list]:
    return [runner.prefix.encoded(DISTINCT[text]) for text, _ in cells], [plan for _, plan in cells]


def test_the_gradient_is_that_of_a_whole_pass(runner):
    gradients = runner.answer_gradients(TEXTS[:5], [1])[1]
    expected = torch.zeros(WIDTH)
    for text in TEXTS[:5]:
        ids = torch.tensor([runner.prefix.encoded(text)])
        shift = torch.zeros(1, WIDTH, requires_grad=True)
        step = SteeringStep(1, lambda _states, shift=shift: shift[:, None])
        with torch.enable_grad(), steered(runner.model.network, SteeringPlan((step,))):
            logits = runner.model.network(input_ids=ids, use_cache=False).logits[0, -1]
            difference = logits[runner.head.true_id] - logits[runner.head.false_id]
            expected += torch.autograd.grad(difference, shift)[0][0] / 5
    torch.testing.assert_close(gradients, expected, atol=1e-4, rtol=1e-3)
    assert gradients.norm() > 1e-3


def test_nothing_is_left_behind_after_an_error(runner):
    network = runner.model.network

    def break_off(_states):
        raise ZeroDivisionError

    assert runner.resumes
    plain = runner.scores(TEXTS[:4]).scores
    batch = prompt_batch(runner.prefix, [runner.prefix.encoded(text) for text in TEXTS[:4]], [0])
    before = batch.steered(shifted(0, constant(1.0)))
    with pytest.raises(ZeroDivisionError):
        batch.steered(SteeringPlan((SteeringStep(0, constant(1.0)), SteeringStep(2, break_off))))
    assert own_forwards(network) == 0
    assert hooks_left(network) == 0
    assert torch.equal(batch.steered(shifted(0, constant(1.0))), before), "the cache is as it was"
    np.testing.assert_array_equal(runner.scores(TEXTS[:4]).scores, plain)


def test_results_come_in_the_order_of_the_texts_and_are_the_same_every_time():
    runner = StatementRunner(tiny_model(), STATEMENT_PROMPT, batch_rows=8)
    first, again = runner.scores(TEXTS), runner.scores(TEXTS)
    np.testing.assert_array_equal(first.scores, again.scores)
    backwards = runner.scores(TEXTS[::-1])
    np.testing.assert_allclose(backwards.scores[::-1], first.scores, atol=1e-4)
    assert first.scores.std() > 1e-3


def test_answer_words_are_where_the_likeliest_token_of_all_is_one_of_them():
    runner = StatementRunner(tiny_model(), STATEMENT_PROMPT)
    words = runner.steered(TEXTS[:4], [shifted(2, constant(0.0))])[0].answer_words
    for text, said in zip(TEXTS[:4], words, strict=True):
        with torch.inference_mode():
            logits = runner.model.network(input_ids=torch.tensor([runner.prefix.encoded(text)])).logits[0, -1]
        assert said == (int(logits.argmax()) in (runner.head.true_id, runner.head.false_id))
    assert runner.scores(TEXTS[:4], with_answer_words=False).answer_words is None


def test_a_shift_by_text_reaches_its_own_text_whatever_the_batches_are():
    runner = StatementRunner(tiny_model(), STATEMENT_PROMPT, batch_rows=3)
    amounts = torch.arange(8, dtype=torch.float32) - 3
    scores = runner.steered(TEXTS[:8], [shifted(1, ShiftsByText(amounts[:, None] * VECTOR))])[0].scores
    for index in range(8):
        alone = runner.steered([TEXTS[index]], [shifted(1, constant(float(amounts[index])))])
        assert scores[index] == pytest.approx(alone[0].scores[0], abs=2e-4)


def test_steering_every_token_reaches_the_common_beginning_too():
    runner = StatementRunner(tiny_model(), STATEMENT_PROMPT)
    step = SteeringStep(1, constant(1.0), Positions.ALL)
    scores = runner.steered(TEXTS[:2], [SteeringPlan((step,))])[0].scores
    for text, score in zip(TEXTS[:2], scores, strict=True):
        with torch.inference_mode(), steered(runner.model.network, SteeringPlan((step,))):
            logits = runner.model.network(
                input_ids=torch.tensor([runner.prefix.encoded(text)]), use_cache=False
            ).logits[0, -1]
        expected = logits[runner.head.true_id] - logits[runner.head.false_id]
        assert score == pytest.approx(expected.item(), abs=2e-3)


def test_a_layer_that_does_not_exist_is_refused_by_number():
    runner = StatementRunner(tiny_model(), STATEMENT_PROMPT)
    with pytest.raises(VectorRefused, match="Layer 9 does not exist"):
        runner.steered(TEXTS[:2], [shifted(9, constant(1.0))])
    with pytest.raises(VectorRefused, match="5 rows"):
        runner.steered(TEXTS[:2], [shifted(1, ConstantShift(torch.zeros(5, WIDTH)))])


@pytest.mark.parametrize("window", [16, 57], ids=["within-the-beginning", "within-the-statement"])
@pytest.mark.parametrize("architecture", ["mistral", "gemma2", "gemma3_text"])
def test_a_sliding_window_shorter_than_the_prompt_changes_nothing(architecture, window):
    torch.manual_seed(0)
    config = AutoConfig.for_model(architecture, **ARCHITECTURES[architecture], sliding_window=window)
    network = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    like = tiny_model(architecture)
    prepared(network, like.tokenizer)
    model = LoadedModel("windowed", network, like.tokenizer, like.placement, like.weight_sha256)
    runner = StatementRunner(model, STATEMENT_PROMPT)
    cell = shifted(0, gate)
    scores = runner.steered(TEXTS[:6], [cell])[0].scores
    expected = []
    for text in TEXTS[:6]:
        ids = torch.tensor([runner.prefix.encoded(text)])
        with torch.inference_mode(), steered(network, cell):
            logits = network(input_ids=ids, use_cache=False).logits[0, -1]
        expected.append((logits[runner.head.true_id] - logits[runner.head.false_id]).item())
    np.testing.assert_allclose(scores, expected, atol=2e-3)


def test_a_network_that_carries_more_than_the_residual_stream_runs_whole_prompts():
    """Its layers add what the layer before them saw: a state put in the middle is not all that the layers above need."""
    model = tiny_model()
    layers = decoder_layers(model.network)
    seen = {}

    def remember(module, inputs):
        seen[id(module)] = inputs[0]

    def add(module, inputs, output, below=layers[1]):
        return output + 0.5 * seen[id(below)]

    hooks = [layers[1].register_forward_pre_hook(remember), layers[2].register_forward_hook(add)]
    runner = StatementRunner(model, STATEMENT_PROMPT)
    runs = runner.steered(TEXTS[:3], [shifted(0, constant(1.0)), shifted(1, gate)])
    gradient = runner.answer_gradients(TEXTS[:3], [1])[1]
    for run, step in zip(runs, (SteeringStep(0, constant(1.0)), SteeringStep(1, gate)), strict=True):
        np.testing.assert_allclose(run.scores, whole_passes(runner, TEXTS[:3], step), atol=2e-4)
    arms = [(0, UNSTEERED), (0, shifted(0, constant(1.0))), (1, shifted(1, gate))]
    finals = SteeredRuns(runner.prefix).of_rows(*of_texts(runner, arms))
    expected = [whole_passes(runner, [DISTINCT[text]], *plan.steps)[0] for text, plan in arms]
    np.testing.assert_allclose(runner.head.logit_differences(finals), expected, atol=2e-4)
    assert not runner.resumes
    assert gradient.norm() > 0
    for hook in hooks:
        hook.remove()


def test_in_bfloat16_resumed_runs_are_whole_runs_within_its_precision():
    runner = StatementRunner(tiny_model(placement=choose_placement("cpu", "bfloat16")), STATEMENT_PROMPT)
    assert runner.resumes
    cells = [shifted(0, constant(2.0)), shifted(1, gate)]
    for ours, theirs in zip(
        runner.steered(TEXTS[:8], cells), runner.steered(TEXTS[:8], cells, resumed=False), strict=True
    ):
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=2e-2)
    ours, expected = (
        StatementRunner(
            tiny_model(placement=choose_placement("cpu", dtype)), STATEMENT_PROMPT
        ).answer_gradients(TEXTS[:5], [1])[1]
        for dtype in ("bfloat16", "float32")
    )
    assert torch.nn.functional.cosine_similarity(ours, expected, dim=0) > 0.99


def test_forty_drawn_controls_cost_one_pass_over_the_prompts():
    runner = StatementRunner(tiny_model(), STATEMENT_PROMPT, batch_rows=8)
    assert runner.resumes
    directions = torch.randn(40, WIDTH, generator=torch.Generator().manual_seed(0))
    drawn = [shifted(1, ConstantShift(direction[None])) for direction in directions]
    whole_prompts = []
    counting = decoder_layers(runner.model.network)[0].register_forward_hook(
        lambda _layer, _inputs, output: whole_prompts.append(hidden_of(output).shape[1] > 1)
    )
    runs = runner.steered(TEXTS[:16], [UNSTEERED, *drawn])
    counting.remove()
    assert sum(whole_prompts) == 2, "one pass for each of the two batches"
    np.testing.assert_allclose(runs[0].scores, runner.scores(TEXTS[:16]).scores, atol=1e-6)
    assert len({round(float(run.scores[0]), 6) for run in runs}) == 41
