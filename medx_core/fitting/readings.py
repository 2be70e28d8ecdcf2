"""Reading contrast pairs from a model: running their traces, and keeping the states that a reading asks for.

`answer_word` and `full_trace` write the correct and the incorrect answer after each prompt; `statement` and
`model_right` read the last prompt token of statements of either kind. A batch of prompts runs once; both answers go on
from its keys and values, which are cut back afterwards.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medx_core.data.labelled_statements import LabelledStatement
from medx_core.errors import BadInput
from medx_core.models.padding import PaddedBatch, common_length, forward
from medx_core.models.prefix_cache import KeptPass
from medx_core.models.prompting import verdict_ids
from medx_core.prompts import VerdictPrompt
from medx_core.steering.contrast import ContrastTraces
from medx_core.steering.hooks import outputs_read
from medx_core.steering.layers import hidden_of
from medx_core.steering.names import ANSWER_WORD, FULL_TRACE, MODEL_RIGHT, READINGS
from medx_core.traces.running import Arrays, OnProgress, silent
from medx_core.traces.statement_runner import StatementRunner

BothAnswers = tuple[list[int], list[int]]
"""Tokens of the answer that calls a text TRUE, and of the one that calls it FALSE."""


def read_traces(
    runner: StatementRunner,
    statements: Sequence[LabelledStatement],
    reading: str,
    layers: Sequence[int],
    on_progress: OnProgress = silent,
) -> dict[int, ContrastTraces]:
    """Read the contrast pairs of `statements` at several layers in one run.

    Of an answer word of several tokens the last one is read; of a full trace, the mean over its tokens.

    Raises:
        BadInput: there is no such reading.
        VectorRefused: a layer does not exist.
    """
    if reading not in READINGS:
        raise BadInput(f"There is no reading called {reading!r}; the readings are: {', '.join(READINGS)}.")
    texts = [statement.text for statement in statements]
    gold = torch.tensor([statement.answer for statement in statements], dtype=torch.bool)
    if reading in (ANSWER_WORD, FULL_TRACE):
        states = _answered_states(runner, texts, reading, layers, on_progress)
    else:
        run = runner.recorded(texts, layers, on_progress, with_answer_words=False)
        states, gold = (
            run.states,
            torch.as_tensor(run.scores >= 0) == gold if reading == MODEL_RIGHT else gold,
        )
    return {layer: ContrastTraces(at_layer, gold, reading) for layer, at_layer in states.items()}


def written_answer(prompt: VerdictPrompt, text: str, truth: bool) -> str:
    """Return the answer that calls `text` correct or incorrect, as it follows the prompt."""
    kind = "correct" if truth else "incorrect"
    return f"{prompt.word(truth)}. The statement is {kind}: {' '.join(text.split())}"


def _answered_states(
    runner: StatementRunner,
    texts: Sequence[str],
    reading: str,
    layers: Sequence[int],
    on_progress: OnProgress,
) -> dict[int, Tensor]:
    """Return, by layer, the states inside both answers to every text: (2, texts, hidden_size), the TRUE answer first."""
    word_only = reading == ANSWER_WORD
    words = runner.prefix.answer_words
    answers = [words if word_only else _written_answers(runner, text) for text in texts]

    def run(prompts: list[list[int]], rows: list[int]) -> Arrays:
        return _states_of_batch(runner, prompts, [answers[row] for row in rows], layers, last=word_only)

    arrays = runner.per_batch(texts, run, on_progress, ("answers", tuple(layers), word_only, answers))
    # Per batch the rows come first; the readings want both answers first.
    return {
        layer: torch.from_numpy(np.ascontiguousarray(arrays[str(layer)])).transpose(0, 1) for layer in layers
    }


def _written_answers(runner: StatementRunner, text: str) -> BothAnswers:
    prompt, tokenizer = runner.prefix.encoded(text), runner.model.tokenizer
    written = (
        verdict_ids(tokenizer, runner.prompt, text, written_answer(runner.prompt, text, truth))
        for truth in (True, False)
    )
    in_true, in_false = (whole[common_length([prompt, whole]) :] for whole in written)
    return in_true, in_false


def _states_of_batch(
    runner: StatementRunner,
    prompts: list[list[int]],
    answers: Sequence[BothAnswers],
    layers: Sequence[int],
    *,
    last: bool,
) -> Arrays:
    """Return, by layer, the mean state over each answer's tokens, or its last one: (rows, 2, hidden_size)."""
    network = runner.model.network
    states: list[dict[int, Tensor]] = []
    with torch.no_grad():
        kept = runner.prefix.kept_pass(prompts) if runner.resumes else None
        for side in zip(*answers, strict=True):
            lengths = [1 if last else len(answer) for answer in side]
            with outputs_read(network, layers, partial(_mean_of_ends, lengths=lengths)) as means:
                if kept is None:
                    whole = [[*prompt, *answer] for prompt, answer in zip(prompts, side, strict=True)]
                    runner.prefix.kept_pass(whole)
                else:
                    _go_on(runner, kept, side)
            states.append(means)
    return {str(layer): torch.stack([means[layer] for means in states], dim=1).numpy() for layer in layers}


def _mean_of_ends(output: object, lengths: Sequence[int]) -> Tensor:
    hidden = hidden_of(output)
    ends = [hidden[row, -length:].float().mean(dim=0) for row, length in enumerate(lengths)]
    return torch.stack(ends).cpu()


def _go_on(runner: StatementRunner, kept: KeptPass, answers: Sequence[Sequence[int]]) -> None:
    """Run one answer per row after the prompts that `kept` holds, and cut its cache back."""
    own = runner.model.padded(answers)
    mask = torch.cat([kept.batch.mask, own.mask], dim=1)
    width = own.ids.shape[1]
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -width:]
    cache: Any = kept.cache
    forward(runner.model.network.base_model, PaddedBatch(own.ids, mask, positions), cache)
    cache.crop(-width)
