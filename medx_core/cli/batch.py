"""`medx batch`: a file of questions in, a table of answers out, without the web page."""

import json
import os
import secrets
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import typer

from medx_core import __version__
from medx_core.categories import Category, as_category
from medx_core.cli.database import opened_database
from medx_core.cli.job_following import Followed, follow
from medx_core.cli.outputs import refuse_input_as_output
from medx_core.data.limits import FileLimits
from medx_core.data.problems import Problem
from medx_core.data.question_files import QuestionFile, read_question_file
from medx_core.data.result_files import write_results
from medx_core.errors import BadInput
from medx_core.evaluation.intervals import wilson
from medx_core.file_submission import submission_of
from medx_core.jobs.submission import Submission
from medx_core.questions import ARM_CHOICES, Mode
from medx_core.settings import settings
from medx_core.storage.job_results import result_rows
from medx_core.storage.job_store import JobStore

EXIT_INTERRUPTED = 130


def batch(
    file: Annotated[Path, typer.Argument(help="A CSV, TSV or JSONL file with a question column.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the answers (CSV).")],
    mode: Annotated[Mode, typer.Option(help="The form of the answers.")] = Mode.VERDICT,
    arms: Annotated[str, typer.Option(help="steered, unsteered or both.")] = "both",
    category: Annotated[str, typer.Option(help="auto, or one category for all rows.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Answer every row of a file: through the queue where a worker runs, else in this process."""
    began = monotonic()
    refuse_input_as_output(file, output)
    content = _read(file)
    submission = _submission(content, mode=mode, arms=arms, category=category)
    _refuse_unwritable(output)
    with opened_database() as database:
        jobs = JobStore(database)
        job = jobs.submit(submission, chunk_rows=settings().chunk_rows)
        followed = follow(database, job.public_id, show_progress=not as_json)
        _write(jobs, job.public_id, output)
        summary = _summary(jobs, job.public_id, content, followed)
    summary |= {"out": str(output), "seconds": monotonic() - began}
    if as_json:
        print(json.dumps(summary, ensure_ascii=False))
    else:
        _print_summary(summary)
    if followed.interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)


def _read(path: Path) -> QuestionFile:
    content = read_question_file(path, limits=FileLimits.of(settings()))
    if content.refused:
        raise BadInput(f"{path.name}: {content.problems[0].message}")
    _tell(content.problems, "not taken")
    _tell(content.notices, "notice")
    return content


def _tell(remarks: Iterable[Problem], kind: str) -> None:
    for remark in remarks:
        where = f"row {remark.row}: " if remark.row is not None else ""
        print(f"{kind}: {where}{remark.message}", file=sys.stderr)


def _submission(content: QuestionFile, *, mode: Mode, arms: str, category: str) -> Submission:
    if arms not in ARM_CHOICES:
        raise BadInput(f"There is no arm {arms!r}; choose steered, unsteered or both.")
    try:
        chosen = as_category(category)
    except ValueError:
        raise BadInput(f"There is no category {category!r}; choose auto, {', '.join(Category)}.") from None
    return submission_of(content, mode=mode, arms=ARM_CHOICES[arms], category=chosen)


def _refuse_unwritable(output: Path) -> None:
    """Find out before the work, not after it, that its outcome has no place."""
    folder = output.resolve().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK) or output.is_dir():
        raise BadInput(f"{output} cannot be written; choose a file in a folder that exists and is yours.")


def _write(jobs: JobStore, job_id: str, output: Path) -> None:
    """Write the answers beside `output` and move them there whole, so that no half table ever stands there."""
    job = jobs.get(job_id)
    part = output.resolve().with_name(f".{output.name}-{secrets.token_hex(4)}")
    try:
        with part.open("w", encoding="utf-8", newline="") as out:
            write_results(result_rows(jobs.every_item(job_id), job.arms), job.carried_columns, out)
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)


def _summary(jobs: JobStore, job_id: str, content: QuestionFile, followed: Followed) -> dict[str, Any]:
    progress = jobs.get(job_id).progress
    accuracy: dict[str, Any] = {}
    for arm in jobs.accuracy(job_id):
        share = wilson(arm.right, arm.judged)
        accuracy[arm.arm.value] = None if share is None else asdict(share)
    return {
        "job": job_id,
        "rows": progress.total,
        "answered": progress.answered,
        "quarantined": progress.quarantined,
        "cancelled": progress.cancelled,
        "problems": [problem.as_json() for problem in content.problems],
        "notices": [notice.as_json() for notice in content.notices],
        "accuracy": accuracy,
        "through": followed.through,
        "interrupted": followed.interrupted,
        "medx_version": __version__,
        "data_sha256": content.sha256,
    }


def _print_summary(summary: dict[str, Any]) -> None:
    print(
        f"{summary['answered']:,} of {summary['rows']:,} rows answered in {summary['seconds']:.1f} s "
        f"({summary['through']}); written to {summary['out']}."
    )
    if summary["quarantined"]:
        print(f"{summary['quarantined']:,} rows could not be answered; the column `reason` says why.")
    if summary["cancelled"]:
        print(f"{summary['cancelled']:,} rows were cancelled.")
    for arm, figure in summary["accuracy"].items():
        if figure is None:
            continue
        print(
            f"{arm}: accuracy {figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f}, n {figure['n']:,})"
        )
    print("Research use only - not for patient care.")
