"""Choosing layer and strength on the training part, by five-fold cross-fitting with whole groups.

Every fold is judged by what was fitted on the other folds, in real steered runs. Settings under which the likeliest
next token is too often not an answer word are left out: that is what breaks first as a strength grows.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from medx_core.accuracy import Flags, Values, balanced_accuracy, twins_ranked_right
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.fitting.fitted import FittedLayer, StatementModel
from medx_core.traces.running import batch_key

CONSTANT_STRENGTHS = (0.5, 1.0, 2.0, 4.0, 8.0)
GATE_STRENGTHS = (2.0, 4.0, 8.0)
"""In logits."""
LEAST_ANSWER_WORDS = 0.99
EARLIEST_LAYER = 1 / 3
MOST_LAYERS = 8
FOLDS = 5

Fold = tuple[NDArray[np.intp], NDArray[np.intp]]
"""Rows to fit on, rows to judge."""


@dataclass(frozen=True)
class SettingTried:
    """What one layer and strength gave on statements that were not fitted on.

    `rank_quality` is the share of twins ranked right where a gate is fitted on twins, else the AUROC.
    """

    layer: int
    strength: float
    accuracy: float
    balanced_accuracy: float
    rank_quality: float
    false_acceptance_rate: float
    answer_word_rate: float


def candidate_layers(count: int) -> tuple[int, ...]:
    """Return the layers that may be steered in a model of `count` layers: the upper two thirds without the last.

    Nothing follows the last layer's output: a shift there only moves the threshold.
    """
    return tuple(range(int(count * EARLIEST_LAYER), count - 1)) or (max(0, count - 2),)


def spread_layers(count: int) -> tuple[int, ...]:
    """Return at most `MOST_LAYERS` of the candidate layers, evenly spread, the penultimate layer among them."""
    candidates = candidate_layers(count)
    places = np.linspace(0, len(candidates) - 1, min(MOST_LAYERS, len(candidates)))
    return tuple(candidates[round(place)] for place in places)


def folds_of(statements: Sequence[LabelledStatement]) -> list[Fold]:
    """Return the five folds; groups stay whole, answers are stratified."""
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    gold = [statement.answer for statement in statements]
    return list(splitter.split(gold, gold, [statement.group for statement in statements]))


def rank_quality(statements: Sequence[LabelledStatement], scores: Values, *, on_twins: bool) -> float:
    """Return the share of twins ranked right with `on_twins`, else the AUROC."""
    if on_twins:
        return twins_ranked_right(statements, scores)
    return float(roc_auc_score([statement.answer for statement in statements], scores))


def cross_fitted_settings(  # noqa: PLR0913 - what is tried, on what, and how it is called where runs are kept
    model: StatementModel,
    statements: Sequence[LabelledStatement],
    folds: Sequence[Fold],
    fits: Sequence[Mapping[int, FittedLayer]],
    strengths: Sequence[float],
    *,
    key: object,
    on_twins: bool = False,
) -> tuple[SettingTried, ...]:
    """Run the model on every fold under that fold's `fits` (by layer) at every strength.

    `key` says what decides the fits besides the statements, so that runs kept on disk are not taken for others.
    """
    settings = list(product(fits[0], strengths))
    scores = np.zeros((len(settings), len(statements)))
    words = np.zeros(scores.shape, dtype=bool)
    content = [(each.text, each.answer, each.group, each.pair) for each in statements]
    for number, ((_, judged), fitted) in enumerate(zip(folds, fits, strict=True)):
        conditions = [fitted[layer].at(strength).condition for layer, strength in settings]
        name = batch_key(key, settings, content, number)
        runs = model.steered([statements[i].text for i in judged], conditions, name=name)
        for place, run in enumerate(runs):
            scores[place, judged] = run.scores
            words[place, judged] = run.answer_words
    return tuple(
        _figures(statements, setting, row, said, on_twins=on_twins)
        for setting, row, said in zip(settings, scores, words, strict=True)
    )


def _figures(
    statements: Sequence[LabelledStatement],
    setting: tuple[int, float],
    scores: Values,
    words: Flags,
    *,
    on_twins: bool,
) -> SettingTried:
    gold = np.array([statement.answer for statement in statements], dtype=bool)
    answers = scores >= 0
    return SettingTried(
        layer=setting[0],
        strength=setting[1],
        accuracy=float((answers == gold).mean()),
        balanced_accuracy=balanced_accuracy(answers, gold),
        rank_quality=rank_quality(statements, scores, on_twins=on_twins),
        false_acceptance_rate=float(answers[~gold].mean()),
        answer_word_rate=float(words.mean()),
    )


def usable(tried: Sequence[SettingTried]) -> list[SettingTried]:
    """Return the settings under which the likeliest next token is an answer word often enough."""
    return [setting for setting in tried if setting.answer_word_rate >= LEAST_ANSWER_WORDS]


def weakest_good(
    tried: Sequence[SettingTried], quality: Callable[[SettingTried], float], n: int
) -> SettingTried:
    """Return the weakest setting within one standard error of the best; of several, the highest layer: the paper's side.

    `quality` is a share of `n` statements or twins.
    """
    best = max(map(quality, tried))
    least = best - float((best * (1 - best) / n) ** 0.5)
    good = [setting for setting in tried if quality(setting) >= least]
    return min(good, key=lambda setting: (setting.strength, -setting.layer))
