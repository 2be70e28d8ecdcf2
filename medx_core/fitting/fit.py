"""Fitting a vector by its specification: the one way from labelled statements to a fitted strategy, for use and for measuring.

`medx vectors build` writes what `fit_vector` returns with its provenance; `medx evaluate` measures what `fit_vector`
returns; a sweep fits the same strategies at every layer.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from operator import attrgetter
from typing import Any

import torch

from medx_core.categories import Category
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.errors import BadInput
from medx_core.fitting.examples import examples_of, kept_together
from medx_core.fitting.fitted import FittedLayer, fitted_layer
from medx_core.fitting.gated import fit_gated, record_for_gates
from medx_core.fitting.readings import read_traces
from medx_core.fitting.search import (
    CONSTANT_STRENGTHS,
    cross_fitted_settings,
    folds_of,
    spread_layers,
    usable,
    weakest_good,
)
from medx_core.fitting.spec import PAPER_ALPHA, FitSpec
from medx_core.steering.hooks import ShiftsByText, SteeringPlan, SteeringStep
from medx_core.steering.layers import penultimate_layer
from medx_core.steering.names import MEAN_DIFFERENCE, ON_STATEMENTS, RANDOM, SHUFFLED
from medx_core.traces.running import OnProgress, silent
from medx_core.traces.statement_runner import StatementRunner

FEWEST_OF_A_CATEGORY = 40


@dataclass(frozen=True)
class FittedVector:
    """A fitted strategy: the statements it was fitted on, and by layer what was fitted.

    `choices` is what layer and strength were chosen from, empty where they were given.
    """

    statements: Sequence[LabelledStatement]
    layers: Mapping[int, FittedLayer]
    fitted_on: str
    choices: Mapping[str, Any] = field(default_factory=dict)

    @property
    def top(self) -> FittedLayer:
        """The fit at the highest layer, by which the vector is named."""
        return self.layers[max(self.layers)]


def fit_vector(
    runner: StatementRunner,
    statements: Sequence[LabelledStatement],
    spec: FitSpec,
    on_progress: OnProgress = silent,
) -> FittedVector:
    """Draw the specification's examples from `statements`, read their states and fit the strategy; choose what is left open.

    Raises:
        BadInput: there is nothing, or too little, to fit on.
        VectorRefused: one side of the contrast is empty, or a layer does not exist.
    """
    examples = examples_of(statements, spec)
    if spec.is_gated:
        gated = fit_gated(runner, examples, spec, on_progress)
        layers = {gated.chosen.layer: gated.chosen}
        return FittedVector(gated.training.statements, layers, gated.training.fitted_on, gated.as_json())
    return _constant(runner, examples, spec, on_progress)


def fit_at_layers(
    runner: StatementRunner,
    statements: Sequence[LabelledStatement],
    spec: FitSpec,
    layers: Sequence[int],
    on_progress: OnProgress = silent,
) -> FittedVector:
    """Fit the specification's strategy at each of `layers` on all of `statements`, reading them once; nothing is chosen.

    Raises:
        BadInput: too few statements or twins for a gate.
        VectorRefused: one side of the contrast is empty, or a layer does not exist.
    """
    alpha = PAPER_ALPHA if spec.alpha is None else spec.alpha
    if spec.is_gated:
        training = record_for_gates(runner, statements, layers, spec.fit_on, on_progress)
        return FittedVector(training.statements, training.fits(runner, layers, alpha), training.fitted_on)
    # random and shuffled vectors are versions of the mean difference, see `_version`
    strategy = MEAN_DIFFERENCE if spec.strategy in (RANDOM, SHUFFLED) else spec.strategy
    traces = read_traces(runner, statements, spec.reading, layers, on_progress)
    groups = kept_together(statements)
    fits = {layer: fitted_layer(strategy, layer, states, groups, alpha) for layer, states in traces.items()}
    return FittedVector(statements, fits, ON_STATEMENTS)


def _constant(
    runner: StatementRunner,
    examples: Sequence[LabelledStatement],
    spec: FitSpec,
    on_progress: OnProgress,
) -> FittedVector:
    if not examples:
        raise BadInput("There are no statements to fit a vector on.")
    if not spec.choose:
        layers = spec.layers or (penultimate_layer(runner.model.network),)
        return _version(fit_at_layers(runner, examples, spec, layers, on_progress), spec)
    layers = spec.layers or spread_layers(runner.layer_count)
    fitted = fit_at_layers(runner, examples, spec, layers, on_progress)
    folds = folds_of(examples)
    refits = [
        {layer: fit.on(torch.as_tensor(rows)) for layer, fit in fitted.layers.items()} for rows, _ in folds
    ]
    strengths = CONSTANT_STRENGTHS if spec.alpha is None else (spec.alpha,)
    tried = cross_fitted_settings(runner, examples, folds, refits, strengths, key=spec)
    # Accuracy alone would reward a setting that answers with the commoner label.
    best = weakest_good(usable(tried) or tried, attrgetter("balanced_accuracy"), len(examples))
    chosen = {best.layer: fitted.layers[best.layer].at(best.strength)}
    choices = {"places_tried": [asdict(setting) for setting in tried]}
    return _version(replace(fitted, layers=chosen, choices=choices), spec)


def _version(fitted: FittedVector, spec: FitSpec) -> FittedVector:
    """Return the fit that the specification's strategy asks for; a control keeps layer and strength of the real vector."""
    if spec.strategy == RANDOM:
        return replace(fitted, layers={at: fit.random(spec.seed) for at, fit in fitted.layers.items()})
    if spec.strategy == SHUFFLED:
        return replace(fitted, layers={at: fit.shuffled(spec.seed) for at, fit in fitted.layers.items()})
    return fitted


@dataclass(frozen=True)
class CategoryVectors:
    """A constant vector of one layer for each category that has enough statements; under None that of all together.

    `examples` are the statements that each was fitted on; a control that is drawn has none of its own.
    """

    fits: Mapping[Category | None, FittedLayer]
    examples: Mapping[Category | None, Sequence[LabelledStatement]] = field(default_factory=dict)

    @property
    def vectors(self) -> dict[Category | None, FittedVector]:
        """Each as a fitted vector, with its examples."""
        return {
            category: FittedVector(self.examples[category], {fit.layer: fit}, ON_STATEMENTS)
            for category, fit in self.fits.items()
        }

    def condition(self, statements: Sequence[LabelledStatement]) -> SteeringPlan:
        """Return what steers each statement by the vector of its category, else by that of all together."""
        fits = [self.fits.get(statement.category, self.fits[None]) for statement in statements]
        rows = torch.stack([fit.direction.float() * fit.alpha for fit in fits])
        return SteeringPlan((SteeringStep(fits[0].layer, ShiftsByText(rows)),))

    def redrawn(self, draw: Callable[[FittedLayer, int], FittedLayer], seed: int) -> "CategoryVectors":
        """Return the control that `draw` makes (`FittedLayer.random` or `.shuffled`), each category with its own seed."""
        fits = enumerate(self.fits.items())
        return CategoryVectors({category: draw(fit, 1_000 * seed + place) for place, (category, fit) in fits})


def fit_by_category(
    runner: StatementRunner, statements: Sequence[LabelledStatement], spec: FitSpec
) -> CategoryVectors:
    """Fit a constant vector on the statements of every category that has enough of them, and on all together.

    Raises:
        VectorRefused: one side of the contrast is empty, or both have the same mean.
    """
    parts: dict[Category | None, Sequence[LabelledStatement]] = {None: statements}
    for category in Category:
        part = [statement for statement in statements if statement.category is category]
        if len(part) >= FEWEST_OF_A_CATEGORY and len({statement.answer for statement in part}) == 2:
            parts[category] = part
    vectors = {name: fit_vector(runner, part, spec) for name, part in parts.items()}
    return CategoryVectors(
        {name: vector.top for name, vector in vectors.items()},
        {name: vector.statements for name, vector in vectors.items()},
    )
