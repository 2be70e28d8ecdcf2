"""The arms of an evaluation in the synthetic world, and the verdict on them.

They follow the recipes of the real ones, where a state is all there is: the final logit is linear in the state, so
pushing a state along the output's own gradient by x logits adds exactly x.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from medx_core.evaluation.arms import ArmScores, ControlDraws, TestItems, Values
from medx_core.evaluation.bootstrap import preferred, resamples
from medx_core.evaluation.helps import Contest, Judgement, judged
from medx_core.evaluation.reference_arms import best_threshold
from medx_core.evaluation.synthetic_world import DISTANCES, WIDTH, Sample, World, worded
from medx_core.evaluation.wording_free import wording_free_part
from medx_core.steering.strategies.gate import Gate, fit_gate, fit_gates
from medx_core.steering.strategies.shuffled import shuffled

TRAIN = 861
OUTSIDE = 4_000
"""Labelled statements that are neither train nor test; with the train part, readers of wording are fitted on them."""
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


def statement_judgement(
    effect: int, n_test: int, random: np.random.Generator, *, permuted: bool = False
) -> Judgement:
    """Make a world with a planted effect of so many points, fit on statements in it, and judge the gated arm by the rule.

    With `permuted`, answers are dealt out anew among all statements, so that nothing can help.
    """
    world = World(DISTANCES[effect], int(random.integers(2**31)))
    train, test = world.sample(TRAIN, random), world.sample(n_test, random)
    style, gold = world.wording(OUTSIDE, random)
    if permuted:
        train, test, gold = _permuted(train, random), _permuted(test, random), random.permutation(gold)
    fitted = fit_arms(world, train, random)
    items = TestItems(worded(test.style, test.gold, "test "))
    wording = worded(train.style, train.gold, "train ") + worded(style, gold, "outside ")
    seed = int(random.integers(2**31))
    contest = Contest(
        items,
        {one.name: one for one in fitted.arms(test.states)},
        fitted.controls(test.states, random),
        resamples(items.gold, items.groups, seed=seed),
        cache(lambda: wording_free_part(items, wording, seed=seed)),
    )
    return judged(contest, "gated", thorough=False)


def fit_arms(world: World, train: Sample, random: np.random.Generator) -> FittedArms:
    """Fit and choose everything on the train statements alone."""
    unsteered = world.unsteered.scores(train.states)
    offset = float(np.median(unsteered))
    labels = [train.gold, *(random.permutation(train.gold) for _ in range(DRAWS))]
    gates = fit_gates(torch.as_tensor(train.states), np.stack(labels))
    fold = random.permutation(len(train.gold)) % FOLDS
    unseen = _values_outside(train, fold, _fit)

    def accuracy(strength: float) -> float:
        said = unsteered - offset + strength * np.tanh(unseen) >= 0
        return float((said == train.gold).mean())

    return FittedArms(
        world=world,
        gate=gates[0],
        shuffled=gates[1:],
        strength=_smallest_good(accuracy, len(train.gold)),
        offset=offset,
        threshold=best_threshold(unsteered, train.gold),
    )


def fit_twin_arms(world: World, train: Sample, random: np.random.Generator) -> FittedArms:
    """Fit and choose everything on twins alone, whose two rows follow each other, the true one first.

    As in a real evaluation the gates are fitted on differences within twins, answers are shuffled inside them, and the
    strength is chosen by how many are ranked right.
    """
    unsteered = world.unsteered.scores(train.states)
    twins = _twin_numbers(train)
    golds = [shuffled(train.gold, twins, int(random.integers(2**31))) for _ in range(DRAWS)]
    fold = (random.permutation(len(twins) // 2) % FOLDS)[twins]
    unseen = _values_outside(train, fold, _fit_on_twins)

    def ranked(strength: float) -> float:
        return float(preferred((unsteered + strength * np.tanh(unseen)).reshape(-1, 2)).mean())

    return FittedArms(
        world=world,
        gate=_fit_on_twins(train),
        shuffled=tuple(_fit_on_twins(replace(train, gold=gold)) for gold in golds),
        strength=_smallest_good(ranked, len(twins) // 2),
        offset=float(np.median(unsteered)),
        threshold=best_threshold(unsteered, train.gold),
    )


def _permuted(sample: Sample, random: np.random.Generator) -> Sample:
    return replace(sample, gold=random.permutation(sample.gold))


def _values_outside(train: Sample, fold: NDArray[np.intp], fit: Callable[[Sample], Gate]) -> Values:
    """Return what gates make of states that they were not fitted on."""
    values = np.zeros(len(train.gold))
    for one in range(FOLDS):
        values[fold == one] = _values(fit(train.among(fold != one)), train.states[fold == one])
    return values


def _smallest_good(quality: Callable[[float], float], count: int) -> float:
    """Return the smallest strength whose quality, a share of `count`, is within one standard error of the best."""
    found = [quality(k) for k in STRENGTHS]
    best = max(found)
    error = np.sqrt(best * (1 - best) / count)
    return next(k for k, share in zip(STRENGTHS, found, strict=True) if share >= best - error)


def _fit(train: Sample) -> Gate:
    return fit_gates(torch.as_tensor(train.states), train.gold[None])[0]


def _fit_on_twins(train: Sample) -> Gate:
    return fit_gate(torch.as_tensor(train.states), train.gold, groups=_twin_numbers(train), differences=True)


def _twin_numbers(train: Sample) -> NDArray[np.intp]:
    return np.arange(len(train.gold)) // 2


def _values(gate: Gate, states: Values) -> Values:
    return np.asarray(states @ gate.weight.double().numpy() + gate.bias)
