"""Arms that share a pass: from a cached state of the last prompt token, only the layers above the steered one run.

Steering acts on the last prompt token, so everything below the steered layer, and every earlier token, is the same
whatever the vector and its strength. A batch of prompts is therefore run once with its keys and values kept, which is
the unsteered arm; each steered arm then puts its own state after its layer and runs the layers above on one token.
Answers, evaluations and sweeps all go this way (`SteeredRuns`).

How, for any architecture: while the base model runs on the one token, the layers up to the steered one do nothing but
hand on the given state. Their places in the layer list stay, since some networks choose masks by place.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from medx_core.models.devices import memory_faults_in_words
from medx_core.models.padding import PaddedBatch, forward
from medx_core.models.prefix_cache import CACHE_FAULTS, PROBES, TOLERANCE, SharedPrefix
from medx_core.steering.hooks import (
    SteeringPlan,
    SteeringStep,
    outputs_read,
    plan_for_rows,
    recorded,
    steered,
)
from medx_core.steering.layers import decoder_layers, hidden_of, hidden_size, with_hidden

UNSTEERED = SteeringPlan()


class SteeredRuns:
    """One prompt on one model, run under any number of steering plans at once.

    This is the one place that decides what the runs share. Separate whole passes under hooks give the same figures
    later: for a network that cannot go on from cached states, and for a plan that steers more than the last token.
    """

    def __init__(self, prefix: SharedPrefix) -> None:
        self._prefix = prefix
        self._network = prefix.model.network

    @cached_property
    def resumes(self) -> bool:
        """Whether this network may go on from cached states: what its check found, else tried on two probes."""
        model = self._prefix.model
        if model.check and not model.can.shared_arms:
            return False
        if model.check:
            return not self._prefix.reads_along_words
        probes = [self._prefix.encoded(probe) for probe in (PROBES if model.can.batch else PROBES[:1] * 2)]
        return can_resume(self._prefix, probes, TOLERANCE[model.placement.dtype])

    def of_plans(
        self, prompts: Sequence[Sequence[int]], plans: Sequence[SteeringPlan], *, shared: bool = True
    ) -> list[Tensor]:
        """Run all `prompts` under each plan (lowest layer first): final states (prompts, hidden_size), one per plan.

        With `shared` off every plan runs whole passes.

        Raises:
            ModelUnavailable: the batch does not fit into the device's memory.
            VectorRefused: a layer does not exist, or a shift does not fit.
        """
        acting = [plan.on_the_prompt for plan in plans]
        layers = {plan.steps[0].layer for plan in acting if plan.steps and plan.last_token_only}
        with torch.inference_mode(), memory_faults_in_words("This batch of questions"):
            sharing = shared and layers and self.resumes
            batch = prompt_batch(self._prefix, prompts, sorted(layers)) if sharing else None
            return [
                batch.steered(plan)
                if batch is not None and plan.last_token_only
                else self._whole(prompts, plan)
                for plan in acting
            ]

    def of_rows(self, prompts: Sequence[Sequence[int]], plans: Sequence[SteeringPlan]) -> Tensor:
        """Run each prompt under the plan of its own row: final states (rows, hidden_size), in the order of the rows.

        Rows with the same prompt are arms of one question and share its pass.

        Raises:
            ModelUnavailable: the batch does not fit into the device's memory.
            VectorRefused: a layer does not exist, or a vector does not fit.
        """
        acting = [plan.on_the_prompt for plan in plans]
        together: dict[tuple[bool, int], list[int]] = defaultdict(list)
        for row, plan in enumerate(acting):
            # Where the model gets padded rows wrong, only prompts of one length share a pass.
            length = 0 if self._prefix.model.can.batch else len(prompts[row])
            together[plan.last_token_only, length].append(row)
        finals: dict[int, Tensor] = {}
        for rows in together.values():
            states = self._arms([tuple(prompts[row]) for row in rows], [acting[row] for row in rows])
            finals.update(zip(rows, states, strict=True))
        return torch.stack([finals[row] for row in range(len(plans))])

    def _arms(self, prompts: Sequence[tuple[int, ...]], plans: Sequence[SteeringPlan]) -> list[Tensor]:
        width = hidden_size(self._network)
        places = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompts))}
        may_share = len(places) < len(prompts) and all(plan.last_token_only for plan in plans)
        if not (may_share and self.resumes):
            return list(self._whole(prompts, plan_for_rows(plans, width=width)))
        # The n-th steered arms of all questions make run n; all unsteered arms are read from run 0.
        steered_arms: Counter[tuple[int, ...]] = Counter()
        cells = []
        for prompt, plan in zip(prompts, plans, strict=True):
            steered_arms[prompt] += bool(plan.steps)
            cells.append((steered_arms[prompt] if plan.steps else 0, places[prompt]))
        by_cell = dict(zip(cells, plans, strict=True))
        runs = [
            plan_for_rows([by_cell.get((run, place), UNSTEERED) for place in places.values()], width=width)
            for run in range(max(steered_arms.values()) + 1)
        ]
        finals = self.of_plans(list(places), runs)
        return [finals[run][place] for run, place in cells]

    def _whole(self, prompts: Sequence[Sequence[int]], plan: SteeringPlan) -> Tensor:
        # Steering of earlier tokens must reach the common beginning too, so that is not taken from the cache.
        return self._prefix.last_states(
            prompts,
            whole=not plan.last_token_only,
            around=lambda begins_at: steered(self._network, plan, begins_at=begins_at),
        )


@dataclass(frozen=True)
class PromptBatch:
    """A batch of prompts after its one full pass, from which steered runs go on.

    `outputs` are what the layers asked for returned, cut down to the last token; the cache holds everything before it.
    `unsteered` are the final states (rows, hidden_size) of that pass.
    """

    network: PreTrainedModel
    unsteered: Tensor
    outputs: dict[int, object]
    last: PaddedBatch  # ids and positions (rows, 1), mask (rows, tokens up to the last)
    cache: Cache

    def state(self, layer: int) -> Tensor:
        """Return the last token's states (rows, hidden_size) after a layer, in the model's own number type."""
        return hidden_of(self.outputs[layer])[:, -1]

    def resumed(self, layer: int, state: Tensor, plan: SteeringPlan = UNSTEERED) -> Tensor:
        """Put `state` (rows, hidden_size) after `layer`, run the layers above, return the final states.

        `plan` acts from `layer` on. Gradients flow to `state` where the caller records them. The cache is as before on every way out.
        """
        given = with_hidden(self.outputs[layer], state.to(self.state(layer).dtype)[:, None])
        with (
            self._cache_restored(layer),
            standing_in(self.network, layer, given),
            steered(self.network, plan),
        ):
            outputs = forward(self.network.base_model, self.last, self.cache)
        final: Tensor = outputs.last_hidden_state[:, -1]
        return final

    def steered(self, plan: SteeringPlan) -> Tensor:
        """Steer the last token by a plan (lowest layer first); return the final states (rows, hidden_size)."""
        if not plan.steps:
            return self.unsteered
        lowest = plan.steps[0].layer
        return self.resumed(lowest, self.state(lowest), plan)

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
        unsteered=done.states[:, -1],
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
    middle = len(decoder_layers(network)) // 2
    plan = SteeringPlan(tuple(SteeringStep(layer, _turned) for layer in sorted({0, middle})))
    with steered(network, plan), recorded(network, [middle]) as states:
        expected = prefix.last_states(prompts).float()
    try:
        with torch.no_grad():
            batch = prompt_batch(prefix, prompts, [step.layer for step in plan.steps])
            from_middle = states[middle].to(expected.device)
            # Twice from the middle: the cache must be as before after every run.
            runs = [batch.steered(plan), *(batch.resumed(middle, from_middle) for _ in range(2))]
    # What a network makes of a state that it did not compute itself differs from architecture to architecture.
    except CACHE_FAULTS:
        return False
    worst = max(float((run.float() - expected).abs().max()) for run in runs)
    return worst <= tolerance * float(expected.abs().max().clamp(min=1e-6))


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
