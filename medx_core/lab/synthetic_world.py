"""A made-up world of statements, where it is known what a state holds: wording, medicine, and noise.

Each statement is twelve style words, drawn from forty with chances that lean towards TRUE or FALSE statements, and one
content variable c, normal around +d for TRUE and -d for FALSE. The language model's state is a 128-wide mixture

    state = style counts @ A + c * u + noise

with A random and u a unit direction. The model's output reads r . state + bias: r sees part of the style and, being at
right angles to u, nothing of the content. So steering can find the style (wording) and, where d is above 0, the content
(medicine). Readers of wording get the style words as text. The sizes are near what was measured on a real data set:
an AUROC near .84 for readers of wording and .67 for the unsteered output, a quarter of its answers TRUE, 60 % of the
statements TRUE.

A planted effect of e points: d is such that gated steering, with a gate fitted on 861 ordinary statements, gains e
points of balanced accuracy over the unsteered output on wording-free statements, on average over worlds. Wording-free
statements are an unlimited number of ordinary ones of which, wherever the true log-likelihood ratio of their style words
lies, as many TRUE as FALSE ones are kept: what matching keeps when nothing is left to chance. `DISTANCES` holds d.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from medx_core.accuracy import Flags, Values
from medx_core.data.labelled_statements import LabelledStatement

WIDTH = 128
STYLE_TEXT = (
    "always never only all may often usually can not no must which when while should some many most the of in with by "
    "from entire mainly solely rarely typically directly located formed involved related called found seen known made near"
)
STYLE_WORDS = STYLE_TEXT.split()
LENGTH = 12
LEANING = 0.22
NOISE = 0.2
TRUE_SHARE = 0.6
OUTPUT_LOGITS = 2.0
DISTANCES = {0: 0.0, 3: 0.336, 6: 0.484, 12: 0.71}

CALIBRATION = 2_000


@dataclass(frozen=True)
class Readout:
    """An output of the model: weights . state + bias is logit(TRUE) - logit(FALSE)."""

    weights: Values  # (128,)
    bias: float

    def scores(self, states: Values) -> Values:
        """Return one score per state."""
        return np.asarray(states @ self.weights + self.bias)


@dataclass(frozen=True)
class Sample:
    """Statements of a world: numbers of their style words (n, 12), gold answers (n,) and states (n, 128)."""

    style: NDArray[np.intp]
    gold: Flags
    states: Values


class World:
    """What stays the same over statements; `distance` is d above, `seed` draws all the rest.

    `leaning` (style words,) says towards which answer a word leans, `embedding` (style words, 128) is A above,
    `content` (128,) is u.
    """

    def __init__(self, distance: float, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.distance, self.seed = distance, seed
        leaning, content = random.normal(size=len(STYLE_WORDS)), random.normal(size=WIDTH)
        self.leaning: Values = LEANING * (leaning - leaning.mean()) / leaning.std()
        self.embedding: Values = random.normal(0, 1 / np.sqrt(WIDTH), (len(STYLE_WORDS), WIDTH)) * np.sqrt(8)
        self.content: Values = content / np.linalg.norm(content)
        states = self.sample(CALIBRATION, random).states
        self.unsteered = self._readout(states, random, style_share=0.45, true_rate=0.25)
        self.prompt_only = self._readout(states, random, style_share=0.5, true_rate=0.45)

    def sample(self, n: int, random: np.random.Generator) -> Sample:
        """Draw `n` ordinary statements."""
        style, gold = self.wording(n, random)
        return Sample(style, gold, self.states(style, gold, random))

    def states(self, style: NDArray[np.intp], gold: Flags, random: np.random.Generator) -> Values:
        """Draw a state (n, 128) for each statement of these style words (n, 12) and answers (n,)."""
        counts = np.zeros((len(gold), len(STYLE_WORDS)))
        np.add.at(counts, (np.arange(len(gold))[:, None], style), 1)
        content = random.normal(np.where(gold, self.distance, -self.distance))
        noise = random.normal(0, NOISE, (len(gold), WIDTH))
        return np.asarray(counts @ self.embedding + content[:, None] * self.content + noise)

    def wording(self, n: int, random: np.random.Generator) -> tuple[NDArray[np.intp], Flags]:
        """Draw the style words (n, 12) and answers (n,) of `n` ordinary statements, without their states."""
        gold = random.random(n) < TRUE_SHARE
        return self.style_of(gold, random), gold

    def style_of(self, gold: Flags, random: np.random.Generator) -> NDArray[np.intp]:
        """Draw the style words (n, 12) of statements with these answers (n,)."""
        places = random.random((len(gold), LENGTH))
        towards = [np.searchsorted(np.cumsum(self._chances(sign)), places) for sign in (1, -1)]
        return np.minimum(np.where(gold[:, None], *towards), len(STYLE_WORDS) - 1)

    def _chances(self, sign: int) -> Values:
        weights = np.exp(sign * self.leaning)
        return np.asarray(weights / weights.sum())

    def _readout(
        self, states: Values, random: np.random.Generator, *, style_share: float, true_rate: float
    ) -> Readout:
        """Make an output that reads the style's lean with the share `style_share` of its spread, and else by chance."""
        lean = np.linalg.pinv(self.embedding) @ self.leaning
        off_content = [
            axis - (axis @ self.content) * self.content for axis in (lean, random.normal(size=WIDTH))
        ]
        lean, chance = (axis / (states @ axis).std() for axis in off_content)
        weights = style_share * lean + np.sqrt(1 - style_share**2) * chance
        weights *= OUTPUT_LOGITS / (states @ weights).std()
        return Readout(weights, -float(np.quantile(states @ weights, 1 - true_rate)))


def worded(style: NDArray[np.intp], gold: Flags, prefix: str) -> list[LabelledStatement]:
    """Return statements as text with their answers; `prefix` keeps their groups apart from those of other samples."""
    words = np.array(STYLE_WORDS, dtype=object)[style]
    return [
        LabelledStatement(" ".join(chosen), bool(answer), f"{prefix}{number}")
        for number, (chosen, answer) in enumerate(zip(words, gold, strict=True))
    ]


ASSOCIATION = 0.3
TWIN_DISTANCES = {0: 0.0, 6: 0.2185, 12: 0.34}
NAMES = 100
"""Words that swaps exchange, drawn by chance: each is in originals as often as in swapped versions."""


@dataclass(frozen=True)
class TwinWorld:
    """A world in which statements have twins, and its control made of FALSE statements.

    A swap exchanges one word of a statement. The two versions share their style words, so wording tells nothing about
    which is true. Two things do, each along a direction of its own: the content of the world (medicine), and
    association, which says that a word belongs in its context. An original has it whether or not it is true:

        swap of a       version   content  association
        TRUE statement  original    +d         +a        the twins
                        swapped     -d         -a
        FALSE statement original    -d         +a        the control
                        swapped     -d         -a

    Both are normal around these means with a standard deviation of 1, drawn for each version. `ASSOCIATION` is such
    that a gate fitted on twins ranks 65 % of them right where there is no content, near what was measured on a real
    model. `TWIN_DISTANCES` holds the d at which the gated arm's excess, twins ranked right minus originals preferred in
    the control, is so many points on average over worlds and an unlimited number of pairs.
    """

    world: World
    association: float = ASSOCIATION

    @cached_property
    def direction(self) -> Values:
        """The direction (128,) of association, of length 1, at right angles to the content."""
        content = self.world.content
        drawn = np.random.default_rng([self.world.seed, 1]).normal(size=WIDTH)
        drawn -= (drawn @ content) * content
        return np.asarray(drawn / np.linalg.norm(drawn))

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
    """Return the versions as text, the exchanged word last; `prefix` keeps their pairs apart from those of other samples."""
    first = random.integers(NAMES, size=len(swaps.gold) // 2)
    second = (first + random.integers(1, NAMES, size=len(first))) % NAMES  # a different word
    names = np.stack([first, second], axis=1).ravel()
    return [
        replace(
            statement,
            text=f"{statement.text} name{name:02d}",
            group=f"{prefix}{row // 2}",
            pair=f"{prefix}{row // 2}",
            source_answer=source,
            original=row % 2 == 0,
        )
        for row, (name, statement) in enumerate(
            zip(names, worded(swaps.style, swaps.gold, prefix), strict=True)
        )
    ]
