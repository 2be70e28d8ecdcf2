"""The Explore part of Admin: vectors tried on one question at any strength; verdict and text arrive while one looks.

What it shows goes through the queue like every question, is marked as an exploration in the database, and is no
measured answer: it carries no recipe, nobody rates it, and no evidence speaks of it.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr
from markupsafe import Markup

from medx_core.jobs.status import ItemStatus, JobStatus
from medx_core.questions import Exploration, Mode
from medx_core.storage.people import Person, Role
from web import wording
from web.following import QuestionView, follow, look
from web.frame import QUIET, heading, on_load
from web.handler_guard import guarded
from web.rendering import render
from web.services import Services
from web.submission import submit_exploration

STRONGEST, STEP = 4.0, 0.25


def build_explore(services: Services) -> None:
    """Build the part inside the page that is open."""
    heading("Explore", wording.EXPLORE_MEANS, level=2)
    with gr.Row(elem_classes="medx-inline-form"):
        question = gr.Textbox(label="Question or statement", lines=2, elem_id="medx-explored", min_width=300)
        vectors = gr.Dropdown(
            [], multiselect=True, label="Vectors, together", elem_id="medx-explored-vectors", min_width=260
        )
    with gr.Row(elem_classes="medx-inline-form"):
        strength = gr.Slider(
            -STRONGEST,
            STRONGEST,
            value=1.0,
            step=STEP,
            label="Strength, times that of each vector",
            elem_id="medx-strength",
            min_width=300,
        )
        attempt = gr.Button("Try", variant="primary", scale=0, min_width=110, elem_id="medx-explore")
    shown = gr.HTML(elem_id="medx-exploration")
    jobs = gr.State([])
    part, guard = ExploreHandlers(services), guarded(services, Role.ADMIN)
    on_load(guard(part.choices), None, [vectors])
    asked = gr.on(
        [strength.release, question.submit, attempt.click],
        guard(part.submit),
        [question, vectors, strength, jobs],
        [jobs],
        **QUIET,
    )
    asked.success(guard(part.watch), [jobs], [shown], **(QUIET | {"concurrency_limit": None}))


class ExploreHandlers:
    """The handlers, each for a signed-in administrator."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def choices(self, person: Person) -> Any:  # noqa: ARG002 - every guarded handler takes the person
        """List the vectors of all models; a worker refuses those that are not of its own."""
        vectors = self._services.vectors.list()
        return gr.update(choices=[(f"{each.name} for {each.model}", each.file_sha256) for each in vectors])

    def submit(
        self, person: Person, text: str, vectors: list[str], strength: float, before: list[str]
    ) -> list[str]:
        """Commit what is to be tried, in place of what was tried before; return its jobs, the verdict first."""
        exploration = Exploration(tuple(vectors or ()), float(strength))
        jobs = submit_exploration(self._services, person, text, exploration)
        for public_id in before:
            self._services.jobs.cancel(public_id)
        detail = {"vectors": list(exploration.vectors), "strength": exploration.strength}
        self._services.audit.append(person.name, "explore", f"job {jobs[Mode.VERDICT].public_id}", detail)
        return [jobs[mode].public_id for mode in (Mode.VERDICT, Mode.TEXT)]

    async def watch(self, person: Person, jobs: list[str]) -> AsyncIterator[Markup]:
        """Show the verdict and then the text, until both are there or something newer is tried."""
        views = [await asyncio.to_thread(look, self._services, public_id, person) for public_id in jobs]
        for place, public_id in enumerate(jobs):
            async for view in follow(self._services, public_id, person):
                if view.job.status is JobStatus.CANCELLED:
                    return  # something newer is tried, and shown in the same place
                views[place] = view
                yield exploration_html(views)


def exploration_html(views: list[QuestionView]) -> Markup:
    """Show what is there of an exploration: its views are of the same question and vectors, one in each mode."""
    remarks = dict.fromkeys(stored.answer.note for view in views for stored in view.item.answers)
    failed = dict.fromkeys(view.item.reason for view in views if view.item.status is ItemStatus.QUARANTINED)
    return render("exploration.html", views=views, failed=failed, remarks=[each for each in remarks if each])
