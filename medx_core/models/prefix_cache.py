"""Prompts that begin alike, run with their common beginning computed once.

Few-shot verdict prompts share four fifths of their tokens; keeping the keys and values of that beginning makes a
batch several times faster. The beginning is computed without steering, which is right because steering acts on the
last prompt token and what follows it (see `steering.hooks`).

Where an answer word is several tokens, the states along both words are read too, so that a whole word is scored: the
prompt goes on with the word's own tokens, as the model would write it.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel

from medx_core.errors import ModelUnavailable
from medx_core.models.devices import memory_faults_in_words
from medx_core.models.loading import LoadedModel
from medx_core.models.padding import PaddedBatch, common_length, forward, kept_cache
from medx_core.models.prompting import prompt_ids, verdict_ids
from medx_core.prompts import VerdictPrompt

PROBES = ("Water is wet.", "All 7 birds can swim under the sea ice?")
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}
# What caches that cannot be shared or gone on from raise: each architecture something else.
CACHE_FAULTS = (
    RuntimeError,
    TypeError,
    ValueError,
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
)


Around = Callable[[int | None], AbstractContextManager[None]]
"""The context of a forward pass, by the number of its first token counted from the answer's first; None: the prompt."""


def _nothing(_begins_at: int | None) -> AbstractContextManager[None]:
    return nullcontext()


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

    `answer_words` are the tokens of the TRUE and the FALSE word behind the prompt; tokens that both words begin with
    belong to the prompt. If the network's cache cannot be resumed exactly for rows of unequal length (a state-space
    layer), that is noticed at the start and every prompt is run whole; so are prompts beyond a sliding window, and all of them
    where it is not `shared`.

    Raises:
        ModelUnavailable: the model's check found that this model cannot be asked in its chat template, or by answer words of
            several tokens, as this prompt does.
    """

    def __init__(self, model: LoadedModel, prompt: VerdictPrompt, *, shared: bool = True) -> None:
        if prompt.chat and not model.can.chat_verdict:
            raise ModelUnavailable(f"The model {model.name} gives no verdicts in its chat template here.")
        self.model = model
        self.prompt = prompt
        self._prefix_ids: list[int] = []
        self._cache: DynamicCache | None = None
        self._longest: int | None = None
        words = [self._word_behind_prompt(prompt.word(truth)) for truth in (True, False)]
        alike = common_length(words)
        self._both_begin_with = words[0][:alike] if alike < min(map(len, words)) else []
        true_word, false_word = (word[len(self._both_begin_with) :] for word in words)
        self.answer_words = true_word, false_word
        if self.reads_along_words and not model.can.long_words:
            raise ModelUnavailable(
                f"The model {model.name} gives no verdicts by answer words of several tokens here, as {prompt.version} has them."
            )
        if shared and model.can.shared_prefix:
            self._build()

    @property
    def prefix_length(self) -> int:
        """How many tokens are computed once; 0 where the cache cannot be shared."""
        return len(self._prefix_ids)

    @property
    def reads_along_words(self) -> bool:
        """Whether an answer word is several tokens, so that one state per row does not decide a verdict."""
        return any(len(word) > 1 for word in self.answer_words)

    def encoded(self, text: str) -> list[int]:
        """Return the token ids of the whole prompt for `text`, up to right before the answer words part.

        Raises:
            BadInput: with the answer word these are more tokens than the model reads, or the text cannot be asked about.
        """
        ids = [*verdict_ids(self.model.tokenizer, self.prompt, text), *self._both_begin_with]
        self.model.refuse_unread(ids, more=max(map(len, self.answer_words), default=1) - 1)
        return ids

    def last_states(
        self, prompts: Sequence[Sequence[int]], *, whole: bool = False, around: Around = _nothing
    ) -> Tensor:
        """Run whole prompts in one batch; return the final hidden state of each last token, (rows, hidden_size).

        Where an answer word is several tokens: (rows, states, hidden_size), the last prompt token's first, then those of
        the TRUE word's tokens but its last, then the FALSE word's.

        Recording hooks that are entered around this call see these rows in this order. `around` gives the context of each
        pass (steering) by the number of the pass's first token, counted from the answer's first; None for the pass that
        reads the prompt. Both words begin at 0. `whole` runs the common beginning with every row too: for steering that
        acts on it.

        Raises:
            ModelUnavailable: the batch does not fit into the device's memory.
        """
        along = self.reads_along_words
        with torch.inference_mode(), memory_faults_in_words("This batch of questions"):
            with around(None):
                done = self._run(prompts, keep_cache=along, whole=whole)
            last = done.states[:, -1]
            if not along:
                return last
            along_words = (
                state for word in self.answer_words for state in self._states_along(done, word, around)
            )
            return torch.stack([last, *along_words], dim=1)

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
        try:
            outputs = forward(self.model.network.base_model, batch, cache)
        except ValueError:
            if shared or cache is None:
                raise
            # MiniMax (transformers 5.23) takes no cache but one that it made itself.
            outputs = forward(self.model.network.base_model, batch, use_cache=True)
        return KeptPass(outputs.last_hidden_state, batch, _cache_after(outputs, cache))

    def _states_along(self, done: KeptPass, word: Sequence[int], around: Around) -> Iterator[Tensor]:
        """Yield the final states (rows, hidden_size) of a word's tokens but the last, each after those before it."""
        batch, cache = done.batch, copy.deepcopy(done.cache)
        for number, token in enumerate(word[:-1]):
            ids = torch.full_like(batch.ids[:, -1:], token)
            mask = torch.cat([batch.mask, torch.ones_like(ids)], dim=1)
            batch = PaddedBatch(ids, mask, batch.positions[:, -1:] + 1)
            with around(number):
                outputs = forward(self.model.network.base_model, batch, cache)
            cache = _cache_after(outputs, cache)
            yield outputs.last_hidden_state[:, -1]

    def _word_behind_prompt(self, word: str) -> list[int]:
        tokenizer = self.model.tokenizer
        before, whole = (verdict_ids(tokenizer, self.prompt, PROBES[0], behind) for behind in ("", word))
        if whole[: len(before)] == before:
            return whole[len(before) :]
        # Prompt and word would share a token that the model, going on from the prompt, cannot write.
        return prompt_ids(tokenizer, word, add_special_tokens=False)

    def _shares(self, row: Sequence[int]) -> bool:
        # Between a shared beginning and a short row lies the padding, which a window counts: the beginning drops out of it,
        # and a short question beside a long one got another score (Gemma 3, Cohere 2, GPT-Neo; transformers 5.23).
        if self._longest is not None and len(row) >= self._longest:
            return False
        return len(row) > self.prefix_length and list(row[: self.prefix_length]) == self._prefix_ids

    def _build(self) -> None:
        whole = [self.encoded(probe) for probe in PROBES]
        shared = common_length(whole)
        if shared < 2:
            return
        rows = whole if self.model.can.batch else whole[:1] * 2
        plain = torch.cat([self.last_states([row]) for row in rows])
        network = self.model.network.base_model
        try:
            with torch.inference_mode():
                ids = torch.tensor([whole[0][:shared]], device=self.model.device)
                cache = network(input_ids=ids, use_cache=True).past_key_values
            if not isinstance(cache, DynamicCache):
                return
            self._prefix_ids, self._cache = whole[0][:shared], cache
            self._longest = narrowest_window(self.model.network)
            resumed = self.last_states(rows)
            scale = plain.float().abs().max().clamp(min=1e-6)
            exact = ((resumed - plain).float().abs().max() / scale).item() <= self._tolerance
        except CACHE_FAULTS:
            exact = False
        if not exact:
            self._prefix_ids, self._cache = [], None

    @property
    def _tolerance(self) -> float:
        return TOLERANCE[self.model.placement.dtype]


def _cache_after(outputs: Any, given: Cache | None) -> Cache | None:
    """Return what a pass kept: RecurrentGemma (transformers 5.23) fills the cache that it is given, and hands none back."""
    kept = kept_cache(outputs)
    return given if kept is None else kept


def narrowest_window(network: PreTrainedModel) -> int | None:
    """Return the width in tokens of the narrowest sliding window of a network's attention; None where it has none."""
    config = network.config.get_text_config()
    widths = [
        getattr(config, name, None) for name in ("sliding_window", "attention_window_size", "window_size")
    ]
    return min((int(width) for width in widths if width), default=None)
