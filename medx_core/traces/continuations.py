"""States inside a text that is written after each prompt: contrast traces before they are read.

A batch of prompts runs once; every continuation goes on from its keys and values, which are cut back afterwards.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medx_core.models.devices import memory_faults_in_words
from medx_core.models.padding import common_length, left_padded, position_arguments
from medx_core.models.prefix_cache import KeptPass, SharedPrefix
from medx_core.steering.layers import hidden_of, layer_at
from medx_core.traces.running import Arrays, OnProgress, silent
from medx_core.traces.statement_runner import StatementRunner

Tokens = Sequence[int]


def trace_tokens(prefix: SharedPrefix, text: str, continuation: str) -> list[int]:
    """Return the tokens of `continuation` as they follow the prompt for `text`."""
    prompt = prefix.encoded(text)
    whole = prefix.model.tokenizer(prefix.prompt.filled(text) + continuation)["input_ids"]
    return [int(token) for token in whole[common_length([prompt, whole]) :]]


def continued_states(
    runner: StatementRunner,
    texts: Sequence[str],
    traces: Sequence[Sequence[Tokens]],
    layers: Sequence[int],
    *,
    last: bool = False,
    on_progress: OnProgress = silent,
) -> dict[int, Tensor]:
    """Run each prompt followed by each of its traces; return the mean state over a trace's tokens.

    `traces[i]` are the token rows written after text i, equally many for every text; prompt tokens never count. With
    `last`, only a trace's last token does.

    Returns:
        By layer, (traces a text, texts, hidden_size) in float32 on the CPU.

    Raises:
        VectorRefused: a layer does not exist.
        ModelUnavailable: a batch does not fit into the device's memory.
    """

    def run(prompts: list[list[int]], rows: list[int]) -> Arrays:
        columns = list(zip(*(traces[i] for i in rows), strict=True))
        found: dict[int, list[Tensor]] = {layer: [] for layer in layers}
        with torch.no_grad(), memory_faults_in_words("This batch of statements"):
            for means in _column_means(runner, prompts, columns, layers, last=last):
                for layer in layers:
                    found[layer].append(means[layer])
        return {str(layer): torch.stack(parts, dim=1).numpy() for layer, parts in found.items()}

    found = runner.per_batch(texts, run, on_progress, ("continued", tuple(layers), last, _plain(traces)))
    return {
        layer: torch.from_numpy(np.ascontiguousarray(found[str(layer)])).transpose(0, 1) for layer in layers
    }


def _plain(traces: Sequence[Sequence[Tokens]]) -> list[list[list[int]]]:
    return [[list(one) for one in row] for row in traces]


def _column_means(
    runner: StatementRunner,
    prompts: list[list[int]],
    columns: Sequence[Sequence[Tokens]],
    layers: Sequence[int],
    *,
    last: bool,
) -> Iterator[dict[int, Tensor]]:
    """Yield the mean states (rows, hidden_size) by layer, one column of traces after the other."""
    network = runner.model.network
    done = runner.prefix.kept_pass(prompts) if runner.resumes else None
    for column in columns:
        lengths = [1 if last else len(trace) for trace in column]
        with _means_kept(network, layers, lengths) as means:
            if done is None:
                whole = [[*prompt, *trace] for prompt, trace in zip(prompts, column, strict=True)]
                runner.prefix.last_states(whole)
            else:
                _go_on(runner, done, column)
        yield means


def _go_on(runner: StatementRunner, done: KeptPass, column: Sequence[Tokens]) -> None:
    network, pad_id = runner.model.network.base_model, int(runner.model.tokenizer.pad_token_id or 0)
    own = left_padded(column, pad_id=pad_id, device=runner.model.device)
    mask = torch.cat([done.batch.mask, own.mask], dim=1)
    width = own.ids.shape[1]
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -width:]
    cache: Any = done.cache
    network(
        input_ids=own.ids,
        attention_mask=mask,
        past_key_values=cache,
        use_cache=True,
        **position_arguments(network, positions),
    )
    cache.crop(-width)


@contextmanager
def _means_kept(network: Any, layers: Sequence[int], lengths: Sequence[int]) -> Iterator[dict[int, Tensor]]:
    """Keep each row's mean state over its last `lengths` tokens at `layers`, float32 on the CPU."""
    kept: dict[int, Tensor] = {}
    with ExitStack() as hooks:
        for layer in layers:

            def keep(
                _module: nn.Module, _inputs: tuple[object, ...], output: object, at: int = layer
            ) -> None:
                hidden = hidden_of(output)
                rows = [hidden[row, -length:].float().mean(dim=0) for row, length in enumerate(lengths)]
                kept[at] = torch.stack(rows).cpu()

            hooks.callback(layer_at(network, layer).register_forward_hook(keep).remove)
        yield kept
