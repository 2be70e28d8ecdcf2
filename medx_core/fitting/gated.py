"""Fitting a gate: its states are recorded once at every candidate layer, then layer and strength are chosen.

The layer is the one whose cross-fitted gates rank best what they have not seen; the strength is the smallest that comes
within one standard error of the best when the model is really run. Where there are twins, both are chosen by how many
are ranked right.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medx_core.accuracy import Values
from medx_core.data.labelled_statements import LabelledStatement, twins_of
from medx_core.fitting.examples import gate_statements, kept_together
from medx_core.fitting.fitted import FittedLayer, StatementModel, gate_on, part_of
from medx_core.fitting.search import (
    GATE_STRENGTHS,
    Fold,
    SettingTried,
    candidate_layers,
    cross_fitted_settings,
    folds_of,
    rank_quality,
    usable,
    weakest_good,
)
from medx_core.fitting.spec import FitSpec
from medx_core.steering.contrast import ContrastTraces
from medx_core.steering.gate import Gate
from medx_core.steering.names import GATED, ON_TWINS, STATEMENT
from medx_core.traces.running import OnProgress, silent
from medx_core.traces.statement_runner import RunScores

GRADIENT_TEXTS = 64
"""How many statements the answer's gradient is averaged over; more do not turn it."""
STRENGTH_FIGURES = ("strength", "accuracy", "rank_quality", "answer_word_rate")


@dataclass(frozen=True)
class GateTraining:
    """The statements a gate is fitted on, run once without steering: their states by layer, and their scores.

    `groups` names each statement's twins.
    """

    statements: Sequence[LabelledStatement]
    fitted_on: str
    groups: Sequence[str]
    traces: Mapping[int, ContrastTraces]
    unsteered: RunScores

    @property
    def on_twins(self) -> bool:
        """Whether gates are fitted on the differences within twins."""
        return self.fitted_on == ON_TWINS

    def fits(
        self, model: StatementModel, layers: Sequence[int], alpha: float, rows: Tensor | None = None
    ) -> dict[int, FittedLayer]:
        """Fit a gate at each of `layers`, on all statements or on `rows` alone, to push along the answer's gradient.

        Raises:
            VectorRefused: one kind of statement is missing.
        """
        texts = [statement.text for statement in self.statements[:GRADIENT_TEXTS]]
        rows = torch.arange(len(self.statements)) if rows is None else rows
        groups = part_of(self.groups, rows)
        fits = {}
        for layer, gradient in model.answer_gradients(texts, layers).items():
            traces = self.traces[layer].part(rows)
            fits[layer] = FittedLayer(
                strategy=GATED,
                layer=layer,
                traces=traces,
                groups=groups,
                on_twins=self.on_twins,
                direction=gradient,
                alpha=alpha,
                gate=gate_on(traces, groups, on_twins=self.on_twins),
                b0=float(np.median(self.unsteered.scores)),  # the unsteered bias in logits
            )
        return fits

    def cross_fitted(self, layer: int, folds: Sequence[Fold]) -> tuple[list[Gate], Values]:
        """Return each fold's gate, fitted on the other folds, and the gates' values on what they were not fitted on."""
        gates, values, traces = [], np.zeros(len(self.statements)), self.traces[layer]
        for fitted, judged in folds:
            rows = torch.as_tensor(fitted)
            gate = gate_on(traces.part(rows), part_of(self.groups, rows), on_twins=self.on_twins)
            values[judged] = gate.values(traces.states[torch.as_tensor(judged)]).numpy()
            gates.append(gate)
        return gates, values


@dataclass(frozen=True)
class GatedFit:
    """A fitted gate where and as strongly as it was chosen, or asked for, and what was tried on the way."""

    training: GateTraining
    chosen: FittedLayer
    layers_tried: Mapping[int, float]
    strengths_tried: tuple[SettingTried, ...]

    def values(self, states: Tensor) -> Values:
        """Return what the gate reads in states (statements, hidden_size) after the chosen layer: (statements,)."""
        gate = self.chosen.gate
        assert gate is not None  # noqa: S101 - for the type checker: a gated strategy has one
        return gate.values(states).double().numpy()

    def as_json(self) -> dict[str, Any]:
        """Return what was chosen and from what."""
        return {
            "layer": self.chosen.layer,
            "strength": self.chosen.alpha,
            "offset": self.chosen.b0,
            "fitted_on": self.training.fitted_on,
            "layers_tried": {str(layer): quality for layer, quality in self.layers_tried.items()},
            "strengths_tried": [
                {name: getattr(setting, name) for name in STRENGTH_FIGURES}
                for setting in self.strengths_tried
            ],
        }


def record_for_gates(
    model: StatementModel,
    statements: Sequence[LabelledStatement],
    layers: Sequence[int],
    fit_on: str,
    on_progress: OnProgress = silent,
) -> GateTraining:
    """Choose what a gate is fitted on, and record its states at `layers` in one run.

    Raises:
        BadInput: there are too few statements, or too few twins where twins are asked for.
        VectorRefused: a layer does not exist.
    """
    used, fitted_on = gate_statements(statements, fit_on)
    run = model.recorded([statement.text for statement in used], layers, on_progress)
    gold = torch.tensor([statement.answer for statement in used], dtype=torch.bool)
    traces = {layer: ContrastTraces(states, gold, STATEMENT) for layer, states in run.states.items()}
    return GateTraining(used, fitted_on, kept_together(used), traces, run)


def fit_gated(
    model: StatementModel,
    statements: Sequence[LabelledStatement],
    spec: FitSpec,
    on_progress: OnProgress = silent,
) -> GatedFit:
    """Fit a gate; layer and strength are chosen where `spec` leaves them open.

    Raises:
        BadInput: there are too few statements, or too few twins where twins are asked for.
        VectorRefused: one kind of statement is missing, or a layer does not exist.
    """
    layers = spec.layers or candidate_layers(model.layer_count)
    training = record_for_gates(model, statements, layers, spec.fit_on, on_progress)
    if len(layers) == 1 and spec.alpha is not None:
        return GatedFit(training, training.fits(model, layers, spec.alpha)[layers[0]], {}, ())
    return _chosen(model, training, spec)


def _chosen(model: StatementModel, training: GateTraining, spec: FitSpec) -> GatedFit:
    statements, on_twins, folds = training.statements, training.on_twins, folds_of(training.statements)
    unseen = {layer: training.cross_fitted(layer, folds) for layer in training.traces}
    tried = {
        layer: rank_quality(statements, values, on_twins=on_twins) for layer, (_, values) in unseen.items()
    }
    layer = max(tried, key=lambda candidate: tried[candidate])
    fit = training.fits(model, [layer], 0.0)[layer]
    settings = cross_fitted_settings(
        model,
        statements,
        folds,
        [{layer: replace(fit, gate=gate)} for gate in unseen[layer][0]],
        GATE_STRENGTHS,
        key=spec,
        on_twins=on_twins,
    )
    quality = attrgetter("rank_quality" if on_twins else "accuracy")
    judged = len(twins_of(statements)) if on_twins else len(statements)
    candidates = usable(settings) or [max(settings, key=attrgetter("answer_word_rate"))]
    strength = weakest_good(candidates, quality, judged).strength
    alpha = strength if spec.alpha is None else spec.alpha
    return GatedFit(training, fit.at(alpha), tried, settings)
