"""Trials of the self-test: a world is made, the real fitter is let loose in it, and the rule of the evaluation judges.

Nothing is fitted or judged here in a way of its own: the gate, its layer, strength, offset and its controls come from
`medx_core.fitting`, which meets the world as a model of one layer (`WorldModel`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from medx_core.accuracy import Values
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.evaluation.arms import ArmScores, ControlDraws, TestItems
from medx_core.evaluation.decision_rule import comparison_of, judged
from medx_core.evaluation.fit import best_threshold
from medx_core.evaluation.request import DRAWS
from medx_core.evaluation.result import Judgement
from medx_core.evaluation.wording_free import read_wording
from medx_core.fitting.gated import GatedFit, fit_gated
from medx_core.fitting.spec import FitSpec
from medx_core.lab.synthetic_world import (
    DISTANCES,
    TWIN_DISTANCES,
    Readout,
    Sample,
    TwinWorld,
    World,
    worded,
    worded_swaps,
)
from medx_core.steering.hooks import SteeringPlan
from medx_core.steering.names import GATED
from medx_core.traces.running import OnProgress, silent
from medx_core.traces.statement_runner import RecordedStates, RunScores

TRAIN = 861
OUTSIDE = 4_000
"""Labelled statements that are neither train nor test; with the train part, readers of wording are fitted on them."""
TRAIN_TWINS = 850
TEST_TWINS = 750
CONTROL_PAIRS = 800


@dataclass(frozen=True)
class Statements:
    """A sample of a world as labelled statements, with the states (statements, 128) that its model has of them."""

    labelled: Sequence[LabelledStatement]
    states: Values


class WorldModel:
    """A world as the fitter meets it: a model of one layer whose output is linear in the state after that layer."""

    layer_count = 1

    def __init__(self, output: Readout, *parts: Statements) -> None:
        self._output = output
        self._states = np.concatenate([part.states for part in parts])
        texts = [statement.text for part in parts for statement in part.labelled]
        self._row = {text: row for row, text in enumerate(texts)}

    def recorded(
        self, texts: Sequence[str], layers: Sequence[int], on_progress: OnProgress = silent
    ) -> RecordedStates:
        """Return the texts' states, the same after each of `layers`, and their unsteered scores."""
        states = self._of(texts)
        on_progress(len(texts), len(texts))
        kept = torch.tensor(states, dtype=torch.float32)
        words = np.ones(len(texts), dtype=bool)
        return RecordedStates(self._output.scores(states), words, dict.fromkeys(layers, kept))

    def steered(
        self, texts: Sequence[str], conditions: Sequence[SteeringPlan], *, name: str = ""
    ) -> list[RunScores]:
        """Return the scores of the texts under each condition; nothing is kept under `name`."""
        del name
        states = self._of(texts)
        unsteered, seen = self._output.scores(states), torch.tensor(states, dtype=torch.float32)[:, None]
        runs = []
        for condition in conditions:
            [step] = condition.steps
            shift = step.shift(seen)[:, 0].double().numpy()
            runs.append(RunScores(unsteered + shift @ self._output.weights, np.ones(len(texts), dtype=bool)))
        return runs

    def answer_gradients(self, texts: Sequence[str], layers: Sequence[int]) -> dict[int, Tensor]:
        """Return the output's weights, which are its gradient in any state."""
        del texts
        return dict.fromkeys(layers, torch.tensor(self._output.weights, dtype=torch.float32))

    def _of(self, texts: Sequence[str]) -> Values:
        return self._states[[self._row[text] for text in texts]]


@dataclass(frozen=True)
class WorldArms:
    """The arms that the rule compares, fitted in a world; `model` knows the states of every statement asked for."""

    model: WorldModel
    prompt_only: WorldModel
    gated: GatedFit
    threshold: float

    def arms(self, statements: Sequence[LabelledStatement]) -> list[ArmScores]:
        """Return the scores of the arms on `statements`."""
        texts = [statement.text for statement in statements]
        unsteered = self.model.recorded(texts, [0]).scores
        [gated] = self.model.steered(texts, [self.gated.chosen.condition])
        return [
            ArmScores("unsteered", unsteered),
            ArmScores("prompt_only", self.prompt_only.recorded(texts, [0]).scores),
            ArmScores("prior", unsteered - self.threshold),
            ArmScores("gated", gated.scores),
        ]

    def controls(
        self, statements: Sequence[LabelledStatement], random: np.random.Generator
    ) -> list[ControlDraws]:
        """Return the draws of the gated arm's own controls on `statements`."""
        texts, chosen = [statement.text for statement in statements], self.gated.chosen
        seeds = [int(seed) for seed in random.integers(2**31, size=DRAWS)]
        drawn = {
            "gated_random": [chosen.random(seed).condition for seed in seeds],
            "gated_shuffled": [chosen.shuffled(seed).condition for seed in seeds],
        }
        runs = {name: self.model.steered(texts, conditions) for name, conditions in drawn.items()}
        return [ControlDraws(name, "gated", np.stack([run.scores for run in runs[name]])) for name in drawn]


def fit_in(world: World, train: Statements, *others: Statements) -> WorldArms:
    """Fit the arms on `train`; `others` are statements that will be asked for later."""
    model, prompt_only = (
        WorldModel(output, train, *others) for output in (world.unsteered, world.prompt_only)
    )
    gated = fit_gated(model, train.labelled, FitSpec(strategy=GATED))
    gold = np.array([statement.answer for statement in train.labelled], dtype=bool)
    return WorldArms(model, prompt_only, gated, best_threshold(world.unsteered.scores(train.states), gold))


def statements_of(sample: Sample, prefix: str) -> Statements:
    """Return an ordinary sample as statements; `prefix` keeps their groups apart from those of other samples."""
    return Statements(worded(sample.style, sample.gold, prefix), sample.states)


def statement_judgement(
    effect: int, n_test: int, random: np.random.Generator, *, permuted: bool = False
) -> Judgement:
    """Make a world with a planted effect of so many points, fit on statements in it, and judge the gated arm.

    With `permuted`, answers are dealt out anew among all statements, so that nothing can help.
    """
    world = World(DISTANCES[effect], int(random.integers(2**31)))
    train, test = world.sample(TRAIN, random), world.sample(n_test, random)
    style, gold = world.wording(OUTSIDE, random)
    if permuted:
        train, test = (replace(sample, gold=random.permutation(sample.gold)) for sample in (train, test))
        gold = random.permutation(gold)
    fitted_on, tested = statements_of(train, "train "), statements_of(test, "test ")
    fitted = fit_in(world, fitted_on, tested)
    wording = [*fitted_on.labelled, *worded(style, gold, "outside ")]
    return _judged(fitted, tested.labelled, tested.labelled, wording, random)


def twin_judgement(effect: int, test_twins: int, random: np.random.Generator) -> Judgement:
    """Make a world with a planted effect of 0, 6 or 12 points, fit on twins in it, and judge the gated arm."""
    world = TwinWorld(World(TWIN_DISTANCES[effect], int(random.integers(2**31))))
    train = swapped_statements(world, TRAIN_TWINS, "train ", random, source=True)
    tested = swapped_statements(world, test_twins, "test ", random, source=True)
    control = swapped_statements(world, CONTROL_PAIRS, "control ", random, source=False)
    fitted = fit_in(world.world, train, tested, control)
    asked = [*tested.labelled, *control.labelled]
    return _judged(fitted, asked, tested.labelled, train.labelled, random)


def swapped_statements(
    world: TwinWorld, pairs: int, prefix: str, random: np.random.Generator, *, source: bool
) -> Statements:
    """Return swaps of `pairs` statements that are all TRUE or all FALSE, see `TwinWorld.swaps`."""
    swaps = world.swaps(pairs, random, source=source)
    return Statements(worded_swaps(swaps, prefix, random, source=source), swaps.states)


def _judged(
    fitted: WorldArms,
    asked: Sequence[LabelledStatement],
    tested: Sequence[LabelledStatement],
    wording: Sequence[LabelledStatement],
    random: np.random.Generator,
) -> Judgement:
    controls, seed = fitted.controls(tested, random), int(random.integers(2**31))
    comparison = comparison_of(
        TestItems(asked),
        fitted.arms(asked),
        controls,
        wording=partial(read_wording, wording=wording, seed=seed),
        seed=seed,
    )
    return judged(comparison, "gated", thorough=False)
