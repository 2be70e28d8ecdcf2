"""Rows of token ids of unequal length: one batch with padding on the left, and its forward pass."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache

STATE_SPACE_CACHE = "cache_params"  # what Mamba and Mamba 2 call what they keep
CACHE_NAMES = ("past_key_values", STATE_SPACE_CACHE)


@dataclass(frozen=True)
class PaddedBatch:
    """Ids, mask and positions of one forward pass.

    With a shared prefix of p tokens already in the cache, `ids` and `positions` are (rows, tokens) and `mask` is
    (rows, p + tokens); real tokens of a row sit at its right end, so the last column is always a real token.
    """

    ids: Tensor
    mask: Tensor
    positions: Tensor


def left_padded(
    rows: Sequence[Sequence[int]], *, pad_id: int, device: torch.device, prefix_length: int = 0
) -> PaddedBatch:
    """Pad `rows` on the left; every row must hold at least one token."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([[pad_id] * (width - len(row)) + list(row) for row in rows], device=device)
    own = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    positions = (own.cumsum(dim=1) - 1).clamp(min=0) + prefix_length
    before = torch.ones((len(rows), prefix_length), dtype=own.dtype, device=device)
    return PaddedBatch(ids=ids, mask=torch.cat([before, own], dim=1), positions=positions)


def common_length(rows: Sequence[Sequence[int]]) -> int:
    """Return how many leading tokens all rows share."""
    columns = zip(*rows, strict=False)
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))


def forward(network: nn.Module, batch: PaddedBatch, cache: Cache | None = None, **options: Any) -> Any:
    """Run a batch through a network, after what `cache` holds, and return the network's own kind of output."""
    options = {"use_cache": cache is not None, **position_arguments(network, batch.positions), **options}
    name = _cache_name(network)
    # Mamba spreads one new token over a mask of all tokens so far (transformers 5.23); its own generate gives none there.
    goes_on = cache is not None and name == STATE_SPACE_CACHE and batch.ids.shape[1] == 1
    mask = None if goes_on else batch.mask
    return network(input_ids=batch.ids, attention_mask=mask, **{name: cache}, **options)


def kept_cache(outputs: Any) -> Cache | None:
    """Return the cache that a forward pass kept, by whichever name the network calls it; None where it kept none."""
    kept: Cache | None = next(
        (getattr(outputs, name) for name in CACHE_NAMES if getattr(outputs, name, None) is not None), None
    )
    return kept


def _cache_name(network: nn.Module) -> str:
    taken = inspect.signature(network.forward).parameters
    return next((name for name in CACHE_NAMES if name in taken), CACHE_NAMES[0])


def position_arguments(network: nn.Module, positions: Tensor) -> dict[str, Tensor]:
    """Return `position_ids` for networks that take them; others count from the mask."""
    takes_positions = "position_ids" in inspect.signature(network.forward).parameters
    return {"position_ids": positions} if takes_positions else {}
