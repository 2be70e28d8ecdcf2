"""The map of a strategy over layers and strengths: fitted on one part of the statements, measured on another.

All settings share one pass over the prompts, and each then runs only the layers above its own on one token. Whoever
picks a setting by this map has chosen on the statements it was measured on, so that an evaluation needs others.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from math import gcd
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from medx_core.accuracy import Flags, balanced_accuracy
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.errors import BadInput
from medx_core.fitting.examples import examples_of
from medx_core.fitting.fit import fit_at_layers
from medx_core.fitting.fitted import FittedLayer
from medx_core.fitting.gated import GatedFit
from medx_core.fitting.search import GATE_STRENGTHS, folds_of
from medx_core.fitting.spec import SweepSpec
from medx_core.steering.hooks import SteeringPlan
from medx_core.steering.names import GATED
from medx_core.traces.running import OnProgress, batch_key, silent
from medx_core.traces.statement_runner import RunScores, StatementRunner

MAP_STRENGTHS = tuple(sorted({1.0, *GATE_STRENGTHS, 16.0}))
MAP_LAYERS = 10

OnStage = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and of how much."""

NOTE = (
    "Fitted on the train part, measured on the other part. A cell that is picked by this map is chosen on the "
    "statements it was measured on; evaluate it on others."
)
MAP_NOTE = (
    "One fold of the training part, by gates fitted on the other four. The arm's own layer and strength were chosen by "
    "all five."
)


@dataclass(frozen=True)
class SweepMap:
    """The outcome of every cell (a layer and a strength): `runs` in the order of layers, then strengths.

    `n_train` statements were fitted on; `seconds` were spent on fitting and on measuring.
    """

    spec: SweepSpec
    fitted_on: str
    n_train: int
    conditions: Sequence[SteeringPlan]
    runs: Sequence[RunScores]
    unsteered: RunScores
    gold: Flags
    resumed: bool
    seconds: Mapping[str, float] = field(default_factory=dict)
    note: str = NOTE

    @property
    def places(self) -> list[tuple[int, float]]:
        """The layer and the strength of every cell."""
        return list(product(self.spec.layers, self.spec.strengths))

    def as_json(self) -> dict[str, Any]:
        """Return the map: each figure as one list of strengths per layer."""
        figures = [run_figures(run, self.gold) for run in self.runs]
        width = len(self.spec.strengths)
        rows = [figures[start : start + width] for start in range(0, len(figures), width)]
        return {
            **self.spec.as_json(),
            "fitted_on": self.fitted_on,
            "n_train": self.n_train,
            "n_measured": len(self.gold),
            "note": self.note,
            "unsteered": run_figures(self.unsteered, self.gold),
            **{name: [[cell[name] for cell in row] for row in rows] for name in figures[0]},
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

    def as_json(self) -> dict[str, Any]:
        """Return the check by name; `ratio` is how many times faster the sweep was, per cell."""
        return {
            **asdict(self),
            "cells": [{"layer": layer, "strength": strength} for layer, strength in self.cells],
            "ratio": self.whole_seconds_a_cell / self.swept_seconds_a_cell,
        }


def sweep(
    runner: StatementRunner,
    train: Sequence[LabelledStatement],
    measured: Sequence[LabelledStatement],
    spec: SweepSpec,
    on_stage: OnStage,
) -> SweepMap:
    """Fit the specification's strategy on `train` at every layer, run every strength on `measured`.

    Raises:
        BadInput: `measured` holds one kind of answer only.
        VectorRefused: a layer does not exist, or `train` does not do for the strategy.
    """
    gold = np.array([statement.answer for statement in measured], dtype=bool)
    if len(np.unique(gold)) < 2:
        raise BadInput("The statements to measure on are all TRUE or all FALSE; a sweep needs both.")
    started = time.perf_counter()
    examples = examples_of(train, spec.vector)
    fitted = fit_at_layers(
        runner, examples, spec.vector, spec.layers, lambda done, of: on_stage("fitting", done, of)
    )
    conditions = _conditions(fitted.layers, spec)
    texts = [statement.text for statement in measured]
    unsteered = runner.scores(texts, lambda done, of: on_stage("unsteered", done, of))
    resumes = runner.resumes  # found out before the clock starts
    begun = time.perf_counter()
    name = batch_key(spec, [(each.text, each.answer, each.group, each.pair) for each in train])
    runs = runner.steered(texts, conditions, lambda done, of: on_stage("measuring", done, of), name=name)
    seconds = {"fitting": begun - started, "measuring": time.perf_counter() - begun}
    n_train = len(fitted.statements)
    return SweepMap(spec, fitted.fitted_on, n_train, conditions, runs, unsteered, gold, resumes, seconds)


def map_of_settings(runner: StatementRunner, gated: GatedFit, on_progress: OnProgress = silent) -> SweepMap:
    """Map the settings of a gate from its training part alone: up to eleven layers by five strengths.

    It is for looking at: how narrow the good settings are. Layer and strength were chosen by all five folds; the map
    shows one of them, whose statements the gates of the map have not seen.
    """
    training, statements = gated.training, gated.training.statements
    fitted, judged = folds_of(statements)[0]
    known = sorted(training.traces)
    layers = tuple(sorted({gated.chosen.layer, *(known[place] for place in spread(len(known), MAP_LAYERS))}))
    fits = training.fits(runner, layers, 0.0, torch.as_tensor(fitted))
    spec = SweepSpec(layers, MAP_STRENGTHS, strategy=GATED, fit_on=training.fitted_on)
    conditions = _conditions(fits, spec)
    runs = runner.steered([statements[i].text for i in judged], conditions, on_progress)
    words = training.unsteered.answer_words
    unsteered = RunScores(training.unsteered.scores[judged], None if words is None else words[judged])
    gold = np.array([statements[i].answer for i in judged], dtype=bool)
    fitted_on, n_train, resumes = training.fitted_on, len(fitted), runner.resumes
    return SweepMap(spec, fitted_on, n_train, conditions, runs, unsteered, gold, resumes, note=MAP_NOTE)


def _conditions(fits: Mapping[int, FittedLayer], spec: SweepSpec) -> list[SteeringPlan]:
    cells = product(spec.layers, spec.strengths)
    return [fits[layer].at(strength).condition for layer, strength in cells]


def check_cells(
    runner: StatementRunner, swept: SweepMap, texts: Sequence[str], count: int, on_stage: OnStage
) -> CellCheck:
    """Run `count` cells, spread evenly over the map, as whole passes; compare scores and time."""
    chosen = spread_cells(len(swept.spec.layers), len(swept.spec.strengths), count)
    started = time.perf_counter()
    again = []
    for done, place in enumerate(chosen):
        on_stage("checking", done, len(chosen))
        again += runner.steered(texts, [swept.conditions[place]], resumed=False)
    whole = (time.perf_counter() - started) / len(chosen)
    on_stage("checking", len(chosen), len(chosen))
    before = np.array([swept.runs[place].scores for place in chosen])
    after = np.array([run.scores for run in again])
    return CellCheck(
        cells=tuple(swept.places[place] for place in chosen),
        whole_seconds_a_cell=whole,
        swept_seconds_a_cell=swept.seconds["measuring"] / len(swept.conditions),
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
    strides = range(max(1, round(0.618 * count)), count + 2)
    stride = next(candidate for candidate in strides if gcd(candidate, count) == 1)
    places: list[int] = []
    for i in range(count):
        row = (2 * i + 1) * layers // (2 * count)
        column = (2 * (i * stride % count) + 1) * strengths // (2 * count)
        free = (row * strengths + (column + further) % strengths for further in range(strengths))
        places.append(next(place for place in free if place not in places))
    return places


def spread(places: int, count: int) -> list[int]:
    """Return `count` different places out of `places` in one row, evenly spread."""
    count = max(1, min(count, places))
    return [(2 * i + 1) * places // (2 * count) for i in range(count)]


def run_figures(run: RunScores, gold: Flags) -> dict[str, float | None]:
    """Return one run's figures against the gold answers, without intervals; None where a kind of answer is missing."""
    answers = run.scores >= 0
    both = bool(gold.any()) and not bool(gold.all())
    return {
        "accuracy": float((answers == gold).mean()),
        "balanced_accuracy": balanced_accuracy(answers, gold) if both else None,
        "auroc": float(roc_auc_score(gold, run.scores)) if both else None,
        "predicted_true_rate": float(answers.mean()),
        "false_acceptance_rate": None if gold.all() else float(answers[~gold].mean()),
        "answer_word_rate": None if run.answer_words is None else float(run.answer_words.mean()),
    }
