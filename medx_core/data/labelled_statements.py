"""Statements whose truth is known: what vectors are fitted on and steering is measured by."""

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
