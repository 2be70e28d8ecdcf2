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


@dataclass(frozen=True)
class EvaluationParts:
    """The parts of one evaluation.

    `association` holds swaps of FALSE statements (both versions false): the control of the twins, never fitted on and
    without those that nearly repeat a statement of the training part.
    `outside` holds labelled rows that are neither fitted on nor tested, on which wording readers are fitted.
    """

    train: tuple[LabelledStatement, ...]
    test: tuple[LabelledStatement, ...]
    association: tuple[LabelledStatement, ...]
    outside: tuple[LabelledStatement, ...]

    @property
    def not_tested(self) -> tuple[LabelledStatement, ...]:
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


def parts_of(statements: Sequence[LabelledStatement], sizes: PartSizes, *, seed: int) -> EvaluationParts:
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
    fitted = {statement.group for statement in train}
    association = tuple(
        statement
        for statement in statements
        if statement.source_answer is False and statement.group not in fitted
    )
    used, tested = {id(statement) for statement in (*train, *test)}, {statement.group for statement in test}
    outside = tuple(
        statement for statement in labelled if id(statement) not in used and statement.group not in tested
    )
    return EvaluationParts(train=train, test=test, association=association, outside=outside)


def _named(
    labelled: Sequence[LabelledStatement], sizes: PartSizes
) -> tuple[tuple[LabelledStatement, ...], tuple[LabelledStatement, ...]]:
    if sizes.sample is not None:
        raise BadInput("This file has a split column, so nothing is drawn from it; leave out --sample.")
    train = tuple(statement for statement in labelled if statement.split.casefold() == TRAIN)
    test = tuple(statement for statement in labelled if statement.split.casefold() == TEST)
    if sizes.split and sizes.split != (len(train), len(test)):
        raise BadInput(
            f"The file's split column says {len(train)} train and {len(test)} test statements, --split says "
            f"{sizes.split[0]}/{sizes.split[1]}; leave out --split, or the column."
        )
    return train, test


def _drawn(
    labelled: Sequence[LabelledStatement], sizes: PartSizes, seed: int
) -> tuple[tuple[LabelledStatement, ...], tuple[LabelledStatement, ...]]:
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
