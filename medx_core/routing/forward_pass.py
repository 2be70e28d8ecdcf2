"""How texts go through a network: cut into tokens, sorted by length, a batch at a time.

Encoder, classifier and fine-tuning share this, so that a text is read the same way wherever it is read.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import BatchEncoding, PreTrainedTokenizerBase

from medx_core.routing.router import Floats

MAX_TOKENS = 256
MAX_CHARACTERS = 2_000
"""More than MAX_TOKENS of English; what lies beyond is never read."""
BATCH_TOKENS = {"cpu": 512, "cuda": 16_384}
"""With its padding. On a CPU larger batches leave the cache, and their memory is fetched and given back at each layer."""


def forward_rows(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    read: Callable[[BatchEncoding], Tensor],
    *,
    width: int,
    device: torch.device,
) -> Floats:
    """Return what `read` makes of every text, float32 (n, width); a text that comes twice is read once.

    Args:
        texts: any texts; long ones are read up to MAX_TOKENS.
        tokenizer: the network's.
        read: takes a padded batch on `device`, returns (batch, width).
        width: the number of values in a row.
        device: where the network is.
    """
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    rows: Floats = np.zeros((len(places), width), dtype=np.float32)
    if not places:
        return rows
    token_ids = tokens_of(tokenizer, list(places))
    with torch.inference_mode():
        for batch in batches_by_length([len(ids) for ids in token_ids], BATCH_TOKENS[device.type]):
            rows[batch] = read(padded(tokenizer, [token_ids[i] for i in batch], device)).float().cpu().numpy()
    return rows[[places[text] for text in texts]]


def tokens_of(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Return every text's tokens, cut at what MedX reads and the tokenizer's network can read."""
    longest = min(MAX_TOKENS, tokenizer.model_max_length)
    cut = [text[:MAX_CHARACTERS] for text in texts]
    rows: list[list[int]] = tokenizer(cut, truncation=True, max_length=longest)["input_ids"]
    return rows


def padded(
    tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[list[int]], device: torch.device
) -> BatchEncoding:
    """Return tokens as one batch on `device`, with its attention mask."""
    return tokenizer.pad({"input_ids": list(token_ids)}, return_tensors="pt").to(device)


def batches_by_length(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Yield indices in batches of like length, none of more than `batch_tokens` tokens with its padding."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batch and lengths[index] * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
