"""Sessions, tokens and links, listed and ended one by one: one's own on Account, anybody's on Admin."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from medx_core.errors import BadInput
from medx_core.storage.credentials import MOST_DAYS, Scope, Visitor, new_link, new_token
from medx_core.storage.people import Person, Role
from web import wording
from web.frame import QUIET, heading, on_load
from web.handler_guard import guarded
from web.rendering import render
from web.services import Services


@dataclass(frozen=True)
class CredentialHandlers:
    """The handlers of both pages; all return the list, what can be chosen in it, and one line on what was done."""

    services: Services

    def own(self, person: Visitor) -> tuple[Any, ...]:
        """Show where one is signed in."""
        return self._shown(person, person)

    def end_own(self, person: Visitor, chosen: str | None) -> tuple[Any, ...]:
        """End one of one's own sessions."""
        return self._shown(person, person, self._end(person, person, chosen))

    def make_token(
        self, person: Visitor, title: str, scopes: list[str], days: float | None
    ) -> tuple[Any, ...]:
        """Make a token for a program of one's own; it is shown once."""
        token = new_token(self.services.credentials, person, title=title, scopes=scopes, days=days)
        self._audit(person, "make token", person, title=title.strip(), scopes=" ".join(scopes))
        return self._shown(person, person, f"Token, shown only now: {token}")

    def make_link(self, person: Visitor, name: str | None) -> tuple[Any, ...]:
        """Make a one-time link by which somebody chooses a password, as an administrator; it is shown once."""
        about = self._about(name)
        if about is None:
            raise BadInput("Choose a person first.")
        key = new_link(self.services.credentials, about, hours=self.services.settings.link_hours)
        self._audit(person, "make link", about)
        hours = f"{self.services.settings.link_hours:g}"
        address = self.services.settings.link(key)
        return self._shown(
            person, about, f"Link for {about.name}, for {hours} hours, shown only now: {address}"
        )

    def end_own_others(self, person: Visitor) -> tuple[Any, ...]:
        """End all of one's own sessions but this one."""
        ended = self.services.credentials.end_all(person, but=person.credential)
        self._audit(person, "end all else", person, count=ended)
        return self._shown(person, person, wording.credentials_ended(ended))

    def of(self, person: Visitor, name: str | None) -> tuple[Any, ...]:
        """Show where somebody is signed in, as an administrator."""
        about = self._about(name)
        return self._shown(person, about) if about else ("", gr.update(choices=[], value=None), "")

    def end(self, person: Visitor, name: str | None, chosen: str | None) -> tuple[Any, ...]:
        """End one of somebody's sessions, as an administrator."""
        about = self._about(name)
        return (
            self._shown(person, about, self._end(person, about, chosen)) if about else self.of(person, name)
        )

    def end_every(self, person: Visitor, name: str | None) -> tuple[Any, ...]:
        """End all of somebody's sessions, as an administrator."""
        about = self._about(name)
        if about is None:
            raise BadInput("Choose a person first.")
        ended = self.services.credentials.end_all(about, but=person.credential)
        self._audit(person, "end all", about, count=ended)
        return self._shown(person, about, wording.credentials_ended(ended))

    def _about(self, name: str | None) -> Person | None:
        return self.services.people.find(name) if name else None

    def _end(self, person: Visitor, about: Person, chosen: str | None) -> str:
        if not chosen:
            raise BadInput("Choose what to end first.")
        ended = self.services.credentials.end(about, chosen)
        self._audit(person, f"end {ended.kind.value}", about, id=ended.public_id)
        return f"Ended: {wording.credential_line(ended)}."

    def _audit(self, person: Person, action: str, about: Person, **detail: str | int) -> None:
        self.services.audit.append(person.name, action, f"person {about.name}", detail)

    def _shown(self, person: Visitor, about: Person, sentence: str = "") -> tuple[Any, ...]:
        listed = self.services.credentials.of(about)
        others = [
            (wording.credential_line(each), each.public_id) for each in listed if each != person.credential
        ]
        table = render("credentials.html", credentials=listed, here=person.credential.public_id, person=about)
        return (
            table,
            gr.update(choices=others, value=None),
            render("report_line.html", sentence=sentence) if sentence else "",
        )


def build_own(services: Services) -> None:
    """Put one's own sessions and tokens on the page that is being built."""
    listed, chosen, report, end, others = _parts("own", "End all but this one")
    handlers, guard, shown = CredentialHandlers(services), guarded(services), [listed, chosen, report]
    heading(
        "A token for a program",
        "Programs ask with it in place of a password; it ends when you end it.",
        level=2,
    )
    with gr.Row(elem_classes="medx-inline-form"):
        title = gr.Textbox(label="What it is for", elem_id="medx-token-title", min_width=180)
        scopes = gr.Dropdown(
            [scope.value for scope in Scope],
            value=[Scope.ASK.value, Scope.READ.value],
            multiselect=True,
            label="It may",
            elem_id="medx-token-scopes",
            min_width=180,
        )
        days = gr.Number(90, label="Days", minimum=1, maximum=MOST_DAYS, precision=0, min_width=90)
        make = gr.Button("Make token", elem_id="medx-make-token", scale=0, min_width=140)
    made = gr.HTML(elem_id="medx-token-report")
    make.click(guard(handlers.make_token), [title, scopes, days], [listed, chosen, made], **QUIET)
    on_load(guard(handlers.own), None, shown)
    end.click(guard(handlers.end_own), [chosen], shown, **QUIET)
    others.click(guard(handlers.end_own_others), None, shown, **QUIET)


def build_of_person(services: Services, name: gr.Dropdown) -> None:
    """Put the sessions of the person who is chosen in `name` on the page that is being built, for administrators."""
    listed, chosen, report, end, every = _parts("their", "End all")
    handlers, guard = CredentialHandlers(services), guarded(services, Role.ADMIN)
    shown = [listed, chosen, report]
    with gr.Row(elem_classes="medx-inline-form"):
        link = gr.Button("One-time link", elem_id="medx-make-link", scale=0, min_width=160)
    link.click(guard(handlers.make_link), [name], shown, **QUIET)
    name.change(guard(handlers.of), [name], shown, **QUIET)
    end.click(guard(handlers.end), [name, chosen], shown, **QUIET)
    every.click(guard(handlers.end_every), [name], shown, **QUIET)


def _parts(whose: str, all_label: str) -> tuple[gr.HTML, gr.Dropdown, gr.HTML, gr.Button, gr.Button]:
    listed = gr.HTML(elem_id=f"medx-{whose}-sessions")
    report = gr.HTML(elem_id=f"medx-{whose}-sessions-report")
    with gr.Row(elem_classes="medx-inline-form"):
        chosen = gr.Dropdown(
            [], label="Session, token or link to end", elem_id=f"medx-{whose}-session", min_width=220
        )
        end = gr.Button("End it", elem_id=f"medx-end-{whose}-session", scale=0, min_width=100)
        every = gr.Button(
            all_label, elem_id=f"medx-end-{whose}-sessions", scale=0, min_width=240 if whose == "own" else 130
        )
    return listed, chosen, report, end, every
