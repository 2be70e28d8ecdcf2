"""Written answers by greedy decoding, one token per step, with the repetition penalty that the model's makers set.

A step is a small unit of work: between two steps the caller may stream what was written, notice a cancellation, or
let a waiting verdict go first. `transformers.generate` holds on to the network until the whole answer is written.
"""

import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, RepetitionPenaltyLogitsProcessor

from medx_core.models.devices import memory_faults_in_words
from medx_core.models.loading import LoadedModel
from medx_core.models.padding import PaddedBatch, forward, kept_cache
from medx_core.questions import CANCELLED


@dataclass
class WrittenRow:
    """One answer while it grows."""

    tokens: list[int] = field(default_factory=list)
    text: str = ""
    finish: str = ""

    @property
    def finished(self) -> bool:
        """Whether no more tokens come."""
        return bool(self.finish)


@dataclass
class _Together:
    """Rows that share their passes: which they are, what the next pass reads, and what the passes so far left."""

    rows: tuple[int, ...]
    batch: PaddedBatch
    cache: Cache | None = None


class GreedyWriting:
    """A batch of prompts being continued greedily.

    `around` gives the context entered at every forward pass (steering) for the rows in it. Prompts of unequal length
    share their passes where the model gets padded rows right, else each length has passes of its own. With
    `share_prompts`, rows that have one prompt (the arms of a question) read it once: all but its last token, outside
    `around`, so that is only right where steering leaves those tokens as they are. An answer ends where the model reads no
    more; rows that may come there share passes with rows of their own length alone, which end with them.

    Raises:
        BadInput: a prompt leaves no room for an answer in what the model reads.
    """

    def __init__(
        self,
        model: LoadedModel,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        around: Callable[[tuple[int, ...]], AbstractContextManager[None]] = lambda _rows: nullcontext(),
        share_prompts: bool = False,
    ) -> None:
        self.rows = tuple(WrittenRow() for _ in prompts)
        self._model = model
        self._prompts = [list(prompt) for prompt in prompts]
        penalty = repetition_penalty(model)
        self._penalise = None if penalty == 1.0 else RepetitionPenaltyLogitsProcessor(penalty)
        self._around = around
        self._share_prompts = share_prompts
        for prompt in prompts:
            model.refuse_unread(prompt, more=1)
        rooms = [
            max_new_tokens if model.longest is None else model.longest - len(prompt) for prompt in prompts
        ]
        self._most = [min(max_new_tokens, room) for room in rooms]
        self._stop_ids = stop_token_ids(model)
        taken = inspect.signature(model.network.forward).parameters
        self._only_last = {"logits_to_keep": 1} if "logits_to_keep" in taken else {}
        lengths = [
            0 if model.can.batch and room >= max_new_tokens else len(prompt)
            for prompt, room in zip(prompts, rooms, strict=True)
        ]
        self._groups = tuple(
            _Together(rows, model.padded([prompts[i] for i in rows]))
            for length in dict.fromkeys(lengths)
            if (rows := tuple(i for i, own in enumerate(lengths) if own == length))
        )

    @property
    def finished(self) -> bool:
        """Whether every row has ended."""
        return all(row.finished for row in self.rows)

    def cancel(self, index: int) -> None:
        """End one row; what was written stays."""
        if not self.rows[index].finished:
            self.rows[index].finish = CANCELLED

    def step(self) -> tuple[str, ...]:
        """Write one more token on every unfinished row; return the new piece of text of each row.

        Raises:
            ModelUnavailable: the batch does not fit into the device's memory.
        """
        pieces = [""] * len(self.rows)
        for group in self._groups:
            if all(self.rows[i].finished for i in group.rows):
                continue
            if self._share_prompts and group.cache is None:
                self._read_once(group)
            chosen = self._next_tokens(group)
            for i, token in zip(group.rows, chosen.tolist(), strict=True):
                pieces[i] = self._extend(i, int(token))
            ids = chosen[:, None]
            mask = torch.cat([group.batch.mask, torch.ones_like(ids)], dim=1)
            group.batch = PaddedBatch(ids, mask, group.batch.positions[:, -1:] + 1)
        return tuple(pieces)

    def _read_once(self, group: _Together) -> None:
        """Read each prompt of the group but for its last token, and give every row the cache of its own prompt."""
        prompts = [tuple(self._prompts[i]) for i in group.rows]
        places = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompts))}
        if len(places) == len(prompts) or min(map(len, prompts)) < 2:
            return
        before = self._model.padded([prompt[:-1] for prompt in places])
        with torch.inference_mode(), memory_faults_in_words("This question"):
            cache: Any = kept_cache(forward(self._model.network.base_model, before, use_cache=True))
            cache.batch_select_indices(
                torch.tensor([places[prompt] for prompt in prompts], device=self._model.device)
            )
        whole = group.batch
        group.cache = cache
        group.batch = PaddedBatch(whole.ids[:, -1:], whole.mask, whole.positions[:, -1:])

    def _next_tokens(self, group: _Together) -> Tensor:
        outputs = self._pass(group)
        kept = kept_cache(outputs)
        if kept is None and group.cache is None:
            # RecurrentGemma (transformers 5.23) fills a cache that it is given, and hands none back.
            group.cache = DynamicCache(config=self._model.network.config)
            outputs = self._pass(group)
        group.cache = group.cache if kept is None else kept
        chosen: Tensor = self._penalised(group, outputs.logits[:, -1]).argmax(dim=-1)
        return chosen

    def _penalised(self, group: _Together, logits: Tensor) -> Tensor:
        """Make the tokens of each row's own prompt and answer less likely, where the model asks for it."""
        if self._penalise is None:
            return logits
        so_far = [
            torch.tensor([[*self._prompts[i], *self.rows[i].tokens]], device=logits.device)
            for i in group.rows
        ]
        # Row by row: beside a longer row, the library's own search would count the padding as said.
        parts = [self._penalise(ids, logits[at : at + 1]) for at, ids in enumerate(so_far)]
        return torch.cat(parts)

    def _pass(self, group: _Together) -> Any:
        with (
            torch.inference_mode(),
            self._around(group.rows),
            memory_faults_in_words("This question"),
        ):
            return forward(self._model.network, group.batch, group.cache, use_cache=True, **self._only_last)

    def _extend(self, index: int, token: int) -> str:
        row = self.rows[index]
        if row.finished:
            return ""
        if token in self._stop_ids:
            row.finish = "done"
        else:
            row.tokens.append(token)
            if len(row.tokens) >= self._most[index]:
                row.finish = "length"
        return self._new_piece(row)

    def _new_piece(self, row: WrittenRow) -> str:
        text = str(self._model.tokenizer.decode(row.tokens, skip_special_tokens=True))
        if not row.finished:
            # A character of several tokens shows as a replacement mark until its last token is there.
            text = text.rstrip("\ufffd")
        if not text.startswith(row.text):
            return ""
        piece = text[len(row.text) :]
        row.text = text
        return piece


def repetition_penalty(model: LoadedModel) -> float:
    """Return the penalty on repeated tokens in the model's `generation_config.json`; 1 where there is none."""
    penalty = getattr(model.network.generation_config, "repetition_penalty", None)
    return 1.0 if penalty is None else float(penalty)


def stop_token_ids(model: LoadedModel) -> frozenset[int]:
    """Return the tokens that end an answer: the model's own end marks and every special token."""
    ends = model.network.generation_config.eos_token_id if model.network.generation_config else None
    listed = [ends] if isinstance(ends, int) else list(ends or [])
    return frozenset([*listed, *model.tokenizer.all_special_ids])
