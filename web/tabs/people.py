"""The people part of the admin page: add somebody, change a role, reset a password, disable or enable."""

import secrets
from dataclasses import dataclass
from typing import Any

import gradio as gr

from medx_core.errors import BadInput, NotAllowed
from medx_core.storage.people import Person, Role
from web.admin_markup import people_html, told
from web.frame import on_load
from web.handler_guard import guarded
from web.markup import tag
from web.services import Services

QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": 4}
ROLE_CHOICES = [role.value for role in Role]
PASSWORD_BYTES = 12


@dataclass(frozen=True)
class PeoplePart:
    """The handlers, each for a signed-in administrator; every one returns what the part shows afterwards."""

    services: Services

    def show(self, person: Person) -> tuple[Any, ...]:  # noqa: ARG002 - every guarded handler takes the person
        """Show who may sign in."""
        return self._shown("")

    def add(self, person: Person, name: str, role: str) -> tuple[Any, ...]:
        """Add a person with a first password that is shown once."""
        password = secrets.token_urlsafe(PASSWORD_BYTES)
        added = self.services.people.add(name, Role(role), password)
        self._audit(person, "add person", added)
        return *self._shown(f"Added {added.name}. First password, shown only now: {password}"), ""

    def set_role(self, person: Person, name: str | None, role: str) -> tuple[Any, ...]:
        """Give somebody another role."""
        changed = self.services.people.set_role(_named(name), Role(role))
        self._audit(person, "set role", changed)
        return self._shown(f"{changed.name} is now {changed.role.value}.")

    def reset_password(self, person: Person, name: str | None) -> tuple[Any, ...]:
        """Give somebody a new password that is shown once."""
        password = secrets.token_urlsafe(PASSWORD_BYTES)
        changed = self.services.people.reset_password(_named(name), password)
        self._audit(person, "reset password", changed)
        return self._shown(f"New password of {changed.name}, shown only now: {password}")

    def switch(self, person: Person, name: str | None) -> tuple[Any, ...]:
        """Disable somebody, or enable them again."""
        found = self.services.people.find(_named(name))
        if found.id == person.id:
            raise NotAllowed("You cannot disable your own account; ask another administrator.")
        people = self.services.people
        changed = people.enable(found.name) if found.disabled else people.disable(found.name)
        word = "disabled" if changed.disabled else "enabled"
        self._audit(person, f"{word} person", changed)
        return self._shown(f"{changed.name} is now {word}.")

    def _audit(self, person: Person, action: str, about: Person) -> None:
        self.services.audit.append(person.name, action, f"person {about.name}", {"role": about.role.value})

    def _shown(self, sentence: str) -> tuple[Any, ...]:
        people = self.services.people.list()
        names = gr.update(choices=[person.name for person in people])
        return people_html(people), names, told(sentence) if sentence else ""


def build_people(services: Services) -> None:
    """Build the part inside the page that is open."""
    gr.HTML(tag("h2", "People"))
    listed = gr.HTML(elem_id="medx-people")
    report = gr.HTML(elem_id="medx-people-report")
    with gr.Row(elem_classes="medx-inline-form"):
        name = gr.Textbox(label="Name of a new person", elem_id="medx-new-name", min_width=180)
        role = gr.Dropdown(ROLE_CHOICES, value="clinician", label="Role", min_width=130)
        add = gr.Button("Add person", variant="primary", elem_id="medx-add-person", scale=0, min_width=140)
    with gr.Row(elem_classes="medx-inline-form"):
        chosen = gr.Dropdown([], label="Change somebody", elem_id="medx-person", min_width=180)
        other = gr.Dropdown(ROLE_CHOICES, value="clinician", label="New role", min_width=130)
        set_role = gr.Button("Set role", elem_id="medx-set-role", scale=0, min_width=110)
        reset = gr.Button("Reset password", elem_id="medx-reset-password", scale=0, min_width=170)
        switch = gr.Button("Disable or enable", elem_id="medx-switch", scale=0, min_width=185)
    part, guard, shown = PeoplePart(services), guarded(services, Role.ADMIN), [listed, chosen, report]
    on_load(guard(part.show), None, shown)
    gr.on([add.click, name.submit], guard(part.add), [name, role], [*shown, name], **QUIET)
    set_role.click(guard(part.set_role), [chosen, other], shown, **QUIET)
    reset.click(guard(part.reset_password), [chosen], shown, **QUIET)
    switch.click(guard(part.switch), [chosen], shown, **QUIET)


def _named(name: str | None) -> str:
    if not name:
        raise BadInput("Choose a person first.")
    return name
