"""Fitting the strategies that are read from contrast traces: mean difference, its relatives and its controls."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from medx_core.data.labelled_statements import LabelledStatement
from medx_core.steering.contrast import (
    ANSWER_WORD,
    FULL_TRACE,
    MODEL_RIGHT,
    AnswerWordStates,
    ContrastStates,
    PromptStates,
    Traces,
)
from medx_core.steering.layers import penultimate_layer
from medx_core.steering.strategies import (
    AMPLIFY,
    PCA,
    RANDOM,
    SHUFFLED,
    amplify,
    mean_difference,
    pca,
    random_direction,
    shuffled,
)
from medx_core.traces.readings import answer_word_states_at, full_trace_states_at
from medx_core.traces.running import OnProgress
from medx_core.traces.statement_runner import StatementRunner
from medx_core.vector_building.fitted import Fitted
from medx_core.vector_building.recipe import PAPER_ALPHA, VectorRecipe


def fit_from_traces(
    runner: StatementRunner,
    statements: Sequence[LabelledStatement],
    recipe: VectorRecipe,
    on_progress: OnProgress,
    *,
    choices: Mapping[str, Any],
) -> Fitted:
    """Run the contrast traces of `statements` and fit the recipe's strategy on them.

    `choices` says how layer and strength were chosen, if they were.

    Raises:
        VectorRefused: one side of the contrast is empty, or a layer does not exist.
    """
    layers = recipe.layers or (penultimate_layer(runner.model.network),)
    traces = read_traces(runner, statements, recipe.reading, layers, on_progress)
    if recipe.strategy == SHUFFLED:
        groups = [one.pair or one.group for one in statements]
        traces = {layer: _shuffled(found, groups, recipe.seed) for layer, found in traces.items()}
    directions = {layer: fit_direction(found.contrast, recipe) for layer, found in traces.items()}
    top = max(traces)
    return Fitted(
        directions=directions,
        alpha=PAPER_ALPHA if recipe.alpha is None else recipe.alpha,
        reading=recipe.reading,
        traces=traces[top],
        along=directions[top],
        axis=_axis(recipe),
        centre=amplify(traces[top].contrast).centre if recipe.strategy == AMPLIFY else 0.0,
        choices=choices,
    )


def read_traces(
    runner: StatementRunner,
    statements: Sequence[LabelledStatement],
    reading: str,
    layers: Sequence[int],
    on_progress: OnProgress,
) -> Mapping[int, Traces]:
    """Run the traces of one reading at several layers, keeping the labels apart so that they can be shuffled."""
    if reading == ANSWER_WORD:
        return answer_word_states_at(runner, statements, layers, on_progress)
    gold = torch.tensor([one.answer for one in statements], dtype=torch.bool)
    if reading == FULL_TRACE:
        found = full_trace_states_at(runner, statements, layers, on_progress)
        return {layer: _by_truth(states, gold) for layer, states in found.items()}
    run = runner.recorded([one.text for one in statements], layers, on_progress, with_answer_words=False)
    label = torch.as_tensor(run.scores >= 0) == gold if reading == MODEL_RIGHT else gold
    return {layer: PromptStates(states, label, reading) for layer, states in run.states.items()}


def fit_direction(contrast: ContrastStates, recipe: VectorRecipe) -> Tensor:
    """Return the recipe's direction (hidden_size,) for one layer's contrast."""
    if recipe.strategy == PCA:
        return pca(contrast).direction
    real = mean_difference(contrast)
    if recipe.strategy == RANDOM:
        return random_direction(len(real.direction), real.norm, recipe.seed).direction
    return real.direction


def _axis(recipe: VectorRecipe) -> Callable[[Traces], Tensor] | None:
    if recipe.strategy == RANDOM:
        return None
    return lambda traces: fit_direction(traces.contrast, recipe)


def _by_truth(states: ContrastStates, gold: Tensor) -> AnswerWordStates:
    both = AnswerWordStates(states.correct, states.incorrect, gold, FULL_TRACE)
    # The right answer of a true statement is the one that calls it true, that of a false one the other.
    return AnswerWordStates(both.correct, both.incorrect, gold, FULL_TRACE)


def _shuffled(traces: Traces, groups: Sequence[str], seed: int) -> Traces:
    return traces.relabelled(torch.as_tensor(shuffled(traces.gold.numpy(), groups, seed)))
