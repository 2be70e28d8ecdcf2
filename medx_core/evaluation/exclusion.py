"""Statements that a model cannot be asked: left out of its evaluation for all arms alike, counted and named.

A text may be longer than the model reads, hold what its tokenizer cannot read as text, or be changed by its chat template.
One such row says nothing of the others; many of them say that the model or the file is the wrong one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from medx_core.data.labelled_statements import LabelledStatement
from medx_core.errors import BadInput
from medx_core.evaluation.data_split import TEST, TRAIN, EvaluationParts, Part
from medx_core.evaluation.result import ExcludedStatement
from medx_core.models.loading import LoadedModel
from medx_core.models.prefix_cache import SharedPrefix
from medx_core.models.scoring import why_unaskable
from medx_core.prompts import VerdictPrompt

MOST_EXCLUDED = 0.1
ASSOCIATION = "association"


@dataclass(frozen=True)
class Excluded:
    """One statement that is left out, the part that it was drawn for, and why the model cannot be asked it."""

    statement: LabelledStatement
    part: str
    reason: str

    @property
    def figures(self) -> ExcludedStatement:
        """The same as a result holds it."""
        return ExcludedStatement(row=self.statement.row, part=self.part, reason=self.reason)


def without_unaskable(
    model: LoadedModel, prompts: Iterable[VerdictPrompt], parts: EvaluationParts
) -> tuple[EvaluationParts, tuple[Excluded, ...]]:
    """Leave out of all parts that the model reads what it cannot be asked with one of `prompts`; return also what that is.

    Prompts that it refuses altogether do not count.

    Raises:
        BadInput: that is more than a tenth of the statements.
    """
    asked = [
        SharedPrefix(model, prompt, shared=False) for prompt in prompts if not why_unaskable(model, prompt)
    ]
    excluded = tuple(
        Excluded(statement, name, reason)
        for name, part in ((TRAIN, parts.train), (TEST, parts.test), (ASSOCIATION, parts.association))
        for statement in part
        if (reason := _why_not(asked, statement.text))
    )
    total = sum(map(len, (parts.train, parts.test, parts.association)))
    if len(excluded) > MOST_EXCLUDED * total:
        first = excluded[0]
        raise BadInput(
            f"The model {model.name} cannot be asked {len(excluded):,} of the {total:,} statements, more than a tenth; the first "
            f"is row {first.statement.row}: {first.reason} Leave such rows out, or evaluate another model."
        )
    left_out = {id(each.statement) for each in excluded}

    def kept(part: Sequence[LabelledStatement]) -> Part:
        return tuple(statement for statement in part if id(statement) not in left_out)

    remaining = replace(
        parts, train=kept(parts.train), test=kept(parts.test), association=kept(parts.association)
    )
    return remaining, excluded


def _why_not(prompts: Iterable[SharedPrefix], text: str) -> str:
    for prefix in prompts:
        try:
            prefix.encoded(text)
        except BadInput as error:
            return str(error)
    return ""
