"""Choosing layer and strength of a constant strategy on the training part, by cross-fitting with whole groups.

Every fold is judged by vectors made from the other folds, at every layer and strength in one run of the model. The
choice is made by balanced accuracy, since accuracy alone rewards whatever answers with the commoner label; among
places within one standard error of the best, the weakest strength is taken, and of these the highest layer, which
is the paper's side. Places where the next token is too often no answer word are left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import StratifiedGroupKFold

from medx_core.data.labelled_statements import LabelledStatement
from medx_core.evaluation.arms import Flags
from medx_core.evaluation.gated_arm import LEAST_ANSWER_WORDS, candidate_layers
from medx_core.steering.contrast import Traces
from medx_core.steering.hooks import ConstantShift, Shift
from medx_core.steering.layers import decoder_layers
from medx_core.steering.strategies import AMPLIFY, amplify
from medx_core.traces.running import OnProgress, batch_key
from medx_core.traces.statement_runner import StatementRunner, SteeringCell
from medx_core.vector_building.constant import fit_direction, read_traces
from medx_core.vector_building.recipe import VectorRecipe

STRENGTHS = (0.5, 1.0, 2.0, 4.0, 8.0)
MOST_LAYERS = 8
FOLDS = 5

Place = tuple[int, float]


def with_chosen_place(
    runner: StatementRunner,
    statements: Sequence[LabelledStatement],
    recipe: VectorRecipe,
    on_progress: OnProgress,
) -> tuple[VectorRecipe, Mapping[str, Any]]:
    """Return the recipe with one layer and strength filled in, and what they were chosen from.

    A recipe that does not ask for a choice comes back as it is.

    Raises:
        VectorRefused: one side of the contrast is empty in a fold.
    """
    if not recipe.choose:
        return recipe, {}
    layers = recipe.layers or spread_layers(len(decoder_layers(runner.model.network)))
    strengths = STRENGTHS if recipe.alpha is None else (recipe.alpha,)
    places = [(layer, strength) for layer in layers for strength in strengths]
    traces = read_traces(runner, statements, recipe.reading, layers, on_progress)
    tried = _tried(runner, statements, traces, recipe, places)
    layer, strength = _best(tried, len(statements))
    return replace(recipe, layers=(layer,), alpha=strength), {"places_tried": tried}


def spread_layers(count: int) -> tuple[int, ...]:
    """Return at most `MOST_LAYERS` layers of the upper two thirds, evenly spread, the penultimate one among them."""
    candidates = candidate_layers(count) or [max(0, count - 2)]
    places = np.linspace(0, len(candidates) - 1, min(MOST_LAYERS, len(candidates)))
    return tuple(candidates[round(place)] for place in places)


def _tried(
    runner: StatementRunner,
    statements: Sequence[LabelledStatement],
    traces: Mapping[int, Traces],
    recipe: VectorRecipe,
    places: Sequence[Place],
) -> list[dict[str, float]]:
    gold = np.array([one.answer for one in statements], dtype=bool)
    scores = np.zeros((len(places), len(statements)))
    words = np.zeros(scores.shape, dtype=bool)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    for fitted, asked in folds.split(scores[0], gold, [one.group for one in statements]):
        rows = torch.as_tensor(fitted)
        parts = {layer: found.part(rows) for layer, found in traces.items()}
        cells = [SteeringCell(layer, _shift(parts[layer], recipe, strength)) for layer, strength in places]
        name = batch_key(recipe, places, [(statements[i].text, statements[i].answer) for i in fitted])
        for at, run in enumerate(runner.steered([statements[i].text for i in asked], cells, name=name)):
            scores[at, asked] = run.scores
            words[at, asked] = run.answer_words
    return [
        {
            "layer": layer,
            "strength": strength,
            "balanced_accuracy": _balanced(row >= 0, gold),
            "false_acceptance_rate": float((row[~gold] >= 0).mean()),
            "answer_word_rate": float(said.mean()),
        }
        for (layer, strength), row, said in zip(places, scores, words, strict=True)
    ]


def _shift(part: Traces, recipe: VectorRecipe, strength: float) -> Shift:
    if recipe.strategy == AMPLIFY:
        return amplify(part.contrast).shift(strength)
    return ConstantShift((fit_direction(part.contrast, recipe) * strength)[None])


def _balanced(said_true: Flags, gold: Flags) -> float:
    return float((said_true[gold].mean() + (~said_true[~gold]).mean()) / 2)


def _best(tried: Sequence[Mapping[str, float]], n: int) -> Place:
    speaking = [one for one in tried if one["answer_word_rate"] >= LEAST_ANSWER_WORDS] or list(tried)
    best = max(one["balanced_accuracy"] for one in speaking)
    error = (best * (1 - best) / n) ** 0.5
    good = [one for one in speaking if one["balanced_accuracy"] >= best - error]
    found = min(good, key=lambda one: (one["strength"], -one["layer"]))
    return int(found["layer"]), found["strength"]
