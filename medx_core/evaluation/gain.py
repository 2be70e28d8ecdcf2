"""What a built vector changes on statements it was not fitted on: the gain of the paper's failure signature."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from medx_core.data.labelled_statements import LabelledStatement
from medx_core.evaluation.arms import TestItems
from medx_core.evaluation.bootstrap import resamples
from medx_core.fitting.examples import drawn_examples
from medx_core.fitting.sweep import run_figures
from medx_core.steering.diagnostics import shift_of_distribution
from medx_core.steering.hooks import SteeringPlan, SteeringStep
from medx_core.steering.steering_vector import SteeringVector
from medx_core.traces.running import BATCH_ROWS
from medx_core.traces.statement_runner import RunScores, StatementRunner

HELD_OUT_ROWS = 120
RATES = ("balanced_accuracy", "false_acceptance_rate", "answer_word_rate")


class _RecordingShift:
    """A shift of zero that keeps the states it meets: the unsteered arm and its states in one run."""

    def __init__(self) -> None:
        self._batches: list[Tensor] = []

    def __call__(self, states: Tensor) -> Tensor:
        self._batches.append(states[:, -1].detach().float().cpu())
        return torch.zeros_like(states)

    @property
    def states(self) -> Tensor:
        """All states met, (rows, hidden_size), in the order of the batches."""
        return torch.cat(self._batches)


def with_gain(
    runner: StatementRunner,
    vector: SteeringVector,
    train: Sequence[LabelledStatement],
    held_out: Sequence[LabelledStatement],
    *,
    seed: int,
) -> SteeringVector:
    """Return the vector with what it changes among its diagnostics, measured on up to 120 of `held_out`.

    `validation_gain` is the difference in balanced accuracy, steered minus unsteered, with a 95 % interval by paired
    bootstrap over whole groups; None without statements of both kinds. `validation` holds rates of both arms;
    `relative_norm`, `shift` and `shift_rows` say how far states at the vector's layer move. Without held-out
    statements the states of some of `train` are compared, and there is no gain.

    Raises:
        ModelUnavailable: a batch does not fit into the device's memory.
    """
    judged = drawn_examples(held_out, HELD_OUT_ROWS, seed=seed)
    statements = judged or train[:BATCH_ROWS]
    before = _RecordingShift()
    unsteered_plan = SteeringPlan((SteeringStep(vector.layer, before),))
    unsteered, steered = runner.steered(
        [statement.text for statement in statements], [unsteered_plan, vector.verdict_plan]
    )
    gain = _gain(TestItems(judged), unsteered, steered, seed) if judged else {"validation_gain": None}
    return replace(vector, diagnostics={**vector.diagnostics, **_moved(vector, before.states), **gain})


def _moved(vector: SteeringVector, before: Tensor) -> dict[str, object]:
    after = before + vector.shift(before[:, None, :])[:, 0]
    return {
        "relative_norm": float((after - before).norm(dim=1).mean() / before.norm(dim=1).mean()),
        "shift": shift_of_distribution(before, after),
        "shift_rows": len(before),
    }


def _gain(items: TestItems, unsteered: RunScores, steered: RunScores, seed: int) -> dict[str, object]:
    weights = resamples(items.gold, items.groups, seed=seed)
    before, after = (weights.balanced((run.scores >= 0) == items.gold) for run in (unsteered, steered))
    gain = after.minus(before).metric
    rates = [run_figures(run, items.gold) for run in (unsteered, steered)]
    return {
        "validation_gain": gain and gain.model_dump(),
        "validation": {"n": len(items)} | {name: _both(*(run[name] for run in rates)) for name in RATES},
    }


def _both(unsteered: float | None, steered: float | None) -> dict[str, float] | None:
    if unsteered is None or steered is None:
        return None
    return {"unsteered": unsteered, "steered": steered}
