"""Batch: choose a file, see what was understood, run it; the job has an address that can be closed and reopened."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import gradio as gr
from markupsafe import Markup

from medx_core.clock import utc_now
from medx_core.data.identifiers import IdentifierKind
from medx_core.data.problems import FileLimits
from medx_core.data.question_files import QuestionFile
from medx_core.errors import MedxError
from medx_core.evaluation.bootstrap import all_changes, wilson
from medx_core.evaluation.measured_changes import MeasuredChanges
from medx_core.evaluation.sentences import changes_in_words
from medx_core.jobs.snapshots import (
    ArmAccuracy,
    ArmChanges,
    ItemSnapshot,
    JobSnapshot,
    RecipeCount,
    recipes_in_words,
)
from medx_core.jobs.status import ItemStatus, JobKind, JobStatus
from medx_core.questions import Arm, Mode
from medx_core.settings import PatientDataRule
from medx_core.storage.jobs import is_correct
from medx_core.storage.people import Person
from web import wording
from web.following import visible_job, worker_stage
from web.frame import QUERY, QUIET, heading, model_line, on_load, page_frame
from web.handler_guard import beside, guarded
from web.health_and_metrics import SUBMITTED
from web.rendering import fault, note, render
from web.services import Services
from web.submission import read_upload, screened_upload, submit_file
from web.uploads import file_field

TO_JOB = "(id) => { if (id) location.assign('/app/batch?job=' + encodeURIComponent(id)); return []; }"
# What was found in a file comes into view, and the choice that it asks for.
TO_FOUND = (
    "() => { requestAnimationFrame(() => requestAnimationFrame(() => { "
    "const panel = document.querySelector('#medx-check .medx-found, #medx-check .medx-fault'); "
    "if (panel) panel.scrollIntoView({ block: 'center' }); })); return []; }"
)
FILES: dict[str, Any] = QUIET | {
    "show_progress": "minimal",
    "concurrency_limit": 2,
    "concurrency_id": "files",
}
HISTORY = 20
SHOWN_ROWS, SHOWN_REMARKS = 5, 40
PAGE_ROWS = 25
POLL_SECONDS = 1.0
# SQLite refuses a search pattern of more than 50,000 bytes; nobody searches for that much.
MAX_SEARCH_CHARACTERS = 200


def build(services: Services) -> None:
    """Build the page inside the blocks that are open."""
    page_frame(services, "batch")
    job_id = gr.Textbox(visible="hidden", elem_id="medx-job")
    with gr.Column(elem_classes="medx-page", visible=False) as new:
        history = _build_new_batch(services)
    with gr.Column(elem_classes="medx-page", visible=False, elem_id="medx-job-page") as job_column:
        page, shown = _build_job_page(services, job_id)

    @guarded(services)
    def open_page(person: Person, public_id: str) -> tuple[Any, ...]:
        earlier = services.jobs.recent(person.id, limit=HISTORY)
        problem = ""
        if public_id:
            try:
                filled = page.show(person, public_id, "", "", 0)
            except MedxError as error:
                problem = str(error)
            else:
                return public_id, gr.update(visible=False), "", gr.update(visible=True), *filled
        listed = history_html(earlier, problem)
        return "", gr.update(visible=True), listed, gr.update(visible=False), *((gr.skip(),) * len(shown))

    on_load(open_page, [job_id], [job_id, new, history, job_column, *shown], js=QUERY.format(name="job"))


# ---- a new batch


def _build_new_batch(services: Services) -> gr.HTML:
    heading("Batch", "Many questions from a file. You may close the page after Run; the work goes on.")
    model_line(services)
    with gr.Group(elem_classes="medx-form"):
        upload = file_field(
            label="Choose or drop a file: CSV, TSV or JSONL",
            file_types=[".csv", ".tsv", ".jsonl"],
            height=150,
            elem_id="medx-upload",
        )
    gr.HTML(render("batch_limits.html", limits=FileLimits.of(services.settings).in_words()))
    check = gr.HTML(elem_id="medx-check")
    as_written = gr.Checkbox(
        label=wording.AS_WRITTEN, value=False, visible=False, elem_id="medx-batch-as-written", container=False
    )
    with gr.Row(elem_classes="medx-choices"):
        mode = gr.Radio(wording.MODE_CHOICES, value="verdict", label="Answer as", min_width=230, scale=3)
        category = gr.Dropdown(
            wording.FILE_CATEGORY_CHOICES, value="auto", label="Category", min_width=200, scale=3
        )
        arm = gr.Radio(wording.ARM_CHOICES, value="both", label="Compare", min_width=330, scale=4)
    refused = gr.HTML(elem_id="medx-refused", elem_classes="medx-told")
    run = gr.Button("Run", variant="primary", interactive=False, elem_id="medx-run", scale=0, min_width=160)
    heading("Your earlier batches", level=2)
    history = gr.HTML(elem_id="medx-history")
    submitted = gr.Textbox(visible="hidden")
    page, guard = _NewBatchHandlers(services), guarded(services)
    checked = upload.change(guard(page.check), [upload, mode], [check, as_written, run, refused], **FILES)
    checked.success(None, None, None, js=TO_FOUND, api_visibility="private")
    chosen = [upload, mode, category, arm, as_written]
    started = run.click(guard(beside(page.run, fills=1)), chosen, [refused, submitted], **FILES)
    started.success(None, [submitted], None, js=TO_JOB, api_visibility="private")
    return history


@dataclass(frozen=True)
class _NewBatchHandlers:
    """The handlers of a new batch, each for a signed-in person."""

    services: Services

    def check(self, person: Person, path: str | None, mode: str) -> tuple[str, Any, Any, str]:
        """Show what was understood of the file and what of it would be masked, or why it is refused; nothing is queued."""
        hidden, no_run = gr.update(visible=False, value=False), gr.update(interactive=False, value="Run")
        if not path:
            return "", hidden, no_run, ""
        try:
            file = read_upload(self.services, path)
            screening = screened_upload(self.services, path)
        except MedxError as error:
            return fault(str(error)), hidden, no_run, ""
        pace = pace_before(self.services.jobs.recent(person.id, limit=HISTORY), Mode(mode), utc_now())
        usable = not file.refused and bool(file.rows)
        title = f"Run {wording.counted(len(file.rows), 'question')}" if usable else "Run"
        choice = (
            gr.update(visible=True, value=False) if wording.is_masked(screening) and screening else hidden
        )
        allowed = usable and not (screening and screening.rule is PatientDataRule.REFUSE)
        return (
            file_html(file, pace) + render("batch_patient_data.html", screening=screening),
            choice,
            gr.update(interactive=allowed, value=title),
            "",
        )

    def run(
        self, person: Person, path: str | None, mode: str, category: str, arm: str, as_written: bool
    ) -> str:
        """Commit the file as a job and return its id."""
        job, _ = submit_file(
            self.services, person, path, mode=mode, category=category, arm=arm, as_written=as_written
        )
        note_submitted(self.services, person, job)
        return job.public_id


def note_submitted(services: Services, person: Person, job: JobSnapshot, *, by_program: bool = False) -> None:
    """Note a submitted batch in the metrics and the audit log."""
    rows = job.progress.total
    SUBMITTED.labels("batch").inc(rows)
    action = "submit batch by program" if by_program else "submit batch"
    services.audit.append(person.name, action, f"job {job.public_id}", {"rows": rows})


def file_html(file: QuestionFile, pace: float | None) -> Markup:
    """Show what was understood of an uploaded file, but for what may identify a patient, which has a place of its own.

    `pace` is in rows per second, None when not known.
    """
    notices = [
        notice
        for notice in file.notices
        if not any(f"may contain {kind}" in notice.message for kind in IdentifierKind)
    ]
    return render(
        "batch_file.html",
        file=file,
        notices=notices,
        pace=pace,
        shown_rows=SHOWN_ROWS,
        shown_remarks=SHOWN_REMARKS,
    )


def history_html(jobs: Iterable[JobSnapshot], problem: str = "") -> Markup:
    """List a person's earlier batches, below why a job cannot be shown."""
    batches = [job for job in jobs if job.kind is JobKind.BATCH]
    return render("batch_history.html", jobs=batches, fault=problem)


# ---- the page of one job


@dataclass(frozen=True)
class JobHandlers:
    """The handlers of a job's page, each for a signed-in person."""

    services: Services

    def show(
        self, person: Person, public_id: str, words: str, wanted: str, at: float | None
    ) -> tuple[Any, ...]:
        """Return the updates that show the job and page `at` of the rows that match."""
        job = visible_job(self.services, public_id, person)
        offset = max(0, int(at or 0)) * PAGE_ROWS
        status = ItemStatus(wanted) if wanted else None
        search = words[:MAX_SEARCH_CHARACTERS].strip()
        items, total = self.services.jobs.items(
            public_id, offset=offset, limit=PAGE_ROWS, search=search, status=status
        )
        running = still_running(job)
        worker = worker_stage(self.services) if running else "ready"
        refused = "" if worker else self.services.refusal()
        return (
            job_html(
                job,
                JobFigures(
                    self.services.jobs.accuracy(public_id),
                    self.services.jobs.changes(public_id),
                    self.services.jobs.recipes(public_id),
                    self.services.evidence.changes_of(job.recipe),
                ),
                utc_now(),
                worker=worker,
                refused=refused,
            ),
            render("batch_links.html", job=job),
            gr.update(visible=running),
            rows_html(items, job.arms),
            gr.update(interactive=offset > 0),
            note(f"{offset + 1:,} to {offset + len(items):,} of {total:,}" if items else "no rows"),
            gr.update(interactive=offset + len(items) < total),
            offset // PAGE_ROWS,
            gr.Timer(active=running),
        )

    def first(self, person: Person, public_id: str, words: str, wanted: str) -> tuple[Any, ...]:
        """Show the first page of the rows that match."""
        return self.show(person, public_id, words, wanted, 0)

    def before(self, person: Person, public_id: str, words: str, wanted: str, at: float) -> tuple[Any, ...]:
        """Show the page before."""
        return self.show(person, public_id, words, wanted, at - 1)

    def after(self, person: Person, public_id: str, words: str, wanted: str, at: float) -> tuple[Any, ...]:
        """Show the page after."""
        return self.show(person, public_id, words, wanted, at + 1)

    def cancel(self, person: Person, public_id: str, words: str, wanted: str, at: float) -> tuple[Any, ...]:
        """Cancel what is not answered yet; what is finished stays."""
        cancel_job(self.services, person, public_id)
        return self.show(person, public_id, words, wanted, at)


def cancel_job(services: Services, person: Person, public_id: str) -> None:
    """Cancel a job this person may see.

    Raises:
        NotFound: there is none, or it is not for this person.
    """
    job = visible_job(services, public_id, person)
    services.jobs.cancel(job.public_id)
    services.audit.append(person.name, "cancel job", f"job {job.public_id}")


def _build_job_page(services: Services, job_id: gr.Textbox) -> tuple[JobHandlers, list[Any]]:
    """Build the page; return its handlers and the components `JobHandlers.show` fills."""
    status = gr.HTML(elem_id="medx-job-status")
    with gr.Row(elem_classes="medx-actions"):
        links = gr.HTML(elem_classes="medx-inline")
        cancel = gr.Button("Cancel", elem_id="medx-cancel-job", visible=False, scale=0, min_width=110)
    with gr.Row(elem_classes="medx-filter"):
        search = gr.Textbox(
            label="Search", placeholder="Search questions and ids", show_label=False, container=False,
            elem_id="medx-search", scale=3, min_width=180, max_length=MAX_SEARCH_CHARACTERS,
        )  # fmt: skip
        state = gr.Dropdown(
            wording.STATUS_CHOICES,
            value="",
            label="State",
            show_label=False,
            container=False,
            scale=1,
            min_width=150,
        )
    rows = gr.HTML(elem_id="medx-rows")
    with gr.Row(elem_classes="medx-pager"):
        before = gr.Button("Previous", size="sm", scale=0, min_width=100, interactive=False)
        where = gr.HTML(elem_classes="medx-inline")
        after = gr.Button("Next", size="sm", scale=0, min_width=100, interactive=False)
    at_page = gr.Number(0, visible="hidden", precision=0)
    timer = gr.Timer(POLL_SECONDS, active=False)
    page, guard = JobHandlers(services), guarded(services)
    shown = [status, links, cancel, rows, before, where, after, at_page, timer]
    wanted = [job_id, search, state, at_page]
    timer.tick(guard(page.show), wanted, shown, **QUIET)
    latest = QUIET | {"trigger_mode": "always_last"}
    gr.on([search.change, state.change], guard(page.first), wanted[:3], shown, **latest)
    before.click(guard(page.before), wanted, shown, **QUIET)
    after.click(guard(page.after), wanted, shown, **QUIET)
    cancel.click(guard(page.cancel), wanted, shown, **QUIET)
    return page, shown


@dataclass(frozen=True)
class JobFigures:
    """What was counted of a job's answers so far."""

    accuracies: Sequence[ArmAccuracy] = ()
    changes: Sequence[ArmChanges] = ()
    recipes: Sequence[RecipeCount] = ()
    measured: MeasuredChanges | None = None


def job_html(
    job: JobSnapshot, figures: JobFigures, now: datetime, *, worker: str = "ready", refused: str = ""
) -> Markup:
    """Show how a job stands; while no worker is ready nobody can say how long it takes, and `refused` may say why."""
    running = still_running(job)
    away = wording.worker_away(refused, questions=job.progress.total)
    worker_notes = {"": away, "loading": wording.WORKER_LOADING_BATCH}
    worker_note = worker_notes.get(worker, "") if running else ""
    left = None if worker_note or job.status is JobStatus.CANCELLED else seconds_left(job, now)
    changed = all_changes(figures.changes)
    intervals = [
        (each.arm, wilson(each.right, each.judged), wilson(each.accepted, each.false))
        for each in figures.accuracies
    ]
    return render(
        "batch_job.html",
        job=job,
        estimate="" if left is None else f"{wording.about(left)} left",
        worker_note=worker_note,
        pace=rows_per_second(job, now),
        accuracies=[each for each in intervals if each[1] is not None],
        changed=changed,
        changed_in_words=changed and changes_in_words(changed),
        recipes=figures.recipes,
        recipes_in_words=recipes_in_words(figures.recipes),
        measured=figures.measured.in_words if changed and figures.measured else "",
    )


def rows_html(items: Sequence[ItemSnapshot], arms: Sequence[Arm]) -> Markup:
    """Show a page of a job's rows."""
    return render(
        "batch_rows.html",
        items=items,
        arms=arms,
        any_text=any(stored.answer.text is not None for item in items for stored in item.answers),
        any_expected=any(item.expected is not None for item in items),
        is_wrong=lambda answer, expected: is_correct(answer, expected) is False,
    )


def still_running(job: JobSnapshot) -> bool:
    """Whether rows are still waiting or being answered."""
    return job.progress.queued + job.progress.running > 0 or job.status in (
        JobStatus.QUEUED,
        JobStatus.RUNNING,
    )


# ---- how fast a job goes, from what has been answered


def rows_per_second(job: JobSnapshot, now: datetime) -> float | None:
    """Return the job's pace since its first row was taken; None before anything is finished."""
    done = job.progress.answered + job.progress.quarantined
    if job.started_at is None or not done:
        return None
    elapsed = ((job.finished_at or now) - job.started_at).total_seconds()
    return done / elapsed if elapsed > 0 else None


def seconds_left(job: JobSnapshot, now: datetime) -> float | None:
    """Return the estimated seconds to the end; None when there is no estimate or nothing is left."""
    pace = rows_per_second(job, now)
    left = job.progress.total - job.progress.finished
    return left / pace if pace and left else None


def pace_before(jobs: Iterable[JobSnapshot], mode: Mode, now: datetime) -> float | None:
    """Return the pace of the newest finished batch of this mode, None when there is none."""
    finished = (
        job for job in jobs if job.kind is JobKind.BATCH and job.status is JobStatus.DONE and job.mode is mode
    )
    return next((pace for job in finished if (pace := rows_per_second(job, now))), None)
