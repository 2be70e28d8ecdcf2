"""The map of a strategy over layers and strengths: fitted on one part of the statements, measured on another.

All cells share one pass over the prompts, and each then runs only the layers above its own on one token. Whoever picks
a cell by this map has chosen on the statements it was measured on, so that an evaluation needs others.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from medx_core.data.labelled_statements import LabelledStatement
from medx_core.errors import BadInput
from medx_core.steering.contrast import STATEMENT, ContrastStates
from medx_core.steering.gate import Gate, fit_gate, gated_shift
from medx_core.steering.hooks import Shift
from medx_core.steering.strategies import AMPLIFY, GATED, MEAN_DIFFERENCE, PCA, amplify, mean_difference, pca
from medx_core.traces.answer_gradient import answer_gradients
from medx_core.traces.cells import SteeringCell
from medx_core.traces.readings import contrast_states
from medx_core.traces.running import OnProgress, batch_key
from medx_core.traces.statement_runner import RunScores, StatementRunner

SWEPT = (MEAN_DIFFERENCE, PCA, AMPLIFY, GATED)


class Strengthened(Protocol):
    """A fitted strategy that waits for its strength."""

    def shift(self, strength: float) -> Shift:
        """Return the shift at that strength."""
        ...


_FROM_CONTRAST: Mapping[str, Callable[[ContrastStates], Strengthened]] = {
    MEAN_DIFFERENCE: mean_difference,
    PCA: pca,
    AMPLIFY: amplify,
}


@dataclass(frozen=True)
class SweepRecipe:
    """What is swept. `reading` says how contrast traces are read; `gated` always reads the last prompt token.

    `on_twins`: the gate is fitted on the differences within twins.
    """

    layers: tuple[int, ...]
    strengths: tuple[float, ...]
    strategy: str = MEAN_DIFFERENCE
    reading: str = STATEMENT
    on_twins: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the recipe by name."""
        return {
            "strategy": self.strategy,
            "reading": STATEMENT if self.strategy == GATED else self.reading,
            "fitted_on": "twins" if self.on_twins else "statements",
            "layers": list(self.layers),
            "strengths": list(self.strengths),
        }


@dataclass(frozen=True)
class FittedGate:
    """A gate with the direction it pushes along and the unsteered bias that it takes away."""

    gate: Gate
    gradient: Tensor  # (hidden_size,)
    offset: float

    def shift(self, strength: float) -> Shift:
        """Return the gated shift of `strength` logits."""
        return gated_shift(self.gate, self.gradient, strength, self.offset)


def fitted_on_train(
    runner: StatementRunner,
    train: Sequence[LabelledStatement],
    recipe: SweepRecipe,
    on_progress: OnProgress,
) -> Mapping[int, Strengthened]:
    """Fit the recipe's strategy at each of its layers.

    Raises:
        BadInput: the strategy cannot be swept.
        VectorRefused: a layer does not exist, or the statements do not do for the strategy.
    """
    if recipe.strategy == GATED:
        return _gates(runner, train, recipe, on_progress)
    if recipe.strategy not in _FROM_CONTRAST:
        raise BadInput(f"The strategy {recipe.strategy!r} cannot be swept; these can: {', '.join(SWEPT)}.")
    fit = _FROM_CONTRAST[recipe.strategy]
    found = contrast_states(runner, train, recipe.reading, recipe.layers, on_progress)
    return {layer: fit(states) for layer, states in found.items()}


def _gates(
    runner: StatementRunner,
    train: Sequence[LabelledStatement],
    recipe: SweepRecipe,
    on_progress: OnProgress,
) -> Mapping[int, Strengthened]:
    texts = [one.text for one in train]
    run = runner.recorded(texts, recipe.layers, on_progress, with_answer_words=False)
    gradients = answer_gradients(runner, texts, recipe.layers)
    gold = torch.tensor([one.answer for one in train])
    groups = [one.pair or one.group for one in train]
    offset = float(np.median(run.scores))
    return {
        layer: FittedGate(
            fit_gate(states, gold, groups=groups, differences=recipe.on_twins), gradients[layer], offset
        )
        for layer, states in run.states.items()
    }


OnStage = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and of how much."""

FIGURES = (
    "accuracy",
    "balanced_accuracy",
    "auroc",
    "predicted_true_rate",
    "false_acceptance_rate",
    "answer_word_rate",
)
NOTE = (
    "Fitted on the train part, measured on the other part. A cell that is picked by this map is chosen on the "
    "statements it was measured on; evaluate it on others."
)


@dataclass(frozen=True)
class SweepMap:
    """What every cell gave: `runs` in the order of layers, then strengths; seconds of fitting and of measuring."""

    recipe: SweepRecipe
    cells: tuple[SteeringCell, ...]
    runs: tuple[RunScores, ...]
    unsteered: RunScores
    gold: NDArray[np.bool_]
    n_train: int
    seconds: Mapping[str, float]
    resumed: bool

    def as_json(self) -> dict[str, Any]:
        """Return the map: each figure as one list of strengths a layer."""
        figures = [run_figures(run, self.gold) for run in self.runs]
        width = len(self.recipe.strengths)
        rows = [figures[start : start + width] for start in range(0, len(figures), width)]
        return {
            **self.recipe.as_json(),
            "n_train": self.n_train,
            "n_measured": len(self.gold),
            "note": NOTE,
            "unsteered": run_figures(self.unsteered, self.gold),
            **{name: [[cell[name] for cell in row] for row in rows] for name in FIGURES},
            "seconds": dict(self.seconds),
            "from_cached_states": self.resumed,
        }


@dataclass(frozen=True)
class CellCheck:
    """Some cells run again as one whole pass each, with the prompt's cached beginning and batches by length."""

    cells: tuple[tuple[int, float], ...]
    whole_seconds_a_cell: float
    swept_seconds_a_cell: float
    largest_difference: float
    verdicts_changed: int

    @property
    def ratio(self) -> float:
        """How many times faster the sweep was, a cell."""
        return self.whole_seconds_a_cell / self.swept_seconds_a_cell

    def as_json(self) -> dict[str, Any]:
        """Return the check by name."""
        return {
            "cells": [{"layer": layer, "strength": strength} for layer, strength in self.cells],
            "whole_seconds_a_cell": self.whole_seconds_a_cell,
            "swept_seconds_a_cell": self.swept_seconds_a_cell,
            "ratio": self.ratio,
            "largest_difference": self.largest_difference,
            "verdicts_changed": self.verdicts_changed,
        }


def sweep(
    runner: StatementRunner,
    train: Sequence[LabelledStatement],
    measured: Sequence[LabelledStatement],
    recipe: SweepRecipe,
    on_stage: OnStage,
) -> SweepMap:
    """Fit the recipe's strategy on `train` at every layer, run every strength on `measured`.

    Raises:
        BadInput: `measured` holds one kind of answer only.
        VectorRefused: a layer does not exist, or `train` does not do for the strategy.
        ModelUnavailable: a batch does not fit into the device's memory.
    """
    gold = np.array([one.answer for one in measured], dtype=bool)
    if len(np.unique(gold)) < 2:
        raise BadInput("The statements to measure on are all TRUE or all FALSE; a sweep needs both.")
    started = time.perf_counter()
    fitted = fitted_on_train(runner, train, recipe, lambda done, of: on_stage("fitting", done, of))
    cells = tuple(
        SteeringCell(layer, fitted[layer].shift(strength))
        for layer in recipe.layers
        for strength in recipe.strengths
    )
    texts = [one.text for one in measured]
    unsteered = runner.scores(texts, lambda done, of: on_stage("unsteered", done, of))
    ready = runner.resumes  # found out before the clock starts
    begun = time.perf_counter()
    name = batch_key(recipe, [(one.text, one.answer, one.group, one.pair) for one in train])
    runs = runner.steered(texts, cells, lambda done, of: on_stage("measuring", done, of), name=name)
    ended = time.perf_counter()
    seconds = {"fitting": begun - started, "measuring": ended - begun}
    return SweepMap(recipe, cells, tuple(runs), unsteered, gold, len(train), seconds, ready)


def check_cells(
    runner: StatementRunner, found: SweepMap, texts: Sequence[str], count: int, on_stage: OnStage
) -> CellCheck:
    """Run `count` cells, spread evenly over the map, as whole passes; compare scores and time.

    Raises:
        ModelUnavailable: a batch does not fit into the device's memory.
    """
    width = len(found.recipe.strengths)
    chosen = spread_cells(len(found.recipe.layers), width, count)
    started = time.perf_counter()
    again = []
    for done, place in enumerate(chosen):
        on_stage("checking", done, len(chosen))
        again += runner.steered(texts, [found.cells[place]], resumed=False)
    whole = (time.perf_counter() - started) / len(chosen)
    on_stage("checking", len(chosen), len(chosen))
    before = np.array([found.runs[place].scores for place in chosen])
    after = np.array([run.scores for run in again])
    places = [divmod(place, width) for place in chosen]
    return CellCheck(
        cells=tuple((found.recipe.layers[row], found.recipe.strengths[column]) for row, column in places),
        whole_seconds_a_cell=whole,
        swept_seconds_a_cell=found.seconds["measuring"] / len(found.cells),
        largest_difference=float(np.abs(before - after).max()),
        verdicts_changed=int(((before >= 0) != (after >= 0)).sum()),
    )


def spread_cells(layers: int, strengths: int, count: int) -> list[int]:
    """Return `count` different cells of a map, counted row by row, evenly spread over its layers and its strengths.

    A step through all cells that a row's length divides would meet the same strength in every row, so strengths are
    taken in an order of their own: as many different ones as there are, or as are asked for.
    """
    count = max(1, min(count, layers * strengths))
    # A stride near the golden section, without a common divisor, visits every place once and no two neighbours in turn.
    stride = next(one for one in range(max(1, round(0.618 * count)), count + 2) if gcd(one, count) == 1)
    found: list[int] = []
    for i in range(count):
        row = (2 * i + 1) * layers // (2 * count)
        column = (2 * (i * stride % count) + 1) * strengths // (2 * count)
        free = (row * strengths + (column + further) % strengths for further in range(strengths))
        found.append(next(place for place in free if place not in found))
    return found


def spread(places: int, count: int) -> list[int]:
    """Return `count` different places out of `places` in one row, evenly spread."""
    count = max(1, min(count, places))
    return [(2 * i + 1) * places // (2 * count) for i in range(count)]


def run_figures(run: RunScores, gold: NDArray[np.bool_]) -> dict[str, float | None]:
    """Return one run's figures against the gold answers, without intervals; None where a kind of answer is missing."""
    said = run.scores >= 0
    both = bool(gold.any()) and not bool(gold.all())
    return {
        "accuracy": float((said == gold).mean()),
        "balanced_accuracy": float((said[gold].mean() + (~said[~gold]).mean()) / 2) if both else None,
        "auroc": float(roc_auc_score(gold, run.scores)) if both else None,
        "predicted_true_rate": float(said.mean()),
        "false_acceptance_rate": None if gold.all() else float(said[~gold].mean()),
        "answer_word_rate": None if run.answer_words is None else float(run.answer_words.mean()),
    }
