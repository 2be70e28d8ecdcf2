"""Fitting a gate: on twin differences where there are twins, else on single statements."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medx_core.data.labelled_statements import LabelledStatement
from medx_core.errors import BadInput
from medx_core.evaluation.gated_arm import TrainingRun, candidate_layers, fit_gated_arm
from medx_core.evaluation.metrics import twins_of
from medx_core.steering.contrast import STATEMENT, ContrastStates, statement_states
from medx_core.steering.gate import fit_gate
from medx_core.steering.layers import decoder_layers
from medx_core.steering.steering_vector import ON_STATEMENTS, ON_TWINS
from medx_core.traces.answer_gradient import answer_gradient
from medx_core.traces.running import OnProgress
from medx_core.traces.statement_runner import StatementRunner
from medx_core.vector_building.fitted import Fitted
from medx_core.vector_building.recipe import VectorRecipe

FEWEST_TWINS = 40
FEWEST_STATEMENTS = 20


@dataclass(frozen=True)
class GateStates:
    """Last-prompt-token states (statements, hidden_size) with what a gate is fitted by."""

    states: Tensor
    gold: Tensor
    groups: NDArray[np.str_]
    on_twins: bool

    @property
    def contrast(self) -> ContrastStates:
        """The states of TRUE and of FALSE statements."""
        return statement_states(self.states, self.gold)

    def part(self, chosen: Tensor) -> "GateStates":
        """Return the statements that `chosen` (a mask) names."""
        return GateStates(self.states[chosen], self.gold[chosen], self.groups[chosen.numpy()], self.on_twins)

    def relabelled(self, gold: Tensor) -> "GateStates":
        """Return the same states under other labels."""
        return replace(self, gold=gold)

    def weight(self) -> Tensor:
        """Fit a gate on these states; return its weight (hidden_size,)."""
        gold = self.gold.numpy()
        return fit_gate(self.states, gold, groups=self.groups, differences=self.on_twins).weight


def fit_gated(
    runner: StatementRunner,
    statements: Sequence[LabelledStatement],
    recipe: VectorRecipe,
    on_progress: OnProgress,
) -> Fitted:
    """Record the last prompt token's states once and fit a gate on them; what the recipe leaves open is chosen.

    Raises:
        BadInput: there are too few statements, or too few twins where twins are asked for.
        VectorRefused: one kind of statement is missing, or a layer does not exist.
    """
    used, on_twins = fitting_part(statements, recipe.fit_on)
    layers = recipe.layers or tuple(candidate_layers(len(decoder_layers(runner.model.network))))
    recorded = runner.recorded([one.text for one in used], layers, on_progress, with_answer_words=False)
    run = TrainingRun(used, recorded, on_twins=on_twins)
    fitted = _given(runner, run, recipe) if len(layers) == 1 and recipe.alpha is not None else None
    return fitted or _chosen(runner, run, recipe)


def fitting_part(
    statements: Sequence[LabelledStatement], fit_on: str
) -> tuple[Sequence[LabelledStatement], bool]:
    """Return what a gate is fitted on, and whether on twin differences: then only complete twins count.

    Raises:
        BadInput: there are too few statements, or too few twins where twins are asked for.
    """
    pairs = twins_of(statements)
    if fit_on == ON_TWINS and len(pairs) < FEWEST_TWINS:
        raise BadInput(
            f"Fitting on twins needs at least {FEWEST_TWINS} complete pairs; there are {len(pairs)}. Fit on statements, "
            "or make twins with `medx data twins`."
        )
    if len(statements) < FEWEST_STATEMENTS:
        raise BadInput(
            f"A gate needs at least {FEWEST_STATEMENTS} statements to be fitted on; there are {len(statements)}."
        )
    if fit_on == ON_STATEMENTS or len(pairs) < FEWEST_TWINS:
        return statements, False
    return [statements[i] for i in sorted(index for pair in pairs for index in pair)], True


def _chosen(runner: StatementRunner, run: TrainingRun, recipe: VectorRecipe) -> Fitted:
    arm = fit_gated_arm(runner, run)
    found = _fitted(run, arm.layer, arm.gradient, arm.strength if recipe.alpha is None else recipe.alpha)
    return replace(found, choices=arm.as_json())


def _given(runner: StatementRunner, run: TrainingRun, recipe: VectorRecipe) -> Fitted:
    layer, alpha = next(iter(run.recorded.states)), recipe.alpha or 0.0
    gradient = answer_gradient(runner, [one.text for one in run.statements], layer)
    return _fitted(run, layer, gradient, alpha)


def _fitted(run: TrainingRun, layer: int, gradient: Tensor, alpha: float) -> Fitted:
    gate = run.fit(layer)
    groups = np.array([one.pair or one.group for one in run.statements])
    states = GateStates(run.recorded.states[layer], torch.as_tensor(run.gold), groups, run.on_twins)
    return Fitted(
        directions={layer: gradient},
        alpha=alpha,
        reading=STATEMENT,
        traces=states,
        along=gate.weight,
        axis=GateStates.weight,
        gate=gate,
        b0=float(np.median(run.recorded.scores)),
        fitted_on=ON_TWINS if run.on_twins else ON_STATEMENTS,
    )
