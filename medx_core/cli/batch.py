"""`medx batch`: a file of questions in, a table of answers out, without the web page."""

import json
import os
import secrets
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from medx_core import __version__
from medx_core.categories import Category, as_category
from medx_core.cli.administration import opened_database
from medx_core.cli.outputs import refuse_input_as_output
from medx_core.data.problems import FileLimits, Problem
from medx_core.data.question_files import QuestionFile, read_question_file
from medx_core.data.result_files import write_results
from medx_core.errors import BadInput
from medx_core.evaluation.bootstrap import wilson
from medx_core.job_execution.in_process import answer_job, in_process_executor
from medx_core.job_execution.interfaces import Engine
from medx_core.jobs.submission import Submission, submission_of
from medx_core.models.catalog import refuse_missing
from medx_core.questions import ARM_CHOICES, Mode
from medx_core.settings import settings
from medx_core.storage.engine import Database
from medx_core.storage.health import HealthStore
from medx_core.storage.jobs import JobStore, result_rows

LOOK_SECONDS = 0.2
LOOK_FOR_WORKER_SECONDS = 2.0
# After Ctrl-C: long enough to end a token or a pass, short enough for a person.
LET_GO_SECONDS = 15.0

THROUGH_QUEUE = "through the queue"
IN_PROCESS = "in this process"


@dataclass(frozen=True)
class Followed:
    """How a job came to its end."""

    through: str
    interrupted: bool = False


def follow(database: Database, job_id: str, *, show_progress: bool) -> Followed:
    """Wait until the job is finished; Ctrl-C cancels it, and what was answered stays.

    Raises:
        MedxError: no worker runs and the job cannot be answered here either; it is cancelled.
    """
    jobs = JobStore(database)
    here = AnsweringHere(database, job_id)
    with _shown(jobs, job_id, show=show_progress) as is_finished:
        try:
            while not is_finished():
                here.begin_unless_a_worker_runs()
                here.wait(LOOK_SECONDS)
        except KeyboardInterrupt:
            jobs.cancel(job_id)
            here.wait(LET_GO_SECONDS, for_its_end=True)
            return Followed(here.through, interrupted=True)
        except Exception:
            jobs.cancel(job_id)
            raise
    here.wait(LET_GO_SECONDS, for_its_end=True)
    return Followed(here.through)


class AnsweringHere:
    """Answers one job in this process, on a thread of its own, once no worker is there to do it."""

    def __init__(self, database: Database, job_id: str) -> None:
        self._database = database
        self._job_id = job_id
        self._health = HealthStore(database)
        self._looked = -LOOK_FOR_WORKER_SECONDS
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._fault: BaseException | None = None

    @property
    def through(self) -> str:
        """Which way the job went, for people."""
        return THROUGH_QUEUE if self._thread is None else IN_PROCESS

    def begin_unless_a_worker_runs(self) -> None:
        """Start to answer here if no worker was seen lately; looks into the database now and then only."""
        if self._thread is not None or monotonic() - self._looked < LOOK_FOR_WORKER_SECONDS:
            return
        self._looked = monotonic()
        limit = settings().worker_seen_seconds
        if any(worker.seconds_since_seen <= limit for worker in self._health.processes(kind="worker")):
            return
        self._thread = threading.Thread(target=self._run, name="answering", daemon=True)
        self._thread.start()

    def wait(self, seconds: float, *, for_its_end: bool = False) -> None:
        """Wait a moment, or until answering here has ended.

        Raises:
            MedxError: answering here failed.
        """
        if for_its_end and self._thread is None:
            return
        self._ended.wait(seconds)
        if self._fault is not None and not for_its_end:
            raise self._fault

    def _run(self) -> None:
        chosen = settings()
        jobs = JobStore(self._database)
        try:
            with in_process_executor(
                chosen,
                self._database,
                owner=f"batch-{secrets.token_hex(4)}",
                load_engine=self._load_engine,
            ) as executor:
                answer_job(executor, jobs, self._job_id, chunk_rows=chosen.chunk_rows)
        except Exception as fault:  # noqa: BLE001 - a thread's door: `wait` raises it where the command can report it
            self._fault = fault
        finally:
            self._ended.set()

    def _load_engine(self) -> Engine:
        # torch takes seconds to import: only where no worker has it, and a model is there.
        refuse_missing(settings().model, settings().models_folder)
        from medx_core.assembly import build_engine

        return build_engine(settings(), self._database)


@contextmanager
def _shown(jobs: JobStore, job_id: str, *, show: bool) -> Iterator[Callable[[], bool]]:
    """Show a bar on standard error inside the block; the yielded call updates it and says whether all is finished."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not (show and sys.stderr.isatty())) as bar:
        task = bar.add_task("Answering", total=None)

        def is_finished() -> bool:
            progress = jobs.get(job_id).progress
            bar.update(task, completed=progress.finished, total=progress.total)
            return progress.finished == progress.total

        yield is_finished


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
        accuracy[arm.arm.value] = None if share is None else share.model_dump()
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
