"""Arms without steering that a steered one is held against: a moved threshold, and readers of state or wording alone.

`prior` is a control: what mere bias correction gives. `probe` and `lexical` are reference lines: the first shows what
the state holds, the second what the wording gives away without any language model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, cross_val_score

from medx_core.data.labelled_statements import LabelledStatement
from medx_core.data.leakage import WORDING_READERS
from medx_core.evaluation.arms import ArmScores, Flags, Values
from medx_core.traces.statement_runner import RunScores

FOLDS = 5


def best_threshold(scores: Values, gold: Flags) -> float:
    """Return the threshold with the best balanced accuracy on these scores: a midpoint between two of them.

    Of several equally good ones, the one nearest to zero, which changes the least.
    """
    order = np.sort(np.unique(scores))
    cuts = np.concatenate([[order[0] - 1.0], (order[:-1] + order[1:]) / 2, [order[-1] + 1.0], [0.0]])
    said = scores[None, :] >= cuts[:, None]
    quality = (said[:, gold].mean(axis=1) + (~said[:, ~gold]).mean(axis=1)) / 2
    best = cuts[quality >= quality.max() - 1e-12]
    return float(best[np.argmin(np.abs(best))])


def prior_arm(unsteered: RunScores, threshold: float) -> ArmScores:
    """Return the unsteered scores with the threshold that was found on the training part moved to zero."""
    return ArmScores("prior", unsteered.scores - threshold, unsteered.answer_words)


@dataclass(frozen=True)
class LexicalReader:
    """The reader of wording that did best in cross-validation on the training part, and its scores on the test statements."""

    reader: str
    scores: Values


def lexical_reader(train: Sequence[LabelledStatement], asked: Sequence[LabelledStatement]) -> LexicalReader:
    """Fit the readers of wording on `train`, groups kept together; score `asked` with the best of them."""
    texts = np.array([one.text for one in train], dtype=object)
    gold = np.array([one.answer for one in train], dtype=bool)
    groups = np.array([one.group for one in train])
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    found = {
        name: float(np.mean(cross_val_score(build(), texts, gold, groups=groups, cv=folds)))
        for name, build in WORDING_READERS.items()
    }
    best = max(found, key=lambda name: found[name])
    reader = WORDING_READERS[best]().fit(texts, gold)
    return LexicalReader(best, reader.decision_function(np.array([one.text for one in asked], dtype=object)))
