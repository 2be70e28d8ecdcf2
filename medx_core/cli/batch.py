"""`medx batch`: a file of questions in, a table of answers out, without the web page."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from medx_core import __version__
from medx_core.cli.ask import (
    RESEARCH_ONLY,
    WORKER_GONE,
    ArmOption,
    CategoryOption,
    Local,
    load_engine,
)
from medx_core.cli.database import note, opened_database
from medx_core.cli.outputs import (
    EXIT_INTERRUPTED,
    AsJson,
    print_json,
    refuse_input_as_output,
    refuse_unwritable,
    tell,
    text_file,
)
from medx_core.data.patient_data import screened_file
from medx_core.data.problems import FileLimits
from medx_core.data.question_files import QuestionFile, read_question_file
from medx_core.data.result_files import write_results
from medx_core.errors import BadInput, MedxError
from medx_core.evaluation.measured_changes import MeasuredChanges
from medx_core.evaluation.result import ChangesByHarm
from medx_core.evaluation.sentences import changes_in_words
from medx_core.job_execution.dispatch import End, OnProgress, answer_here, choose, follow
from medx_core.jobs.snapshots import Progress, RecipeCount, recipes_in_words
from medx_core.jobs.submission import Submission, file_submission, read_arms, read_category, read_mode
from medx_core.settings import settings
from medx_core.storage.engine import Database
from medx_core.storage.evidence import Evidence
from medx_core.storage.jobs import JobStore, result_rows

THROUGH_QUEUE = "through the queue"
IN_PROCESS = "in this process"


def batch(  # noqa: PLR0913 - one parameter per option
    file: Annotated[Path, typer.Argument(help="A CSV, TSV or JSONL file with a question column.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the answers (CSV).")],
    mode: Annotated[
        str, typer.Option("--mode", help="verdict or text: the form of all answers.")
    ] = "verdict",
    arm: ArmOption = "both",
    arms: Annotated[str, typer.Option("--arms", hidden=True)] = "",
    category: CategoryOption = "auto",
    local: Local = False,
    as_json: AsJson = False,
) -> None:
    """Answer every row of a file: by a running worker, else in this process."""
    began = monotonic()
    refuse_input_as_output(file, output)
    refuse_unwritable(output)
    form, chosen_arms, chosen_category = read_mode(mode), read_arms(arms or arm), read_category(category)
    content, screening = screened_file(_read(file), settings().patient_data)
    if screening:
        tell(screening.sentence())
    with opened_database() as database:
        jobs = JobStore(database)
        submission = file_submission(content, mode=form, arms=chosen_arms, category=chosen_category)
        job_id, end, through, report = _answered(submission, database, local=local, show_progress=not as_json)
        _write(jobs, job_id, output)
        summary = _summary(jobs, job_id, content) | {"patient_data": screening.as_json()}
        evidence = Evidence(database)
        measured = evidence.changes_of(jobs.get(job_id).recipe) if summary["vs_unsteered"] else None
        summary |= {"measured": measured.model_dump() if measured else None}
        summary |= {"model_line": evidence.of_model(report)}
    summary |= {"through": through, "interrupted": end is End.INTERRUPTED}
    summary |= {"out": str(output), "seconds": monotonic() - began}
    if as_json:
        print_json(summary)
    else:
        _print_summary(summary)
    if end is End.INTERRUPTED:
        raise typer.Exit(EXIT_INTERRUPTED)


def _answered(
    submission: Submission, database: Database, *, local: bool, show_progress: bool
) -> tuple[str, End, str, Mapping[str, Any]]:
    """Have a submission answered.

    Returns:
        The job's id, how the work ended, which way it went, and what the engine that answered reports of itself.
    """
    jobs, chunk_rows = JobStore(database), settings().chunk_rows
    choice = choose(settings(), database, local=local)
    tell(choice.sentence)
    if choice.through_worker:
        job_id = jobs.submit(submission, chunk_rows=chunk_rows).public_id
        note(database, "submit batch", f"job {job_id}", rows=len(submission.items))
        with _progress_bar(show=show_progress) as on_progress:
            end = follow(settings(), database, job_id, on_progress=on_progress)
        if end is not End.WORKER_GONE:
            return job_id, end, THROUGH_QUEUE, choice.report
        tell(WORKER_GONE)
        try:
            engine = load_engine(database)
        except MedxError:
            jobs.cancel(job_id)
            raise
    else:
        engine = load_engine(database)  # before the job is stored: without a model there is no job
        job_id = jobs.submit(submission, chunk_rows=chunk_rows, local=True).public_id
        note(database, "submit batch", f"job {job_id}", rows=len(submission.items))
    with _progress_bar(show=show_progress) as on_progress:
        end = answer_here(settings(), database, job_id, engine=engine, on_progress=on_progress)
    return job_id, end, IN_PROCESS, engine.description.report(settings())


@contextmanager
def _progress_bar(*, show: bool) -> Iterator[OnProgress]:
    """Show a bar on standard error inside the block, on a terminal only."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), disable=not (show and sys.stderr.isatty())) as bar:
        task = bar.add_task("Answering", total=None)

        def update(progress: Progress) -> None:
            bar.update(task, completed=progress.finished, total=progress.total)

        yield update


def _read(path: Path) -> QuestionFile:
    content = read_question_file(path, limits=FileLimits.of(settings()))
    if content.refused:
        raise BadInput(f"{path.name}: {content.problems[0].message}")
    for kind, remarks in (("not taken", content.problems), ("notice", content.notices)):
        for remark in remarks:
            tell(f"{kind}: {'' if remark.row is None else f'row {remark.row}: '}{remark.message}")
    return content


def _write(jobs: JobStore, job_id: str, output: Path) -> None:
    job = jobs.get(job_id)
    with text_file(output) as out:
        write_results(result_rows(jobs.every_item(job_id), job.arms), job.carried_columns, out)


def _summary(jobs: JobStore, job_id: str, content: QuestionFile) -> dict[str, Any]:
    from medx_core.evaluation.bootstrap import all_changes, wilson  # imports numpy and scipy: a second

    progress = jobs.get(job_id).progress
    accuracy: dict[str, Any] = {}
    for counts in jobs.accuracy(job_id):
        share = wilson(counts.right, counts.judged)
        accuracy[counts.arm.value] = None if share is None else share.model_dump()
    changed = all_changes(jobs.changes(job_id))
    return {
        "job": job_id,
        "rows": progress.total,
        "answered": progress.answered,
        "quarantined": progress.quarantined,
        "cancelled": progress.cancelled,
        "problems": [problem.as_json() for problem in content.problems],
        "notices": [notice.as_json() for notice in content.notices],
        "accuracy": accuracy,
        "recipes": [asdict(count) for count in jobs.recipes(job_id)],
        "vs_unsteered": None if changed is None else changed.model_dump(),
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
    if several := recipes_in_words([RecipeCount(**count) for count in summary["recipes"]]):
        print(several)
    for arm, figure in summary["accuracy"].items():
        if figure is None:
            continue
        print(
            f"{arm}: accuracy {figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f}, n {figure['n']:,})"
        )
    if summary["vs_unsteered"]:
        _print_changes(ChangesByHarm.model_validate(summary["vs_unsteered"]))
    if summary["measured"]:
        print(MeasuredChanges.model_validate(summary["measured"]).in_words)
    print(f"{summary['model_line']}\n{RESEARCH_ONLY}")


def _print_changes(changed: ChangesByHarm) -> None:
    print(f"steered against unsteered: {changes_in_words(changed)} of {changed.n:,}.")
    for harm, part in changed.by_harm.items():
        print(f"  harm {harm}: {changes_in_words(part)} of {part.n:,}.")
