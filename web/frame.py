"""What every page has around it: the header with its links, who is signed in, light or dark, and signing out."""

from collections.abc import Callable
from typing import Any

import gradio as gr
from markupsafe import Markup

from medx_core.home import write_fault
from medx_core.storage.credentials import Visitor
from medx_core.storage.people import Person, Role
from web.handler_guard import guarded, reaches
from web.rendering import note, render
from web.services import Services

ACCOUNT = ("account", "Account", Role.ASKER)
LINKED_PAGES: tuple[tuple[str, str, Role], ...] = (
    ("", "Ask", Role.ASKER),
    ("batch", "Batch", Role.ASKER),
    ("review", "Review", Role.CLINICIAN),
    ("results", "Results", Role.ASKER),
    ("admin", "Admin", Role.ADMIN),
)
PAGES = (*LINKED_PAGES, ACCOUNT)
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": 8}
"""How almost every event of a page runs: programs cannot call it, and no progress bar covers what it fills."""
MODEL_LINE_SECONDS = 5.0
QUERY = "() => [new URLSearchParams(location.search).get('{name}') || '']"
ADDRESS = (
    "(id) => {{ if (id) history.replaceState(null, '', '?{name}=' + encodeURIComponent(id)); return []; }}"
)


def page_frame(services: Services, page: str) -> None:
    """Put the header on the page that is being built and fill in the person when it loads."""
    header = gr.HTML(header_html(None, page, ""), elem_id="medx-header", elem_classes="medx-header")

    @guarded(services)
    def show_header(person: Visitor) -> str:
        token, disk_fault = services.sessions.form_token(person), write_fault(services.settings.home)
        return header_html(person, page, token, disk_fault=disk_fault)

    on_load(show_header, None, [header])


def header_html(person: Person | None, page: str, form_token: str, *, disk_fault: str = "") -> Markup:
    """Return the header; without a person only what everybody may see. `disk_fault`: why nothing can be stored."""
    links = [
        (path, title)
        for path, title, at_least in LINKED_PAGES
        if (at_least is Role.ASKER if person is None else reaches(person, at_least))
    ]
    return render(
        "header.html", links=links, page=page, person=person, form_token=form_token, disk_fault=disk_fault
    )


def heading(title: str, sentence: str = "", *, level: int = 1) -> None:
    """Put a title, and one quiet sentence below it, on the page that is being built."""
    gr.HTML(
        render("heading.html", title=title, sentence=sentence, level=level),
        elem_classes="medx-heading" if level == 1 else None,
    )


def model_line(services: Services) -> None:
    """Put the line on the model that answers on the page that is being built: what it is, and what it is worth by itself."""
    shown = gr.HTML(elem_id="medx-model")
    timer = gr.Timer(MODEL_LINE_SECONDS, active=False)

    @guarded(services)
    def show_line(person: Person) -> tuple[str, gr.Timer]:  # noqa: ARG001 - every guarded handler takes the person
        line = services.model_line()
        return note(line) if line else "", gr.Timer(active=not line)  # until a worker has loaded the model

    on_load(show_line, None, [shown, timer])
    timer.tick(show_line, None, [shown, timer], **QUIET)


def on_load(
    handler: Callable[..., Any], inputs: Any, outputs: Any, *, js: str | None = None, unlimited: bool = False
) -> Any:
    """Run a handler when the page that is being built opens; programs cannot call it."""
    root = gr.context.Context.root_block
    return root.load(  # type: ignore[union-attr]  # a page is being built
        handler,
        inputs,
        outputs,
        js=js,
        **(QUIET | ({"concurrency_limit": None} if unlimited else {})),
    )
