"""Written answers by greedy decoding, one token per step.

A step is a small unit of work: between two steps the caller may stream what was written, notice a cancellation, or
let a waiting verdict go first. `transformers.generate` holds on to the network until the whole answer is written.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import Cache

from medx_core.models.devices import memory_faults_in_words
from medx_core.models.loading import LoadedModel
from medx_core.models.padding import PaddedBatch, forward
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


class GreedyWriting:
    """A batch of prompts being continued greedily.

    `around` gives the context entered at every forward pass (steering); the plan inside must fit these rows.
    """

    def __init__(
        self,
        model: LoadedModel,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        around: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.rows = tuple(WrittenRow() for _ in prompts)
        self._model = model
        self._around = around
        self._max_new_tokens = max_new_tokens
        self._stop_ids = stop_token_ids(model)
        self._batch = model.padded(prompts)
        self._cache: Cache | None = None

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
        chosen = self._next_tokens()
        pieces = tuple(
            self._extend(row, int(token)) for row, token in zip(self.rows, chosen.tolist(), strict=True)
        )
        ids = chosen[:, None]
        mask = torch.cat([self._batch.mask, torch.ones_like(ids)], dim=1)
        self._batch = PaddedBatch(ids, mask, self._batch.positions[:, -1:] + 1)
        return pieces

    def _next_tokens(self) -> Tensor:
        network = self._model.network
        with torch.inference_mode(), self._around(), memory_faults_in_words("This question"):
            outputs = forward(network, self._batch, self._cache, use_cache=True, logits_to_keep=1)
        self._cache = outputs.past_key_values
        chosen: Tensor = outputs.logits[:, -1].argmax(dim=-1)
        return chosen

    def _extend(self, row: WrittenRow, token: int) -> str:
        if row.finished:
            return ""
        if token in self._stop_ids:
            row.finish = "done"
        else:
            row.tokens.append(token)
            if len(row.tokens) >= self._max_new_tokens:
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


def stop_token_ids(model: LoadedModel) -> frozenset[int]:
    """Return the tokens that end an answer: the model's own end marks and every special token."""
    ends = model.network.generation_config.eos_token_id if model.network.generation_config else None
    listed = [ends] if isinstance(ends, int) else list(ends or [])
    return frozenset([*listed, *model.tokenizer.all_special_ids])
