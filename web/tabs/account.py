"""Account: a person's own password, and where they are signed in."""

import gradio as gr

from medx_core.errors import BadInput
from medx_core.storage.account_rules import SHORTEST_PASSWORD
from medx_core.storage.people import Person
from web import wording
from web.frame import QUIET, heading, page_frame
from web.handler_guard import guarded
from web.services import Services
from web.tabs.credentials import build_own

TO_SIGN_IN = "() => {{ location.assign('{root}/login'); return []; }}"


def build(services: Services) -> None:
    """Build the page inside the blocks that are open."""
    page_frame(services, "account")
    with gr.Column(elem_classes="medx-page"):
        heading("Your account", "Another password signs you out everywhere; sign in again with the new one.")
        with gr.Group(elem_classes="medx-form medx-narrow"):
            old = gr.Textbox(label="Current password", type="password", elem_id="medx-old-password")
            new = gr.Textbox(
                label=f"New password, {SHORTEST_PASSWORD} characters or more",
                type="password",
                elem_id="medx-new-password",
            )
            again = gr.Textbox(label="New password again", type="password", elem_id="medx-new-again")
        change = gr.Button(
            "Change password", variant="primary", elem_id="medx-change-password", scale=0, min_width=180
        )
        heading("Where you are signed in", "End what you do not know, then change your password.", level=2)
        build_own(services)

    @guarded(services)
    def change_password(person: Person, present: str, wanted: str, repeated: str) -> None:
        if wanted != repeated:
            raise BadInput("The two new passwords differ; type both again.")
        attempts = f"password of {person.id}"
        if not services.sign_in_limit.take(attempts):
            raise BadInput(wording.SIGN_IN_TOO_OFTEN)
        services.people.change_password(person.name, present, wanted)
        services.sign_in_limit.give_back(attempts)
        services.audit.append(person.name, "change password", f"person {person.name}", {})

    gr.on(
        [change.click, again.submit],
        change_password,
        [old, new, again],
        None,
        **QUIET,
    ).success(
        None, None, None, js=TO_SIGN_IN.format(root=services.settings.root_path), api_visibility="private"
    )
