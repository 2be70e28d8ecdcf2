"""Batch: choose a file, see what was understood, run it; the job has an address that can be closed and reopened."""

from pathlib import Path
from typing import Any

import gradio as gr

from medx_core.clock import utc_now
from medx_core.data.problems import FileLimits
from medx_core.errors import MedxError
from medx_core.questions import Mode
from medx_core.storage.people import Person
from web import wording
from web.batch_markup import file_html, history_html
from web.estimates import pace_before
from web.frame import QUERY, heading, on_load, page_frame
from web.handler_guard import guarded
from web.health_and_metrics import SUBMITTED
from web.markup import escape, fault, link, note, tag
from web.services import Services
from web.submission import read_upload, submit_file
from web.tabs.job_page import JobPage, build_job_page

TO_JOB = "(id) => { if (id) location.assign('/app/batch?job=' + encodeURIComponent(id)); return []; }"
FILES: dict[str, Any] = {
    "api_visibility": "private",
    "show_progress": "minimal",
    "concurrency_limit": 2,
    "concurrency_id": "files",
}
HISTORY = 20


def build(services: Services) -> None:
    """Build the page inside the blocks that are open."""
    page_frame(services, "batch")
    job_id = gr.Textbox(visible="hidden", elem_id="medx-job")
    with gr.Column(elem_classes="medx-page", visible=False) as new:
        history = _new_batch(services)
    with gr.Column(elem_classes="medx-page", visible=False, elem_id="medx-job-page") as job_column:
        page, shown = build_job_page(services, job_id)

    @guarded(services)
    def open_page(person: Person, public_id: str) -> tuple[Any, ...]:
        nothing = (gr.skip(),) * len(shown)
        earlier = history_html(services.jobs.recent(person.id, limit=HISTORY))
        if not public_id:
            return "", gr.update(visible=True), earlier, gr.update(visible=False), *nothing
        return _opened(page, person, public_id, earlier, nothing)

    on_load(open_page, [job_id], [job_id, new, history, job_column, *shown], js=QUERY.format(name="job"))


def _opened(
    page: JobPage, person: Person, public_id: str, earlier: str, nothing: tuple[Any, ...]
) -> tuple[Any, ...]:
    """Show the job of the address, or say above the list of earlier ones why it cannot be shown."""
    try:
        filled = page.show(person, public_id, "", "", 0)
    except MedxError as error:
        return "", gr.update(visible=True), fault(str(error)) + earlier, gr.update(visible=False), *nothing
    return public_id, gr.update(visible=False), earlier, gr.update(visible=True), *filled


def _new_batch(services: Services) -> gr.HTML:
    heading("Batch", "Many questions from a file. You may close the page once it runs; the work goes on.")
    with gr.Group(elem_classes="medx-form"):
        upload = gr.File(
            label="Choose or drop a file: CSV, TSV or JSONL",
            file_types=[".csv", ".tsv", ".jsonl"],
            type="filepath",
            height=150,
            elem_id="medx-upload",
        )
    gr.HTML(_limits_html(services))
    check = gr.HTML(elem_id="medx-check")
    with gr.Row(elem_classes="medx-choices"):
        mode = gr.Radio(wording.MODE_CHOICES, value="verdict", label="Answer as", min_width=230, scale=3)
        kind = gr.Dropdown(wording.FILE_KIND_CHOICES, value="auto", label="Kind", min_width=200, scale=3)
        arm = gr.Radio(wording.ARM_CHOICES, value="both", label="Show", min_width=300, scale=4)
    run = gr.Button("Run", variant="primary", interactive=False, elem_id="medx-run", scale=0, min_width=160)
    gr.HTML(tag("h2", "Your earlier batches"))
    history = gr.HTML(elem_id="medx-history")
    submitted = gr.Textbox(visible="hidden")
    page, guard = _NewBatch(services), guarded(services)
    upload.change(guard(page.check), [upload, mode], [check, run], **FILES)
    started = run.click(guard(page.run), [upload, mode, kind, arm], [submitted], **FILES)
    started.success(None, [submitted], None, js=TO_JOB, api_visibility="private")
    return history


def _limits_html(services: Services) -> str:
    limits = FileLimits.of(services.settings).in_words()
    template = link("/template.csv", "Download a template", download=True)
    identifiers = tag("strong", escape(wording.NO_IDENTIFIERS))
    return note(f"{wording.FILE_MEANING} {limits}") + tag("p", f"{template} · {identifiers}", "medx-note")


class _NewBatch:
    """The handlers of the first two steps, each for a signed-in person."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def check(self, person: Person, path: str | None, mode: str) -> tuple[str, Any]:
        """Show what was understood of the file; nothing is queued."""
        if not path:
            return "", gr.update(interactive=False, value="Run")
        file = read_upload(self._services, path)
        pace = pace_before(self._services.jobs.recent(person.id, limit=HISTORY), Mode(mode), utc_now())
        usable = not file.refused and bool(file.rows)
        title = f"Run {len(file.rows):,} question{'' if len(file.rows) == 1 else 's'}" if usable else "Run"
        return file_html(file, pace), gr.update(interactive=usable, value=title)

    def run(self, person: Person, path: str | None, mode: str, category: str, arm: str) -> str:
        """Commit the file as a job and return its id."""
        job = submit_file(self._services, person, path, mode=mode, category=category, arm=arm)
        count_batch(self._services, person, job.public_id, job.progress.total)
        if path:
            Path(path).unlink(missing_ok=True)
        return job.public_id


def count_batch(services: Services, person: Person, public_id: str, rows: int) -> None:
    """Note a submitted batch in the metrics and the audit log."""
    SUBMITTED.labels("batch").inc(rows)
    services.audit.append(person.name, "submit batch", f"job {public_id}", {"rows": rows})
