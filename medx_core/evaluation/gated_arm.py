"""Fitting the gated arm on the training part alone: its layer, its strength, its gate.

Chosen by five-fold cross-fitting with whole groups: the gate of each fold is fitted on the others. First the layer, by
how well the gates rank what they have not seen; then the strength, the smallest that comes within one standard error
of the best when the model is really run, with the answer-word rate as a hard condition (it is what breaks first).
Where there are twins, both are chosen by how many are ranked right.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor

from medx_core.data.labelled_statements import LabelledStatement
from medx_core.evaluation.arms import Flags, Values
from medx_core.evaluation.metrics import pairs_ranked_right, twins_of
from medx_core.steering.gate import Gate, fit_gate, gated_shift
from medx_core.traces.answer_gradient import answer_gradient
from medx_core.traces.statement_runner import RecordedStates, StatementRunner, SteeringCell

STRENGTHS = (2.0, 4.0, 8.0)
LEAST_ANSWER_WORDS = 0.99
GRADIENT_TEXTS = 64
EARLIEST_LAYER = 1 / 3
FOLDS = 5


@dataclass(frozen=True)
class GatedArm:
    """A fitted gate with where and how strongly it steers; `gradient` is the direction that says Yes."""

    layer: int
    strength: float
    offset: float
    gate: Gate
    gradient: Tensor  # (hidden_size,)
    fitted_on: str
    layers_tried: Mapping[int, float]
    strengths_tried: tuple[Mapping[str, float], ...]

    def cell(self, *, gate: Gate | None = None, direction: Tensor | None = None) -> SteeringCell:
        """Return what steers; a control puts another gate, or another direction of the same length, in its place."""
        along = self.gradient if direction is None else direction
        return SteeringCell(self.layer, gated_shift(gate or self.gate, along, self.strength, self.offset))

    def as_json(self) -> dict[str, Any]:
        """Return what was chosen and from what."""
        return {
            "layer": self.layer,
            "strength": self.strength,
            "offset": self.offset,
            "fitted_on": self.fitted_on,
            "layers_tried": {str(layer): value for layer, value in self.layers_tried.items()},
            "strengths_tried": [dict(one) for one in self.strengths_tried],
        }


@dataclass(frozen=True)
class TrainingRun:
    """The training part, run once without steering: its statements, their states at every candidate layer, scores."""

    statements: Sequence[LabelledStatement]
    recorded: RecordedStates
    on_twins: bool

    @property
    def gold(self) -> Flags:
        """The gold answers (statements,)."""
        return np.array([one.answer for one in self.statements], dtype=bool)

    @property
    def groups(self) -> list[str]:
        """What is never divided: with twins, the pair's group."""
        return [one.group for one in self.statements]

    def fit(self, layer: int, chosen: Values | None = None, gold: Flags | None = None) -> Gate:
        """Fit a gate at `layer` on the chosen rows; `gold` puts other labels in place of the real ones."""
        rows = [int(i) for i in (range(len(self.statements)) if chosen is None else chosen)]
        labels = (self.gold if gold is None else gold)[rows]
        return fit_gate(
            self.recorded.states[layer][rows],
            torch.as_tensor(labels),
            groups=[self.statements[i].pair or self.groups[i] for i in rows],
            differences=self.on_twins,
        )


def candidate_layers(count: int) -> list[int]:
    """Return the layers a gate may steer: the upper two thirds, but not the last, whose output nothing follows."""
    return list(range(int(count * EARLIEST_LAYER), count - 1))


def fit_gated_arm(runner: StatementRunner, run: TrainingRun) -> GatedArm:
    """Choose layer and strength by cross-fitting, then fit the gate on the whole training part."""
    folds = folds_of(run)
    layers = {layer: _rank_quality(run, _values_outside(run, layer, folds)) for layer in run.recorded.states}
    layer = max(layers, key=lambda one: layers[one])
    texts = [one.text for one in run.statements]
    gradient = answer_gradient(runner, texts[:GRADIENT_TEXTS], layer)
    offset = float(np.median(run.recorded.scores))
    tried = _strengths_outside(runner, run, layer, folds, (gradient, offset))
    return GatedArm(
        layer=layer,
        strength=_smallest_good(tried, run),
        offset=offset,
        gate=run.fit(layer),
        gradient=gradient,
        fitted_on="twins" if run.on_twins else "statements",
        layers_tried=layers,
        strengths_tried=tuple(tried),
    )


def folds_of(run: TrainingRun) -> list[tuple[Values, Values]]:
    """Return the five folds: rows to fit on, rows to ask. Groups stay whole."""
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    return list(splitter.split(np.zeros(len(run.statements)), run.gold, run.groups))


def _values_outside(run: TrainingRun, layer: int, folds: Sequence[tuple[Values, Values]]) -> Values:
    values = np.zeros(len(run.statements))
    for fitted, asked in folds:
        gate = run.fit(layer, fitted)
        values[asked] = gate.values(run.recorded.states[layer][torch.as_tensor(asked)]).numpy()
    return values


def _rank_quality(run: TrainingRun, values: Values) -> float:
    """Return what the layer is chosen by: the share of twins ranked right where there are twins, else AUROC."""
    if run.on_twins:
        return pairs_ranked_right(run.statements, values)
    return float(roc_auc_score(run.gold, values))


def _strengths_outside(
    runner: StatementRunner,
    run: TrainingRun,
    layer: int,
    folds: Sequence[tuple[Values, Values]],
    along: tuple[Tensor, float],
) -> list[dict[str, float]]:
    """Run the model on every fold with the gate of the other folds, at every strength."""
    scores = np.zeros((len(STRENGTHS), len(run.statements)))
    words = np.zeros_like(scores)
    gradient, offset = along
    for fitted, asked in folds:
        gate = run.fit(layer, fitted)
        cells = [SteeringCell(layer, gated_shift(gate, gradient, k, offset)) for k in STRENGTHS]
        found = runner.steered([run.statements[i].text for i in asked], cells)
        for number, one in enumerate(found):
            scores[number, asked] = one.scores
            words[number, asked] = one.answer_words
    return [
        {
            "strength": strength,
            "accuracy": float(((row >= 0) == run.gold).mean()),
            "rank_quality": _rank_quality(run, row),
            "answer_word_rate": float(said.mean()),
        }
        for strength, row, said in zip(STRENGTHS, scores, words, strict=True)
    ]


def _smallest_good(tried: Sequence[Mapping[str, float]], run: TrainingRun) -> float:
    """Return the smallest strength within one standard error of the best: by twins ranked right, else by accuracy."""
    speaking = [one for one in tried if one["answer_word_rate"] >= LEAST_ANSWER_WORDS]
    if not speaking:
        return max(tried, key=lambda one: one["answer_word_rate"])["strength"]
    quality = "rank_quality" if run.on_twins else "accuracy"
    count = len(twins_of(run.statements)) if run.on_twins else len(run.statements)
    best = max(one[quality] for one in speaking)
    error = (best * (1 - best) / count) ** 0.5
    return min(one["strength"] for one in speaking if one[quality] >= best - error)
