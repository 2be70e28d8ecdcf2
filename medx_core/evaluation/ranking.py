"""Which twin got the higher score."""

from collections.abc import Sequence

import numpy as np

from medx_core.data.labelled_statements import LabelledStatement
from medx_core.evaluation.arms import Values


def twins_of(statements: Sequence[LabelledStatement]) -> list[tuple[int, int]]:
    """Return (index of the true one, index of the false one) of every complete pair of twins, in order."""
    members: dict[str, list[int]] = {}
    for index, one in enumerate(statements):
        if one.pair and one.source_answer is not False:
            members.setdefault(one.pair, []).append(index)
    found = []
    for pair in members.values():
        true = [i for i in pair if statements[i].answer]
        false = [i for i in pair if not statements[i].answer]
        if len(true) == len(false) == 1:
            found.append((true[0], false[0]))
    return found


def pairs_ranked_right(statements: Sequence[LabelledStatement], scores: Values) -> float:
    """Return the share of twins whose true one scores higher, ties counted half."""
    true, false = np.array(twins_of(statements)).T
    return float(np.where(scores[true] == scores[false], 0.5, scores[true] > scores[false]).mean())
