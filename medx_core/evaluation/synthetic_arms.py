"""The arms of an evaluation in the synthetic world: the recipes of the real ones, where a state is all there is.

The final logit is linear in the state, so pushing a state along the output's own gradient by x logits adds exactly x.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from medx_core.evaluation.arms import ArmScores, ControlDraws, Values
from medx_core.evaluation.reference_arms import best_threshold
from medx_core.evaluation.synthetic_world import WIDTH, Sample, World
from medx_core.steering.strategies.gate import Gate, fit_gates

DRAWS = 20
FOLDS = 5
STRENGTHS = (2.0, 4.0, 8.0)


@dataclass(frozen=True)
class FittedArms:
    """What was fitted on the train statements: the gate, those of shuffled answers, strength, offset and threshold."""

    world: World
    gate: Gate
    shuffled: tuple[Gate, ...]
    strength: float
    offset: float
    threshold: float

    def arms(self, states: Values) -> list[ArmScores]:
        """Return the scores of the arms that the rule compares."""
        unsteered = self.world.unsteered.scores(states)
        return [
            ArmScores("unsteered", unsteered),
            ArmScores("prompt_only", self.world.prompt_only.scores(states)),
            ArmScores("prior", unsteered - self.threshold),
            ArmScores("gated", unsteered + self.push(self.gate, states)),
        ]

    def controls(self, states: Values, random: np.random.Generator) -> list[ControlDraws]:
        """Return the gated arm's own controls: pushed along random directions, and by gates of shuffled answers."""
        unsteered = self.world.unsteered.scores(states)
        cosines = np.array([self._cosine(random.normal(size=WIDTH)) for _ in range(DRAWS)])
        along = unsteered + cosines[:, None] * self.push(self.gate, states)
        shuffled = np.stack([unsteered + self.push(gate, states) for gate in self.shuffled])
        return [
            ControlDraws("gated_random", "gated", along),
            ControlDraws("gated_shuffled", "gated", shuffled),
        ]

    def push(self, gate: Gate, states: Values) -> Values:
        """Return by how many logits `gate` moves each state's output."""
        return self.strength * np.tanh(_values(gate, states)) - self.offset

    def _cosine(self, direction: Values) -> float:
        weights = self.world.unsteered.weights
        return float(direction @ weights / np.linalg.norm(direction) / np.linalg.norm(weights))


def fit_arms(world: World, train: Sample, random: np.random.Generator) -> FittedArms:
    """Fit and choose everything on the train statements alone."""
    unsteered = world.unsteered.scores(train.states)
    offset = float(np.median(unsteered))
    labels = [train.gold, *(random.permutation(train.gold) for _ in range(DRAWS))]
    gates = fit_gates(torch.as_tensor(train.states), np.stack(labels))
    return FittedArms(
        world=world,
        gate=gates[0],
        shuffled=gates[1:],
        strength=_strength(train, unsteered - offset, random),
        offset=offset,
        threshold=best_threshold(unsteered, train.gold),
    )


def _strength(train: Sample, centred: Values, random: np.random.Generator) -> float:
    """Return the smallest strength whose cross-fitted accuracy comes within one standard error of the best."""
    fold = random.permutation(len(train.gold)) % FOLDS
    values = np.zeros(len(train.gold))
    for one in range(FOLDS):
        values[fold == one] = _values(_fit(train, fold != one), train.states[fold == one])
    right = [float(((centred + k * np.tanh(values) >= 0) == train.gold).mean()) for k in STRENGTHS]
    best = max(right)
    error = np.sqrt(best * (1 - best) / len(train.gold))
    return next(k for k, accuracy in zip(STRENGTHS, right, strict=True) if accuracy >= best - error)


def _fit(train: Sample, rows: NDArray[np.bool_]) -> Gate:
    return fit_gates(torch.as_tensor(train.states[rows]), train.gold[None, rows])[0]


def _values(gate: Gate, states: Values) -> Values:
    return np.asarray(states @ gate.weight.double().numpy() + gate.bias)
