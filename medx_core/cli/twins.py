"""`medx data twins`: twins out of a user's own statements, with what is needed to judge them."""

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from medx_core.cli.leak_table import leak_table
from medx_core.cli.outputs import refuse_input_as_output
from medx_core.data.limits import FileLimits
from medx_core.errors import BadInput
from medx_core.settings import settings

if TYPE_CHECKING:
    from medx_core.data.twins import TwinRow

SAMPLE = 40
_KINDS_SHOWN = 12


def twins(
    data: Annotated[
        str, typer.Option("--data", help="Statements with answers: a file, or owner/name of the hub.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the CSV.")],
    seed: Annotated[int, typer.Option(help="Another seed couples the statements differently.")] = 0,
) -> None:
    """Make twins: statements exchange one medical word of a kind, each as often taken out as put in."""
    refuse_input_as_output(data, output)
    # scikit-learn takes seconds to load, which the other commands need not wait for
    from medx_core.data.labelled_files import load_labelled
    from medx_core.data.labelled_statements import LabelledStatement
    from medx_core.data.leakage import leakage
    from medx_core.data.twins import swap_twins, write_twins

    loaded = load_labelled(data, limits=FileLimits.of(settings()))
    for notice in loaded.notices:
        typer.echo(notice)
    rows = swap_twins(loaded.statements, seed)
    if not rows:
        raise BadInput(
            "No two statements name different things of one kind (nerves, bones, drugs, counts ...), so that no twins "
            "can be made of this file."
        )
    try:
        with output.open("w", encoding="utf-8", newline="") as out:
            write_twins(rows, out)
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise BadInput(f"{output} cannot be written ({reason}); choose another place with -o.") from error
    _say_counts(rows, output)
    _show_sample(rows, seed)
    true = [row for row in rows if row.source_answer]
    statements = [LabelledStatement(row.statement, row.answer, row.quad) for row in true]
    figures = leakage(statements)["readers"]
    Console().print(leak_table({"twins": figures}, "What wording alone gives away of the twins"))
    typer.echo(
        "0.5 is what a reader reaches that knows nothing. Nobody has checked these twins: read the sample."
    )


def _say_counts(rows: Sequence["TwinRow"], output: Path) -> None:
    """Say how many pairs there are of each source, and of which kinds."""
    originals = [row for row in rows if row.original]
    of_true = sum(row.source_answer for row in originals)
    typer.echo(
        f"Wrote {len(originals):,} pairs to {output}: {of_true:,} twins from statements labelled TRUE, "
        f"{len(originals) - of_true:,} from statements labelled FALSE (both versions false: the association control)."
    )
    kinds = Counter(row.kind for row in originals).most_common()
    shown = ", ".join(f"{kind} {count:,}" for kind, count in kinds[:_KINDS_SHOWN])
    rest = sum(count for _, count in kinds[_KINDS_SHOWN:])
    typer.echo(f"What was exchanged: {shown}" + (f", others {rest:,}." if rest else "."))


def _show_sample(rows: Sequence["TwinRow"], seed: int) -> None:
    """Print pairs drawn at random to be read: is the exchanged statement really false?"""
    pairs = [(one, other) for one, other in zip(rows[::2], rows[1::2], strict=True) if one.source_answer]
    sample = random.Random(seed).sample(pairs, min(SAMPLE, len(pairs)))
    typer.echo(
        f"\n{len(sample)} twins to check by hand: the first is labelled TRUE, the second must be false."
    )
    for original, exchanged in sample:
        typer.echo(f"{original.pair}  {original.statement}\n       {exchanged.statement}")
    typer.echo("")
