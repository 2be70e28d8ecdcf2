"""`medx data`: look into question files, and write out what comes with MedX."""

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from medx_core import __version__
from medx_core.cli.data_identifiers import data_identifiers
from medx_core.cli.outputs import (
    AsJson,
    Force,
    print_json,
    refuse_existing,
    refuse_input_as_output,
    text_file,
)
from medx_core.data.bundled_texts import (
    CONTROL_COLUMNS,
    bundled_controls,
    bundled_statements,
    write_statements,
)
from medx_core.data.identifiers import in_words
from medx_core.data.problems import FileLimits, Problem
from medx_core.data.question_files import QuestionFile, read_question_file
from medx_core.data.result_files import template_csv
from medx_core.errors import BadInput
from medx_core.settings import PatientDataRule, settings

if TYPE_CHECKING:
    from medx_core.data.leakage import Figure, Readers
    from medx_core.data.patient_data import Screening
    from medx_core.data.twins import TwinRow

app = typer.Typer(
    help="Check question files; make twins; write the template and the bundled statements.",
    no_args_is_help=True,
)

SAMPLE = 40
KINDS_SHOWN = 12
REMARKS_SHOWN = 50

Output = Annotated[Path, typer.Option("--output", "-o", help="Where to write the CSV.")]
Statements = Annotated[
    str, typer.Option("--data", help="Statements with answers: a file, or owner/name of the hub.")
]

app.command("identifiers")(data_identifiers)


@app.command()
def twins(
    data: Statements,
    output: Output,
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
        print(notice)
    rows = swap_twins(loaded.statements, seed)
    if not rows:
        raise BadInput(
            "No two statements name different things of one kind (nerves, bones, drugs, counts ...), so that no twins "
            "can be made of this file."
        )
    with text_file(output) as out:
        write_twins(rows, out)
    _say_counts(rows, output)
    _show_sample(rows, seed)
    true = [row for row in rows if row.source_answer]
    statements = [LabelledStatement(row.statement, row.answer, row.quad) for row in true]
    figures = leakage(statements)["readers"]
    Console().print(_leak_table({"twins": figures}, "What wording alone gives away of the twins"))
    print("0.5 is what a reader reaches that knows nothing. Nobody has checked these twins: read the sample.")


def _say_counts(rows: Sequence["TwinRow"], output: Path) -> None:
    """Say how many pairs there are of each source, and of which kinds."""
    originals = [row for row in rows if row.original]
    of_true = sum(row.source_answer for row in originals)
    print(
        f"Wrote {len(originals):,} pairs to {output}: {of_true:,} twins from statements labelled TRUE, "
        f"{len(originals) - of_true:,} from statements labelled FALSE (both versions false: the association control)."
    )
    kinds = Counter(row.kind for row in originals).most_common()
    shown = ", ".join(f"{kind} {count:,}" for kind, count in kinds[:KINDS_SHOWN])
    rest = sum(count for _, count in kinds[KINDS_SHOWN:])
    print(f"What was exchanged: {shown}" + (f", others {rest:,}." if rest else "."))


def _show_sample(rows: Sequence["TwinRow"], seed: int) -> None:
    """Print pairs drawn at random to be read: is the exchanged statement really false?"""
    pairs = [pair for pair in zip(rows[::2], rows[1::2], strict=True) if pair[0].source_answer]
    sample = random.Random(seed).sample(pairs, min(SAMPLE, len(pairs)))
    print(f"\n{len(sample)} twins to check by hand: the first is labelled TRUE, the second must be false.")
    for original, exchanged in sample:
        print(f"{original.pair}  {original.statement}\n       {exchanged.statement}")
    print()


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="A CSV, TSV or JSONL file.")],
    as_json: AsJson = False,
    with_names: Annotated[
        bool,
        typer.Option("--names", help="Look for names of persons too, which takes longer, and count by kind."),
    ] = False,
) -> None:
    """Say what is in a file: rows taken, rows not taken and why, and what was odd. Fails only if nothing is taken."""
    content = read_question_file(file, limits=FileLimits.of(settings()))
    found: Screening | None = None
    if with_names:
        from medx_core.data.patient_data import screened_file  # loads the classifier of names when it reads

        _, found = screened_file(content, PatientDataRule.MASK)
    if as_json:
        print_json(content.as_json() | ({"patient_data": found.as_json()} if found else {}))
    else:
        _show(content)
        if found is not None:
            print(f"What may identify a patient: {in_words(found.kinds) or 'nothing was found'}.")
    if content.refused:
        raise typer.Exit(1)


@app.command()
def template(output: Output, force: Force = False) -> None:
    """Write a small question file to start from."""
    refuse_existing(output, force=force)
    with text_file(output) as out:
        out.write(template_csv())
    print(f"Wrote a template to {output}.")


@app.command()
def bundled(
    output: Output,
    force: Force = False,
    controls: Annotated[
        bool,
        typer.Option(
            "--controls", help="In their place the association control: exchanged FALSE statements."
        ),
    ] = False,
) -> None:
    """Write the statements that come with MedX: sourced twins, not clinically validated."""
    refuse_existing(output, force=force)
    if controls:
        exchanged = bundled_controls()
        with text_file(output) as out:
            write_statements(exchanged, out, CONTROL_COLUMNS)
        print(
            f"Wrote {len(exchanged) // 2:,} pairs to {output}: FALSE statements that exchanged their wrong words (both "
            "versions false: the association control). `medx evaluate --data bundled` takes them along by itself."
        )
        return
    statements = bundled_statements()
    with text_file(output) as out:
        write_statements(statements, out)
    print(f"Wrote {len(statements):,} statements to {output}.")


@app.command()
def leak(
    data: Statements,
    as_json: AsJson = False,
) -> None:
    """Measure how much wording alone gives away about the answers, with twins and near copies kept together."""
    # scikit-learn takes seconds to load, which the other commands need not wait for
    from medx_core.data.labelled_files import load_labelled
    from medx_core.data.leakage import leakage

    loaded = load_labelled(data, limits=FileLimits.of(settings()))
    figures = leakage(loaded.statements)
    if as_json:
        about = {"notes": loaded.notes, "medx_version": __version__, "data_sha256": loaded.sha256}
        print_json({**figures, **about})
        return
    for notice in loaded.notices:
        print(notice)
    title = f"{figures['rows']:,} statements, wording alone"
    Console().print(_leak_table({"all": figures["readers"], **figures["by_category"]}, title))
    print(
        "0.5 is what a reader reaches that knows nothing; an interval above it means that wording gives it away."
    )


def _show(content: QuestionFile) -> None:
    if content.refused:
        print(f"{content.name} cannot be used. {content.problems[0].message}")
        return
    answered = sum(row.answer is not None for row in content.rows)
    print(
        f"{content.name}: {len(content.rows):,} {'row' if len(content.rows) == 1 else 'rows'} taken "
        f"({answered:,} with an answer), "
        f"{len(content.problems):,} not taken; read as {content.format.upper()}, {content.encoding.upper()}."
    )
    _table("Rows not taken", content.problems)
    _table("Taken, but please check", content.notices)


def _table(title: str, remarks: tuple[Problem, ...]) -> None:
    if not remarks:
        return
    table = Table("row", "column", "remark", title=title, title_justify="left")
    for remark in remarks[:REMARKS_SHOWN]:
        table.add_row("" if remark.row is None else str(remark.row), remark.column or "", remark.message)
    if len(remarks) > REMARKS_SHOWN:
        table.add_row("", "", f"... and {len(remarks) - REMARKS_SHOWN:,} more; --json lists them all.")
    Console(markup=False, highlight=False).print(table)


def _leak_table(groups: dict[str, "Readers"], title: str) -> Table:
    """Return a table of what each reader reaches on each group of statements."""
    table = Table("statements", "reader", "accuracy", "AUROC", title=title)
    for name, readers in groups.items():
        for reader, values in readers.items():
            table.add_row(name, reader, _figure(values["accuracy"]), _figure(values["auroc"]))
    return table


def _figure(value: "Figure | None") -> str:
    return "too few" if value is None else f"{value['value']:.3f} ({value['low']:.3f}-{value['high']:.3f})"
