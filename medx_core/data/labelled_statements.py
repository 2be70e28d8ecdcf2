"""Statements whose truth is known: what vectors are fitted on and steering is measured by."""

from collections.abc import Sequence
from dataclasses import dataclass

from medx_core.categories import Category


@dataclass(frozen=True, slots=True)
class LabelledStatement:
    """One statement with its gold answer.

    `group` is never divided by a fold, a split or a resample: a quad, a pair of twins, or near copies of one text.
    `pair` names complete twins. `source_answer` and `original` are known for statements made by `medx data twins`:
    the answer of the statement the pair was made from (FALSE: the association control, where both versions are
    false), and whether this is that statement itself; `kind` then is the kind of word that was exchanged.
    """

    text: str
    answer: bool
    group: str
    category: Category | None = None
    pair: str = ""
    difficulty: str = ""
    harm: str = ""
    split: str = ""
    source_answer: bool | None = None
    original: bool | None = None
    kind: str = ""
    row: int = 0


def twins_of(statements: Sequence[LabelledStatement]) -> list[tuple[int, int]]:
    """Return (index of the true one, index of the false one) of every complete pair of twins, in order."""
    members: dict[str, list[int]] = {}
    for index, statement in enumerate(statements):
        if statement.pair and statement.source_answer is not False:
            members.setdefault(statement.pair, []).append(index)
    pairs = []
    for indices in members.values():
        true = [i for i in indices if statements[i].answer]
        false = [i for i in indices if not statements[i].answer]
        if len(true) == len(false) == 1:
            pairs.append((true[0], false[0]))
    return pairs
