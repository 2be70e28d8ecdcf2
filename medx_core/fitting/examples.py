"""Which statements a vector is fitted on, whether its gate is fitted on twins, and the hash that names the statements."""

import hashlib
from collections.abc import Sequence

import numpy as np

from medx_core.data.labelled_statements import LabelledStatement, twins_of
from medx_core.errors import BadInput
from medx_core.fitting.spec import PAPER_EXAMPLES, FitSpec
from medx_core.steering.names import ON_STATEMENTS, ON_TWINS

FEWEST_TWINS = 40
FEWEST_STATEMENTS = 20


def drawn_examples(
    statements: Sequence[LabelledStatement], most: int | None, *, seed: int
) -> list[LabelledStatement]:
    """Draw up to `most` statements, whole groups only, as many TRUE as FALSE ones where the data allow it.

    All statements are taken where there are no more than `most`, or `most` is None. They keep the order of the file.
    """
    if most is None or len(statements) <= most:
        return list(statements)
    groups: dict[str, list[int]] = {}
    for index, statement in enumerate(statements):
        groups.setdefault(statement.group, []).append(index)
    # A draw, since files are often sorted (by topic, by answer), so that their first rows are not representative.
    # Whole groups, since half of a pair of twins is not a contrast. Balanced, since each reading contrasts a mean over
    # TRUE statements with one over FALSE statements: of a given number, equal halves give the least variance.
    order = np.random.default_rng(seed).permutation(sorted(groups))
    taken: set[str] = set()
    true = false = 0
    for most_of_a_kind in (most // 2, most):  # halves first, then whatever is left to fill up with
        for name in order:
            more_true = sum(statements[row].answer for row in groups[name])
            more_false = len(groups[name]) - more_true
            fits = true + false + len(groups[name]) <= most
            if name not in taken and fits and max(true + more_true, false + more_false) <= most_of_a_kind:
                taken.add(str(name))
                true, false = true + more_true, false + more_false
    return [statement for statement in statements if statement.group in taken]


def examples_of(statements: Sequence[LabelledStatement], spec: FitSpec) -> list[LabelledStatement]:
    """Draw what a specification is fitted on: the paper's 200 where it names no number, and for a gate all there are."""
    default = None if spec.is_gated else PAPER_EXAMPLES
    return drawn_examples(statements, spec.examples or default, seed=spec.seed)


def gate_statements(
    statements: Sequence[LabelledStatement], fit_on: str
) -> tuple[Sequence[LabelledStatement], str]:
    """Return what a gate is fitted on: the statements of complete twins where there are enough, else all of them.

    `fit_on` is auto, twins or statements; the second value says which of the two it came to.

    Raises:
        BadInput: there are too few statements, or too few twins where twins are asked for.
    """
    pairs = twins_of(statements)
    if fit_on == ON_TWINS and len(pairs) < FEWEST_TWINS:
        raise BadInput(
            f"Fitting on twins needs at least {FEWEST_TWINS} complete pairs to fit on; there are {len(pairs)}. "
            "Use --fit-on statements, or make twins with `medx data twins`."
        )
    if len(statements) < FEWEST_STATEMENTS:
        raise BadInput(
            f"A gate needs at least {FEWEST_STATEMENTS} statements to be fitted on; there are {len(statements)}."
        )
    if fit_on == ON_STATEMENTS or len(pairs) < FEWEST_TWINS:
        return statements, ON_STATEMENTS
    # Statements without a twin are left out altogether: half of what stays is TRUE, so that neither the gate's zero (the
    # median over these states) nor the offset (the median unsteered score) holds the share of TRUE statements.
    return [statements[i] for i in sorted(index for pair in pairs for index in pair)], ON_TWINS


def refuse_what_cannot_be_fitted_on(statements: Sequence[LabelledStatement], spec: FitSpec) -> None:
    """Refuse, before a model is loaded, statements that the specification's gate cannot be fitted on.

    Raises:
        BadInput: there are too few statements, or too few twins where twins are asked for.
    """
    if spec.is_gated:
        gate_statements(examples_of(statements, spec), spec.fit_on)


def kept_together(statements: Sequence[LabelledStatement]) -> list[str]:
    """Return, per statement, the group within or as which labels are shuffled: the pair of twins, else near copies."""
    return [statement.pair or statement.group for statement in statements]


def sha256_of_statements(statements: Sequence[LabelledStatement]) -> str:
    """Return a hash of texts and answers in order: the data a vector was made from."""
    digest = hashlib.sha256()
    for statement in statements:
        digest.update(f"{int(statement.answer)}\t{statement.text}\n".encode())
    return digest.hexdigest()
