"""How well answers and scores tell TRUE from FALSE statements: what layers and strengths are chosen by."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medx_core.data.labelled_statements import LabelledStatement, twins_of

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]


def balanced_accuracy(answers: Flags, gold: Flags) -> float:
    """Return the mean of the shares of TRUE and of FALSE statements answered right; both kinds must be there."""
    return float((answers[gold].mean() + (~answers[~gold]).mean()) / 2)


def twins_ranked_right(statements: Sequence[LabelledStatement], scores: Values) -> float:
    """Return the share of twins whose true statement scores higher, ties counted half."""
    true, false = np.array(twins_of(statements)).T
    return float(np.where(scores[true] == scores[false], 0.5, scores[true] > scores[false]).mean())
