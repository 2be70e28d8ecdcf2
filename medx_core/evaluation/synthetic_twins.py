"""Twins in the synthetic world, with what they cannot do without: the control made of FALSE statements.

A swap exchanges one word of a statement. The two versions share their style words, so wording tells nothing about
which is true. Two things do, each along a direction of its own: the content of the world (medicine), and association,
which says that a word belongs in its context. An original has it on its side whether or not it is true:

    swap of a      version     content   association
    TRUE statement  original    +d        +a              the twins
                    swapped     -d        -a
    FALSE statement original    -d        +a              the control
                    swapped     -d        -a

Both are normal around these means with a standard deviation of 1, drawn for each version. `ASSOCIATION` is such that a
gate fitted on twins ranks 65 % of them right where there is no content at all, near what was measured on a real model.

A planted effect of e points: d is such that the gated arm's excess, twins ranked right minus originals preferred in the
control, is e points on average over worlds and an unlimited number of pairs. `TWIN_DISTANCES` holds d. Where d is 0 it
is 0, although the gate was fitted on the style of TRUE statements and the control has that of FALSE ones.
"""

from dataclasses import dataclass, field

import numpy as np

from medx_core.data.labelled_statements import LabelledStatement
from medx_core.evaluation.arms import TestItems, Values
from medx_core.evaluation.figures import contest_of
from medx_core.evaluation.helps import Judgement, judged
from medx_core.evaluation.synthetic_arms import fit_twin_arms
from medx_core.evaluation.synthetic_world import WIDTH, Sample, World, worded

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
    contest = contest_of(
        TestItems(statements),
        fitted.arms(np.concatenate([tested.states, control.states])),
        fitted.controls(tested.states, random),
        wording=worded_swaps(train, "train ", random, source=True),
        seed=int(random.integers(2**31)),
    )
    return judged(contest, "gated", thorough=False)
