"""Going on in the middle of the stack: from a cached state of the last prompt token, only the layers above it run.

Steering acts on the last prompt token, so everything below the steered layer, and every earlier token, is the same
whatever the vector and its strength. A batch of prompts is therefore run once with its keys and values kept; each
steered variant then puts its own state after its layer and runs the layers above on one token.

How, for any architecture: while the base model runs on the one token, the layers up to the steered one do nothing but
hand on the given state. Their places in the layer list stay, since some networks choose masks by place.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from medx_core.errors import VectorRefused
from medx_core.models.padding import PaddedBatch, forward
from medx_core.models.prefix_cache import SharedPrefix
from medx_core.steering.hooks import SteeringPlan, SteeringStep, outputs_read, steered
from medx_core.steering.layers import decoder_layers, hidden_of, with_hidden

UNSTEERED = SteeringPlan()


@dataclass(frozen=True)
class PromptBatch:
    """A batch of prompts after its one full pass, from which steered runs go on.

    `outputs` are what the layers asked for returned, cut down to the last token; the cache holds everything before it.
    """

    network: PreTrainedModel
    outputs: dict[int, object]
    last: PaddedBatch  # ids and positions (rows, 1), mask (rows, tokens up to the last)
    cache: Cache

    def state(self, layer: int) -> Tensor:
        """Return the last token's states (rows, hidden_size) after a layer, in the model's own number type."""
        return hidden_of(self.outputs[layer])[:, -1]

    def resumed(self, layer: int, state: Tensor, above: SteeringPlan = UNSTEERED) -> Tensor:
        """Put `state` (rows, hidden_size) after `layer`, run the layers above, return the final states.

        Gradients flow to `state` where the caller records them. The cache is as before on every way out.
        """
        given = with_hidden(self.outputs[layer], state.to(self.state(layer).dtype)[:, None])
        with (
            self._cache_restored(layer),
            standing_in(self.network, layer, given),
            steered(self.network, above),
        ):
            outputs = forward(self.network.base_model, self.last, self.cache)
        final: Tensor = outputs.last_hidden_state[:, -1]
        return final

    def steered(self, plan: SteeringPlan) -> Tensor:
        """Steer the last token by a plan (lowest layer first); return the final states (rows, hidden_size)."""
        first, *above = plan.steps
        before = self.state(first.layer)[:, None]
        shift = first.shift(before)
        if shift.shape[-1] != before.shape[-1] or shift.shape[0] not in (1, before.shape[0]):
            raise VectorRefused(
                f"A shift of shape {tuple(shift.shape)} met states of shape {tuple(before.shape)}; it must broadcast to them."
            )
        return self.resumed(first.layer, (before + shift)[:, 0], SteeringPlan(tuple(above)))

    @contextmanager
    def _cache_restored(self, layer: int) -> Iterator[None]:
        # Only layers that ran hold one token more; counting tells which, whatever an error left behind.
        above: list[Any] = list(self.cache.layers[layer + 1 :])
        before = [layer_cache.get_seq_length() for layer_cache in above]
        try:
            yield
        finally:
            for layer_cache, length in zip(above, before, strict=True):
                if layer_cache.get_seq_length() > length:
                    layer_cache.crop(-1)


def prompt_batch(
    prefix: SharedPrefix, prompts: Sequence[Sequence[int]], layers: Sequence[int]
) -> PromptBatch:
    """Run whole prompts once, keeping what resuming after `layers` needs.

    Raises:
        ModelUnavailable: the batch does not fit into the device's memory.
        VectorRefused: a layer does not exist.
    """
    network = prefix.model.network
    with torch.no_grad():
        with outputs_read(network, layers, _last_token) as outputs:
            done = prefix.kept_pass(prompts)
        if done.cache is None:
            raise RuntimeError("the network kept no cache")
        done.cache.crop(-1)
    return PromptBatch(
        network=network,
        outputs=outputs,
        last=PaddedBatch(done.batch.ids[:, -1:], done.batch.mask, done.batch.positions[:, -1:]),
        cache=done.cache,
    )


def can_resume(prefix: SharedPrefix, prompts: Sequence[Sequence[int]], tolerance: float) -> bool:
    """Try on real prompts whether resuming gives what a whole pass under hooks gives, for the lowest and a middle layer.

    The comparison is relative to the largest final state. A network whose cache cannot be cropped, or which carries
    more than the residual stream from layer to layer, does not pass; nor do answer words of several tokens, for which
    one final state is not enough.
    """
    if prefix.reads_along_words:
        return False
    network = prefix.model.network
    count = len(decoder_layers(network))
    layers = sorted({0, count // 2})
    try:
        batch = prompt_batch(prefix, prompts, layers)
        return all(_resumes_at(prefix, prompts, batch, layer, tolerance) for layer in layers)
    # What a network makes of a state that it did not compute itself differs from architecture to architecture.
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError, NotImplementedError):
        return False


def _resumes_at(
    prefix: SharedPrefix, prompts: Sequence[Sequence[int]], batch: PromptBatch, layer: int, tolerance: float
) -> bool:
    plan = SteeringPlan((SteeringStep(layer, _turned),))
    with torch.no_grad():
        first, again = (batch.steered(plan).float() for _ in range(2))
    with steered(prefix.model.network, plan):
        expected = prefix.last_states(prompts).float()
    scale = expected.abs().max().clamp(min=1e-6)
    worst = torch.maximum((first - expected).abs().max(), (again - expected).abs().max())
    return bool(worst / scale <= tolerance)


def _turned(states: Tensor) -> Tensor:
    """Shift each state a tenth of the way towards its own reversal: large, and different for every row."""
    return 0.1 * (states.flip(-1) - states)


@contextmanager
def standing_in(network: PreTrainedModel, layer: int, output: object) -> Iterator[None]:
    """Let every layer up to and including `layer` return `output` and compute nothing."""

    def hand_on(*_inputs: object, **_named: object) -> object:
        return output

    with ExitStack() as undo:
        for module in list(decoder_layers(network))[: layer + 1]:
            undo.callback(_forward_restored(module))
            module.forward = hand_on
        yield


def _forward_restored(module: nn.Module) -> Callable[[], None]:
    # An own `forward` on the object exists where something else wrapped it; the class's must not be pinned there.
    own = module.__dict__.get("forward")

    def restore() -> None:
        if own is None:
            module.__dict__.pop("forward", None)
        else:
            module.__dict__["forward"] = own

    return restore


def _last_token(output: object) -> object:
    """Cut a layer's output down to the last token, in the form that the layer returns it."""
    return with_hidden(output, hidden_of(output)[:, -1:].clone())
