"""The page of one batch job: progress polled from the database, its rows, cancel and download."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from medx_core.clock import utc_now
from medx_core.jobs.status import ItemStatus
from medx_core.storage.people import Person
from web.batch_markup import downloads_html, job_html, rows_html, status_choices, still_running
from web.following import visible_job
from web.handler_guard import guarded
from web.markup import note
from web.services import Services

PAGE_ROWS = 25
POLL_SECONDS = 1.0
# SQLite refuses to look for a pattern of more than 50,000 bytes; nobody looks for that much.
MAX_SEARCH_CHARACTERS = 200
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": 8}


@dataclass(frozen=True)
class JobPage:
    """The handlers, each for a signed-in person."""

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
        seen = not running or bool(self.services.live_workers())
        return (
            job_html(job, self.services.jobs.accuracy(public_id), utc_now(), worker_seen=seen),
            downloads_html(job),
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


def build_job_page(services: Services, job_id: gr.Textbox) -> tuple[JobPage, list[Any]]:
    """Build the page; return its handlers and the components `JobPage.show` fills."""
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
            status_choices(),
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
    page, guard = JobPage(services), guarded(services)
    shown = [status, links, cancel, rows, before, where, after, at_page, timer]
    asked = [job_id, search, state, at_page]
    timer.tick(guard(page.show), asked, shown, **QUIET)
    latest = QUIET | {"trigger_mode": "always_last"}
    gr.on([search.change, state.change], guard(page.first), asked[:3], shown, **latest)
    before.click(guard(page.before), asked, shown, **QUIET)
    after.click(guard(page.after), asked, shown, **QUIET)
    cancel.click(guard(page.cancel), asked, shown, **QUIET)
    return page, shown
