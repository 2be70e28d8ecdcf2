"""Dividing a file's statements into what is fitted on, what is tested once, and what only teaches wording."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medx_core.data.labelled_statements import LabelledStatement
from medx_core.data.splits import draw_sample, split, split_by_share
from medx_core.errors import BadInput
from medx_core.evaluation.arms import Flags

TRAIN, TEST = "train", "test"
TRAIN_SHARE = 0.8
FEWEST = 20

Part = tuple[LabelledStatement, ...]


@dataclass(frozen=True)
class EvaluationParts:
    """The parts of one evaluation.

    `association` holds swaps of FALSE statements (both versions false): the control of the twins, never fitted on and
    without those that nearly repeat a statement of the training part.
    `outside` holds labelled rows that are neither fitted on nor tested, on which wording readers are fitted.
    """

    train: Part
    test: Part
    association: Part
    outside: Part

    @property
    def not_tested(self) -> Part:
        """All labelled rows outside the test set."""
        return self.train + self.outside

    @property
    def fitted_on(self) -> Flags:
        """Whether the twin or a near copy of each test statement was fitted on: only where the file's split has it so."""
        groups = {statement.group for statement in self.train}
        return np.array([statement.group in groups for statement in self.test], dtype=bool)


@dataclass(frozen=True)
class PartSizes:
    """How many statements to draw (None: all), and the sizes of train and test (None: 80 to 20)."""

    sample: int | None = None
    split: tuple[int, int] | None = None


def parts_of(statements: Sequence[LabelledStatement], sizes: PartSizes, seed: int) -> EvaluationParts:
    """Divide `statements`; a split that the file names is used as it is, see `EvaluationParts.fitted_on`.

    Raises:
        BadInput: the sizes do not fit the file, the file's own split has other sizes, or a part is too small.
    """
    labelled = [statement for statement in statements if statement.source_answer is not False]
    named = any(statement.split for statement in labelled)
    train, test = _named(labelled, sizes) if named else _drawn(labelled, sizes, seed)
    for name, part in ((TRAIN, train), (TEST, test)):
        if len(part) < FEWEST:
            raise BadInput(
                f"The {name} part has {len(part)} statements; an evaluation needs at least {FEWEST}. Give more data or another --split."
            )
    fitted, tested = ({statement.group for statement in part} for part in (train, test))
    used = {id(statement) for statement in (*train, *test)}
    return EvaluationParts(
        train,
        test,
        tuple(each for each in statements if each.source_answer is False and each.group not in fitted),
        tuple(each for each in labelled if id(each) not in used and each.group not in tested),
    )


def _named(labelled: Sequence[LabelledStatement], sizes: PartSizes) -> tuple[Part, Part]:
    if sizes.sample is not None:
        raise BadInput("This file has a split column, so nothing is drawn from it; leave out --sample.")
    train, test = (
        tuple(statement for statement in labelled if statement.split.casefold() == side)
        for side in (TRAIN, TEST)
    )
    if sizes.split and sizes.split != (len(train), len(test)):
        raise BadInput(
            f"The file's split column says {len(train)} train and {len(test)} test statements, --split says "
            f"{sizes.split[0]}/{sizes.split[1]}; leave out --split, or the column."
        )
    return train, test


def _drawn(labelled: Sequence[LabelledStatement], sizes: PartSizes, seed: int) -> tuple[Part, Part]:
    count = sum(sizes.split) if sizes.split and sizes.sample is None else sizes.sample
    if count is not None and count > len(labelled):
        raise BadInput(f"{count} statements were asked for; the file has {len(labelled)} usable ones.")
    sample = tuple(labelled) if count is None else draw_sample(labelled, count, seed)
    if sizes.split is None:
        return split_by_share(sample, TRAIN_SHARE, seed)
    n_train, n_test = sizes.split
    if n_train + n_test > len(sample):
        raise BadInput(
            f"--split {n_train}/{n_test} needs {n_train + n_test} statements; {len(sample)} were drawn."
        )
    return split(sample, n_train, n_test, seed)
