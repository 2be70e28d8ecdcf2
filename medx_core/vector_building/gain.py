"""What a vector changes on statements it was not made from: the gain that the paper's failure signature is about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medx_core.data.labelled_statements import LabelledStatement
from medx_core.evaluation.arms import TestItems
from medx_core.evaluation.bootstrap import Estimate, Resamples, resamples
from medx_core.steering.hooks import Positions, SteeringStep
from medx_core.steering.steering_vector import SteeringVector
from medx_core.traces.statement_runner import RunScores, StatementRunner, SteeringCell


class StatesSeen:
    """A shift of nothing that keeps the states it was asked about: the unsteered arm and its states in one run."""

    def __init__(self) -> None:
        self._batches: list[Tensor] = []

    def __call__(self, states: Tensor) -> Tensor:
        """Keep the last token's states and shift nothing."""
        self._batches.append(states[:, -1].detach().float().cpu())
        return torch.zeros_like(states)

    @property
    def states(self) -> Tensor:
        """All states seen, (rows, hidden_size), in the order of the batches."""
        return torch.cat(self._batches)


@dataclass(frozen=True)
class Validation:
    """What steering changed: `figures` for the diagnostics, `before` the unsteered states at the vector's layer."""

    figures: Mapping[str, Any]
    before: Tensor


def validation(
    runner: StatementRunner, held_out: Sequence[LabelledStatement], vector: SteeringVector, *, seed: int
) -> Validation:
    """Judge `held_out` with and without the vector, in one run.

    The figures are `validation_gain`, the difference in balanced accuracy, steered minus unsteered, with a 95 %
    interval by paired bootstrap over whole groups (None without both kinds of statement), and `validation`, rates of
    both arms.
    """
    seen = StatesSeen()
    cells = [SteeringCell(vector.layer, seen), SteeringCell.of(_at_the_answer(vector))]
    plain, moved = runner.steered([one.text for one in held_out], cells)
    items = TestItems(held_out)
    weights = resamples(items.gold, items.groups, seed=seed)
    before, after = _balanced(plain, items, weights), _balanced(moved, items, weights)
    gain = after.minus(before).metric
    figures = {
        "validation_gain": gain and gain.model_dump(),
        "validation": {
            "n": len(items),
            "balanced_accuracy": _both(before.value, after.value) if gain else None,
            "false_acceptance_rate": _both(*(_accepted(one, items) for one in (plain, moved))),
            "answer_word_rate": _both(*(_speaking(one) for one in (plain, moved))),
        },
    }
    return Validation(figures, seen.states)


def _at_the_answer(vector: SteeringVector) -> list[SteeringStep]:
    """A verdict is read from the last prompt token, wherever in a text the vector acts."""
    return [replace(step, positions=Positions.LAST) for step in vector.steps]


def _balanced(run: RunScores, items: TestItems, weights: Resamples) -> Estimate:
    return weights.balanced((run.scores >= 0) == items.gold)


def _accepted(run: RunScores, items: TestItems) -> float | None:
    false = ~items.gold
    return float((run.scores[false] >= 0).mean()) if false.any() else None


def _speaking(run: RunScores) -> float | None:
    return None if run.answer_words is None else float(np.mean(run.answer_words))


def _both(unsteered: float | None, steered: float | None) -> dict[str, float] | None:
    if unsteered is None or steered is None:
        return None
    return {"unsteered": unsteered, "steered": steered}
