"""Admin: health in plain words, people and roles, failed questions, recipes and vectors, exploring. Every act is audited."""

from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from medx_core.errors import BadInput, NotAllowed
from medx_core.model_check import ModelCheck
from medx_core.storage.account_rules import generated_password
from medx_core.storage.health import ProcessHealth
from medx_core.storage.people import Person, Role, read_role
from web.frame import QUIET, heading, on_load, page_frame
from web.handler_guard import guarded
from web.rendering import render
from web.services import Services
from web.tabs.credentials import build_of_person
from web.tabs.explore import build_explore
from web.tabs.recipes import build_recipes

POLL_SECONDS = 5.0
RETRY_AT_ONCE = 1000
ROLE_CHOICES = [role.value for role in Role]


def build(services: Services) -> None:
    """Build the page inside the blocks that are open."""
    page_frame(services, "admin")
    with gr.Column(elem_classes="medx-page"):
        heading("Admin")
        _build_health(services)
        _build_people(services)
        _build_failed_questions(services)
        build_recipes(services)
        build_explore(services)


def health_html(services: Services) -> Markup:
    """Say whether work is being done, and what each process does."""
    processes, seen_limit = services.health.processes(), services.settings.worker_seen_seconds
    workers = [each for each in processes if each.kind == "worker" and each.detail.get("stage") != "refused"]
    return render(
        "health.html",
        processes=processes,
        workers=workers,
        seen_limit=seen_limit,
        good=bool(services.live_workers()),
        backlog=services.health.backlog(),
        limits_shared=services.counts.is_shared(),
        checks=_model_checks(workers),
    )


def _model_checks(workers: list[ProcessHealth]) -> list[ModelCheck]:
    """Return how the models of the workers were checked, each model and placement once."""
    reported = (worker.detail.get("check") for worker in workers)
    checks = [ModelCheck.model_validate(check) for check in reported if check]
    return list({(check.identity_sha256, check.placement): check for check in checks}.values())


def _build_health(services: Services) -> None:
    shown = gr.HTML(elem_id="medx-health")
    timer = gr.Timer(POLL_SECONDS)

    @guarded(services, Role.ADMIN)
    def show_health(person: Person) -> str:  # noqa: ARG001 - every guarded handler takes the person
        return health_html(services)

    on_load(show_health, None, [shown])
    timer.tick(show_health, None, [shown], **QUIET)


@dataclass(frozen=True)
class _PeopleHandlers:
    """The handlers of the people part, each for a signed-in administrator; all return what the part then shows."""

    services: Services

    def show(self, person: Person) -> tuple[Any, ...]:  # noqa: ARG002 - every guarded handler takes the person
        """Show who may sign in."""
        return self._shown("")

    def add(self, person: Person, name: str, role: str) -> tuple[Any, ...]:
        """Add a person with a first password that is shown once."""
        password = generated_password(name)
        added = self.services.people.add(name, read_role(role), password)
        self._audit(person, "add person", added)
        return *self._shown(f"Added {added.name}. First password, shown only now: {password}"), ""

    def set_role(self, person: Person, name: str | None, role: str) -> tuple[Any, ...]:
        """Give a person another role."""
        changed = self.services.people.set_role(_chosen(name), read_role(role))
        self._audit(person, "set role", changed)
        return self._shown(f"{changed.name} is now {changed.role.value}.")

    def reset_password(self, person: Person, name: str | None) -> tuple[Any, ...]:
        """Give a person a new password that is shown once."""
        password = generated_password(_chosen(name))
        changed = self.services.people.reset_password(_chosen(name), password)
        self._audit(person, "reset password", changed)
        return self._shown(f"New password of {changed.name}, shown only now: {password}")

    def switch(self, person: Person, name: str | None) -> tuple[Any, ...]:
        """Disable a person, or enable them again."""
        people = self.services.people
        chosen = people.find(_chosen(name))
        if chosen.id == person.id:
            raise NotAllowed("You cannot disable your own account; ask another administrator.")
        changed = people.enable(chosen.name) if chosen.disabled else people.disable(chosen.name)
        word = "disabled" if changed.disabled else "enabled"
        self._audit(person, f"{word} person", changed)
        return self._shown(f"{changed.name} is now {word}.")

    def _audit(self, person: Person, action: str, about: Person) -> None:
        self.services.audit.append(person.name, action, f"person {about.name}", {"role": about.role.value})

    def _shown(self, sentence: str) -> tuple[Any, ...]:
        people = self.services.people.list()
        names = gr.update(choices=[person.name for person in people])
        return render("people.html", people=people), names, render("report_line.html", sentence=sentence)


def _build_people(services: Services) -> None:
    heading("People", level=2)
    listed = gr.HTML(elem_id="medx-people")
    report = gr.HTML(elem_id="medx-people-report")
    with gr.Row(elem_classes="medx-inline-form"):
        name = gr.Textbox(label="Name of a new person", elem_id="medx-new-name", min_width=180)
        role = gr.Dropdown(ROLE_CHOICES, value="clinician", label="Role", min_width=130)
        add = gr.Button("Add person", variant="primary", elem_id="medx-add-person", scale=0, min_width=140)
    with gr.Row(elem_classes="medx-inline-form"):
        chosen = gr.Dropdown([], label="Change a person", elem_id="medx-person", min_width=180)
        other = gr.Dropdown(ROLE_CHOICES, value="clinician", label="New role", min_width=130)
        set_role = gr.Button("Set role", elem_id="medx-set-role", scale=0, min_width=110)
        reset = gr.Button("Reset password", elem_id="medx-reset-password", scale=0, min_width=170)
        switch = gr.Button("Disable or enable", elem_id="medx-switch", scale=0, min_width=185)
    build_of_person(services, chosen)
    people, guard, shown = _PeopleHandlers(services), guarded(services, Role.ADMIN), [listed, chosen, report]
    on_load(guard(people.show), None, shown)
    gr.on([add.click, name.submit], guard(people.add), [name, role], [*shown, name], **QUIET)
    set_role.click(guard(people.set_role), [chosen, other], shown, **QUIET)
    reset.click(guard(people.reset_password), [chosen], shown, **QUIET)
    switch.click(guard(people.switch), [chosen], shown, **QUIET)


def _chosen(name: str | None) -> str:
    if not name:
        raise BadInput("Choose a person first.")
    return name


def _build_failed_questions(services: Services) -> None:
    heading("Failed questions", level=2)
    listed = gr.HTML(elem_id="medx-quarantined")
    with gr.Row(elem_classes="medx-inline-form"):
        chosen = gr.Dropdown([], label="Question to try again", elem_id="medx-retry-number", min_width=220)
        retry = gr.Button("Try again", scale=0, min_width=120, elem_id="medx-retry")
        retry_all = gr.Button("Try all again", scale=0, min_width=150, elem_id="medx-retry-all")
    shown = [listed, chosen]

    def show() -> tuple[Any, ...]:
        failed = services.health.quarantined()
        choices = [
            (f"number {question.item.id}, row {question.item.row} of {question.job_title}", question.item.id)
            for question in failed
        ]
        return render("failed_questions.html", failed=failed), gr.update(choices=choices, value=None)

    @guarded(services, Role.ADMIN)
    def show_failed(person: Person) -> tuple[Any, ...]:  # noqa: ARG001 - every guarded handler takes the person
        return show()

    @guarded(services, Role.ADMIN)
    def try_again(person: Person, item_id: int | None) -> tuple[Any, ...]:
        if item_id is None:
            raise BadInput("Choose a question first.")
        services.health.retry_quarantined(item_id)
        services.audit.append(person.name, "retry", f"item {item_id}")
        return show()

    @guarded(services, Role.ADMIN)
    def try_all_again(person: Person) -> tuple[Any, ...]:
        failed = services.health.quarantined(limit=RETRY_AT_ONCE)
        for question in failed:
            services.health.retry_quarantined(question.item.id)
        services.audit.append(person.name, "retry all", "items", {"count": len(failed)})
        return show()

    on_load(show_failed, None, shown)
    retry.click(try_again, [chosen], shown, **QUIET)
    retry_all.click(try_all_again, None, shown, **QUIET)
