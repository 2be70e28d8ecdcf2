"""Admin: health in plain words, people and roles, questions set aside, vectors. Every act is audited."""

from typing import Any

import gradio as gr

from medx_core.errors import BadInput
from medx_core.storage.people import Person, Role
from web.admin_markup import health_html, quarantined_html
from web.frame import heading, on_load, page_frame
from web.handler_guard import guarded
from web.markup import tag
from web.services import Services
from web.tabs.people import build_people
from web.tabs.vectors import build_vectors

QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": 4}
POLL_SECONDS = 5.0
RETRY_AT_ONCE = 1000


def build(services: Services) -> None:
    """Build the page inside the blocks that are open."""
    page_frame(services, "admin")
    with gr.Column(elem_classes="medx-page"):
        heading("Admin")
        _health(services)
        build_people(services)
        _quarantined(services)
        build_vectors(services)


def _health(services: Services) -> None:
    shown = gr.HTML(elem_id="medx-health")
    timer = gr.Timer(POLL_SECONDS)

    @guarded(services, Role.ADMIN)
    def show_health(person: Person) -> str:  # noqa: ARG001 - every guarded handler takes the person
        limit = services.settings.worker_seen_seconds
        return health_html(services.health.processes(), services.health.backlog(), seen_limit=limit)

    on_load(show_health, None, [shown])
    timer.tick(show_health, None, [shown], **QUIET)


def _quarantined(services: Services) -> None:
    gr.HTML(tag("h2", "Questions set aside"))
    listed = gr.HTML(elem_id="medx-quarantined")
    with gr.Row(elem_classes="medx-inline-form"):
        chosen = gr.Dropdown([], label="Question to try again", elem_id="medx-retry-number", min_width=220)
        retry = gr.Button("Try again", scale=0, min_width=120, elem_id="medx-retry")
        retry_all = gr.Button("Try all again", scale=0, min_width=150, elem_id="medx-retry-all")
    shown = [listed, chosen]

    def show() -> tuple[Any, ...]:
        found = services.health.quarantined()
        choices = [
            (f"number {one.item.id}, row {one.item.row} of {one.job_title}", one.item.id) for one in found
        ]
        return quarantined_html(found), gr.update(choices=choices, value=None)

    @guarded(services, Role.ADMIN)
    def show_quarantined(person: Person) -> tuple[Any, ...]:  # noqa: ARG001 - every guarded handler takes the person
        return show()

    @guarded(services, Role.ADMIN)
    def retry_one(person: Person, item_id: int | None) -> tuple[Any, ...]:
        if item_id is None:
            raise BadInput("Choose a question first.")
        services.health.retry_quarantined(item_id)
        services.audit.append(person.name, "retry", f"item {item_id}")
        return show()

    @guarded(services, Role.ADMIN)
    def retry_every(person: Person) -> tuple[Any, ...]:
        found = services.health.quarantined(limit=RETRY_AT_ONCE)
        for one in found:
            services.health.retry_quarantined(one.item.id)
        services.audit.append(person.name, "retry all", "items", {"count": len(found)})
        return show()

    on_load(show_quarantined, None, shown)
    retry.click(retry_one, [chosen], shown, **QUIET)
    retry_all.click(retry_every, None, shown, **QUIET)
