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
from medx_core.models.padding import position_arguments
from medx_core.models.prefix_cache import SharedPrefix
from medx_core.steering.hooks import Positions, SteeringPlan, SteeringStep, steered
from medx_core.steering.layers import decoder_layers, hidden_of, layer_at, with_hidden


@dataclass(frozen=True)
class PromptBatch:
    """A batch of prompts after its one full pass, ready to be gone on from.

    `final` is (rows, hidden_size), the unsteered final states; `states` the last token's states after each layer that
    was asked for, in the model's own number type; the cache holds everything before the last token.
    """

    network: PreTrainedModel
    final: Tensor
    states: dict[int, Tensor]
    outputs: dict[int, object]
    last_ids: Tensor  # (rows, 1)
    last_positions: Tensor  # (rows, 1)
    mask: Tensor  # (rows, tokens up to the last)
    cache: Cache

    def resumed(self, layer: int, state: Tensor, above: Sequence[SteeringStep] = ()) -> Tensor:
        """Put `state` (rows, hidden_size) after `layer`, run the layers above, return the final states.

        Gradients flow to `state` where the caller records them. The cache is as before on every way out.
        """
        network = self.network.base_model
        given = with_hidden(self.outputs[layer], state.to(self.states[layer].dtype)[:, None])
        with (
            self._cache_restored(layer),
            standing_in(self.network, layer, given),
            steered(self.network, SteeringPlan(tuple(above))),
        ):
            outputs = network(
                input_ids=self.last_ids,
                attention_mask=self.mask,
                past_key_values=self.cache,
                use_cache=True,
                **position_arguments(network, self.last_positions),
            )
        final: Tensor = outputs.last_hidden_state[:, -1]
        return final

    def steered(self, steps: Sequence[SteeringStep]) -> Tensor:
        """Steer the last token by `steps` (lowest layer first); return the final states (rows, hidden_size)."""
        first = steps[0]
        before = self.states[first.layer][:, None]
        shift = first.shift(before)
        if shift.shape[-1] != before.shape[-1] or shift.shape[0] not in (1, before.shape[0]):
            raise VectorRefused(
                f"A shift of shape {tuple(shift.shape)} met states of shape {tuple(before.shape)}; it must broadcast to them."
            )
        return self.resumed(first.layer, (before + shift)[:, 0], steps[1:])

    @contextmanager
    def _cache_restored(self, layer: int) -> Iterator[None]:
        # Only layers that ran hold one token more; counting tells which, whatever an error left behind.
        above: list[Any] = list(self.cache.layers[layer + 1 :])
        before = [one.get_seq_length() for one in above]
        try:
            yield
        finally:
            for one, length in zip(above, before, strict=True):
                if one.get_seq_length() > length:
                    one.crop(-1)


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
        with _outputs_kept(network, layers) as outputs:
            done = prefix.kept_pass(prompts)
        if done.cache is None:
            raise RuntimeError("the network kept no cache")
        done.cache.crop(-1)
    return PromptBatch(
        network=network,
        final=done.states[:, -1],
        states={layer: hidden_of(output)[:, -1] for layer, output in outputs.items()},
        outputs=outputs,
        last_ids=done.batch.ids[:, -1:],
        last_positions=done.batch.positions[:, -1:],
        mask=done.batch.mask,
        cache=done.cache,
    )


def can_resume(prefix: SharedPrefix, prompts: Sequence[Sequence[int]], tolerance: float) -> bool:
    """Try on real prompts whether resuming gives what a whole pass under hooks gives, for the lowest and a middle layer.

    The comparison is relative to the largest final state. A network whose cache cannot be cropped, or which carries
    more than the residual stream from layer to layer, does not pass.
    """
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
    step = SteeringStep(layer=layer, shift=_turned)
    with torch.no_grad():
        found = batch.steered([step]).float()
        again = batch.steered([step]).float()
    with steered(prefix.model.network, SteeringPlan((step,))):
        expected = prefix.last_states(prompts).float()
    scale = expected.abs().max().clamp(min=1e-6)
    worst = torch.maximum((found - expected).abs().max(), (again - expected).abs().max())
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


@contextmanager
def _outputs_kept(network: PreTrainedModel, layers: Sequence[int]) -> Iterator[dict[int, object]]:
    """Keep what `layers` return in the one pass of the block, cut down to the last token, in the form they return it."""
    kept: dict[int, object] = {}
    with ExitStack() as hooks:
        for layer in layers:

            def keep(
                _module: nn.Module, _inputs: tuple[object, ...], output: object, at: int = layer
            ) -> None:
                kept[at] = with_hidden(output, hidden_of(output)[:, -1:].clone())

            hooks.callback(layer_at(network, layer).register_forward_hook(keep).remove)
        yield kept


def resumable_steps(steps: Sequence[SteeringStep]) -> bool:
    """Whether these steps leave all tokens but the last alone."""
    return all(step.positions is not Positions.ALL for step in steps)
