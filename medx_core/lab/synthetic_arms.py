"""The arms of an evaluation in the synthetic world, and the verdict on them.

They follow the recipes of the real ones, where a state is all there is: the final logit is linear in the state, so
pushing a state along the output's own gradient by x logits adds exactly x.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, partial

import numpy as np
import torch
from numpy.typing import NDArray

from medx_core.data.labelled_statements import LabelledStatement
from medx_core.evaluation.arms import ArmScores, ControlDraws, TestItems, Values
from medx_core.evaluation.bootstrap import preferred, resamples
from medx_core.evaluation.decision_rule import Comparison, judged
from medx_core.evaluation.reference_arms import best_threshold
from medx_core.evaluation.result import Judgement
from medx_core.evaluation.result_builder import comparison_of
from medx_core.evaluation.wording_free import read_wording, wording_free_part
from medx_core.lab.synthetic_world import DISTANCES, WIDTH, Sample, World, worded
from medx_core.steering.gate import Gate, fit_gate, fit_gates
from medx_core.steering.strategies import shuffled

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
    comparison = Comparison(
        items,
        {one.name: one for one in fitted.arms(test.states)},
        fitted.controls(test.states, random),
        resamples(items.gold, items.groups, seed=seed),
        cache(lambda: wording_free_part(items, read_wording(items, wording, seed=seed))),
    )
    return judged(comparison, "gated", thorough=False)


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


TRAIN_TWINS = 850
TEST_TWINS = 750
CONTROL_PAIRS = 800
ASSOCIATION = 0.3
TWIN_DISTANCES = {0: 0.0, 6: 0.2185, 12: 0.34}
NAMES = 100
"""Words that swaps exchange, drawn by chance: each is in originals as often as in swapped versions."""


@dataclass(frozen=True)
class TwinWorld:
    """A world in which swaps are made; `association` is a above."""

    world: World
    association: float = ASSOCIATION
    direction: Values = field(init=False)  # (128,), of length 1, at right angles to the content

    def __post_init__(self) -> None:
        content = self.world.content
        drawn = np.random.default_rng([self.world.seed, 1]).normal(size=WIDTH)
        drawn -= (drawn @ content) * content
        object.__setattr__(self, "direction", drawn / np.linalg.norm(drawn))

    def swaps(self, pairs: int, random: np.random.Generator, *, source: bool) -> Sample:
        """Make swaps of `pairs` statements that are all TRUE or, with `source` False, all FALSE: 2 * pairs rows.

        The two versions of a statement follow each other, the original first.
        """
        style = np.repeat(self.world.style_of(np.full(pairs, source), random), 2, axis=0)
        original = np.tile([True, False], pairs)
        gold = original & source
        association = random.normal(np.where(original, self.association, -self.association))
        states = self.world.states(style, gold, random) + association[:, None] * self.direction
        return Sample(style, gold, states)


def worded_swaps(
    swaps: Sample, prefix: str, random: np.random.Generator, *, source: bool
) -> list[LabelledStatement]:
    """Return the versions as text, their exchanged word last; `prefix` keeps their pairs apart from other samples'."""
    first = random.integers(NAMES, size=len(swaps.gold) // 2)
    second = (first + random.integers(1, NAMES, size=len(first))) % NAMES  # another one
    names = np.stack([first, second], axis=1).ravel()
    found = []
    for row, (name, one) in enumerate(zip(names, worded(swaps.style, swaps.gold, prefix), strict=True)):
        pair = f"{prefix}{row // 2}"
        text = f"{one.text} name{name:02d}"
        found.append(
            LabelledStatement(text, one.answer, pair, pair=pair, source_answer=source, original=row % 2 == 0)
        )
    return found


def twin_judgement(effect: int, test_twins: int, random: np.random.Generator) -> Judgement:
    """Make a world with a planted effect of 0, 6 or 12 points, fit on twins in it, and judge the gated arm by the rule."""
    world = TwinWorld(World(TWIN_DISTANCES[effect], int(random.integers(2**31))))
    train = world.swaps(TRAIN_TWINS, random, source=True)
    tested = world.swaps(test_twins, random, source=True)
    control = world.swaps(CONTROL_PAIRS, random, source=False)
    fitted = fit_twin_arms(world.world, train, random)
    statements = [
        *worded_swaps(tested, "test ", random, source=True),
        *worded_swaps(control, "control ", random, source=False),
    ]
    arms = fitted.arms(np.concatenate([tested.states, control.states]))
    controls = fitted.controls(tested.states, random)
    wording = worded_swaps(train, "train ", random, source=True)
    seed = int(random.integers(2**31))
    comparison = comparison_of(
        TestItems(statements),
        arms,
        controls,
        wording=partial(read_wording, wording=wording, seed=seed),
        seed=seed,
    )
    return judged(comparison, "gated", thorough=False)
