"""Prompts that begin alike, run with their common beginning computed once.

Few-shot verdict prompts share four fifths of their tokens; keeping the keys and values of that beginning makes a
batch several times faster. The beginning is computed without steering, which is right because steering acts on the
last prompt token and what follows it (see `steering.hooks`).
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Cache, DynamicCache

from medx_core.models.devices import memory_faults_in_words
from medx_core.models.loading import LoadedModel
from medx_core.models.padding import PaddedBatch, common_length, forward
from medx_core.prompts import VerdictPrompt

PROBES = ("Water is wet.", "All 7 birds can swim under the sea ice?")
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}


@dataclass(frozen=True)
class KeptPass:
    """One forward pass over a batch of prompts, with what later passes can go on from.

    `states` are the network's final states (rows, tokens, hidden_size) of the tokens after the shared beginning,
    `batch` the ids, mask and positions that went in, `cache` the keys and values of everything up to the last token.
    """

    states: Tensor
    batch: PaddedBatch
    cache: Cache | None


class SharedPrefix:
    """One verdict prompt on one model.

    If the network's cache cannot be resumed exactly (a sliding window, a state-space layer), that is noticed at
    the start and every prompt is run whole.
    """

    def __init__(self, model: LoadedModel, prompt: VerdictPrompt) -> None:
        self.model = model
        self.prompt = prompt
        self._prefix_ids: list[int] = []
        self._cache: DynamicCache | None = None
        self._build()

    @property
    def prefix_length(self) -> int:
        """How many tokens are computed once; 0 where the cache cannot be shared."""
        return len(self._prefix_ids)

    def encoded(self, text: str) -> list[int]:
        """Return the token ids of the whole prompt for `text`, up to right before the answer word."""
        return [int(token) for token in self.model.tokenizer(self.prompt.filled(text))["input_ids"]]

    def last_states(self, prompts: Sequence[Sequence[int]], *, whole: bool = False) -> Tensor:
        """Run whole prompts in one batch; return the final hidden state of each last token, (rows, hidden_size).

        Steering and recording hooks that are entered around this call see these rows in this order. `whole` runs the
        common beginning with every row too: for steering that acts on it.

        Raises:
            ModelUnavailable: the batch does not fit into the device's memory.
        """
        with torch.inference_mode(), memory_faults_in_words("This batch of questions"):
            return self._run(prompts, keep_cache=False, whole=whole).states[:, -1]

    def kept_pass(self, prompts: Sequence[Sequence[int]], *, whole: bool = False) -> KeptPass:
        """Run whole prompts in one batch and keep the cache; whether gradients are recorded is the caller's choice.

        The cache may be cropped afterwards, also where a layer only sees a window. `whole` runs the common beginning
        with every row too: for steering that acts on it.

        Raises:
            ModelUnavailable: the batch does not fit into the device's memory.
        """
        with memory_faults_in_words("This batch of statements"):
            return self._run(prompts, keep_cache=True, whole=whole)

    def _run(self, prompts: Sequence[Sequence[int]], *, keep_cache: bool, whole: bool = False) -> KeptPass:
        shared, cache = self.prefix_length, None
        if not whole and self._cache is not None and all(self._shares(row) for row in prompts):
            cache = copy.deepcopy(self._cache)
            if len(prompts) > 1:
                cache.batch_repeat_interleave(len(prompts))
        else:
            shared = 0
            cache = DynamicCache(config=self.model.network.config) if keep_cache else None
        if cache is not None and keep_cache:
            cache.activate_past_recording()  # type: ignore[no-untyped-call]
        batch = self.model.padded([row[shared:] for row in prompts], shared)
        outputs = forward(self.model.network.base_model, batch, cache)
        return KeptPass(outputs.last_hidden_state, batch, outputs.past_key_values)

    def _shares(self, row: Sequence[int]) -> bool:
        return len(row) > self.prefix_length and list(row[: self.prefix_length]) == self._prefix_ids

    def _build(self) -> None:
        whole = [self.encoded(probe) for probe in PROBES]
        shared = common_length(whole)
        if shared < 2:
            return
        plain = self.last_states([whole[0]])
        network = self.model.network.base_model
        with torch.inference_mode():
            ids = torch.tensor([whole[0][:shared]], device=self.model.device)
            cache = network(input_ids=ids, use_cache=True).past_key_values
        if not isinstance(cache, DynamicCache):
            return
        self._prefix_ids, self._cache = whole[0][:shared], cache
        resumed = self.last_states([whole[0]])
        scale = plain.float().abs().max().clamp(min=1e-6)
        if ((resumed - plain).float().abs().max() / scale).item() > TOLERANCE[self.model.placement.dtype]:
            self._prefix_ids, self._cache = [], None
