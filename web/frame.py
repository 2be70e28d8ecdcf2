"""What every page has around it: the header with its links, who is signed in, light or dark, and the way out."""

from collections.abc import Callable
from typing import Any

import gradio as gr

from medx_core.storage.people import Person, Role
from web import wording
from web.handler_guard import guarded, reaches
from web.markup import escape, link, tag
from web.services import Services

PAGES: tuple[tuple[str, str, Role], ...] = (
    ("", "Ask", Role.ASKER),
    ("batch", "Batch", Role.ASKER),
    ("review", "Review", Role.CLINICIAN),
    ("results", "Results", Role.ASKER),
    ("admin", "Admin", Role.ADMIN),
    ("account", "Account", Role.ASKER),
)
QUERY = "() => [new URLSearchParams(location.search).get('{name}') || '']"
ADDRESS = (
    "(id) => {{ if (id) history.replaceState(null, '', '?{name}=' + encodeURIComponent(id)); return []; }}"
)


def page_frame(services: Services, page: str) -> None:
    """Put the header on the page that is being built and fill in the person when it loads."""
    header = gr.HTML(header_html(None, page, ""), elem_id="medx-header", elem_classes="medx-header")

    @guarded(services)
    def show_header(person: Person) -> str:
        return header_html(person, page, services.sessions.form_token(person))

    on_load(show_header, None, [header])


def header_html(person: Person | None, page: str, form_token: str) -> str:
    """Return the header; without a person only what everybody may see."""
    links = "".join(
        link(f"/app/{path}", title, "here" if path == page else "")
        for path, title, at_least in PAGES
        if path != "account" and (at_least is Role.ASKER if person is None else reaches(person, at_least))
    )
    who = ""
    if person is not None:
        who = (
            tag(
                "a",
                f"{escape(person.name)} <small>{escape(person.role.value)}</small>",
                "medx-who",
                href="/app/account",
            )
            + '<form method="post" action="/logout">'
            + f'<input type="hidden" name="token" value="{escape(form_token)}">'
            + '<button type="submit" class="medx-quiet">Sign out</button></form>'
        )
    shade = '<button type="button" class="medx-quiet" data-medx="shade" aria-label="Light or dark">Light / dark</button>'
    return (
        tag(
            "div",
            tag("a", "MedX", "medx-name", href="/app/") + tag("nav", links, aria_label="Pages"),
            "medx-bar-left",
        )
        + tag("p", escape(wording.RESEARCH_USE), "medx-research")
        + tag("div", shade + who, "medx-bar-right")
    )


def heading(title: str, sentence: str = "") -> None:
    """Put the page's title and one quiet sentence."""
    gr.HTML(
        tag("h1", escape(title)) + (tag("p", escape(sentence), "medx-note") if sentence else ""),
        elem_classes="medx-heading",
    )


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
        api_visibility="private",
        show_progress="hidden",
        concurrency_limit=None if unlimited else 8,
    )
