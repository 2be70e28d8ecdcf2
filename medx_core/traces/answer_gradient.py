"""The direction that says Yes: how the answer words' logits change with the state after a layer.

It needs no labels and changes no weight. Gated steering moves states along it, so that a strength can be given in
logit units.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from medx_core.models.devices import memory_faults_in_words
from medx_core.steering.hooks import SteeringPlan, SteeringStep, steered
from medx_core.traces.resuming import prompt_batch
from medx_core.traces.running import by_length
from medx_core.traces.statement_runner import StatementRunner

MOST_TEXTS = 64


def answer_gradient(runner: StatementRunner, texts: Sequence[str], layer: int) -> Tensor:
    """Return the mean gradient of logit(TRUE word) - logit(FALSE word) in the state after `layer`: (hidden_size,).

    The state is that of the last prompt token; the mean is over the first 64 texts, float32, on the CPU.

    Raises:
        VectorRefused: the layer does not exist.
        ModelUnavailable: a batch does not fit into the device's memory.
    """
    return answer_gradients(runner, texts, [layer])[layer]


def answer_gradients(
    runner: StatementRunner, texts: Sequence[str], layers: Sequence[int]
) -> dict[int, Tensor]:
    """Return `answer_gradient` for several layers; the prompts are run once for all of them."""
    prompts = [runner.prefix.encoded(text) for text in texts[:MOST_TEXTS]]
    sums = {layer: torch.zeros(runner.width) for layer in layers}
    for rows in by_length(prompts, runner.batch_rows):
        chosen = [prompts[i] for i in rows]
        with memory_faults_in_words("This batch of statements"):
            for layer, gradients in _gradients(runner, chosen, layers).items():
                sums[layer] += gradients.sum(dim=0).float().cpu()
    return {layer: total / max(1, len(prompts)) for layer, total in sums.items()}


def _gradients(runner: StatementRunner, prompts: list[list[int]], layers: Sequence[int]) -> dict[int, Tensor]:
    """Return each row's gradient (rows, hidden_size) after each layer."""
    if not runner.resumes:
        return {layer: _gradient_of_whole_pass(runner, prompts, layer) for layer in layers}
    batch = prompt_batch(runner.prefix, prompts, layers)
    found = {}
    for layer in layers:
        state = batch.states[layer].float().clone().requires_grad_()
        with torch.enable_grad():
            found[layer] = _gradient(runner, batch.resumed(layer, state), state)
    return found


def _gradient_of_whole_pass(runner: StatementRunner, prompts: list[list[int]], layer: int) -> Tensor:
    """Take the gradient in a shift of zero that is added to the last token's state by a hook."""
    zero = torch.zeros((len(prompts), runner.width), device=runner.model.device, requires_grad=True)

    def add_zero(states: Tensor) -> Tensor:
        return zero.to(states.dtype)[:, None]

    plan = SteeringPlan((SteeringStep(layer, add_zero),))
    with torch.enable_grad(), steered(runner.model.network, plan):
        final = runner.prefix.kept_pass(prompts).states[:, -1]
        return _gradient(runner, final, zero)


def _gradient(runner: StatementRunner, final: Tensor, state: Tensor) -> Tensor:
    total = runner.head.differences(final).sum()  # rows do not touch each other: the sum's gradient is theirs
    return torch.autograd.grad(total, state)[0]
