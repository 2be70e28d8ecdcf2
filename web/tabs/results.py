"""Results: pick an evaluation, read what came of it, put two side by side; an administrator starts one."""

from typing import Any

import gradio as gr

from medx_core.clock import utc_now
from medx_core.errors import MedxError
from medx_core.evaluation.report.page import results_section, stylesheet
from medx_core.evaluation.report.tables import side_by_side
from medx_core.evaluation.result import read_result
from medx_core.job_execution.evaluation_run import EVALUATION, EVALUATOR
from medx_core.storage.people import Person, Role
from medx_core.storage.runs import Run, RunStatus
from web import wording
from web.downloads import finished_evaluation
from web.evaluations import RUNS_SHOWN, ahead_of, cancel
from web.frame import QUERY, QUIET, heading, on_load, page_frame
from web.handler_guard import guarded, reaches
from web.rendering import fault, note, render
from web.services import Services
from web.tabs.evaluation_start import build_start

POLL_SECONDS = 2.0
LISTS = 5
"""How many components `_ResultsPage._lists` fills."""
# With the path, because the pages have another base address.
TO_RUN = "(id) => { if (id) history.replaceState(null, '', location.pathname + '?run=' + encodeURIComponent(id)); return []; }"
SENTENCE = "What steering does to the model, measured against controls that a gain must beat."


def build(services: Services) -> None:
    """Build the page inside the blocks that are open."""
    page_frame(services, "results")
    with gr.Column(elem_classes="medx-page medx-results"):
        heading("Results", SENTENCE)
        with gr.Row(elem_classes="medx-choices", visible=False) as choices:
            chosen = gr.Dropdown([], label="Evaluation", elem_id="medx-evaluation", scale=3, min_width=300)
            other = gr.Dropdown([], label="Compare with", elem_id="medx-other", scale=2, min_width=240)
        with gr.Accordion(
            "All evaluations", open=False, visible=False, elem_id="medx-all-evaluations"
        ) as every:
            listed = gr.HTML(elem_id="medx-evaluations")
        with gr.Accordion(
            "Start an evaluation", open=False, visible=False, elem_id="medx-start-evaluation"
        ) as starting:
            started = build_start(services)
        status = gr.HTML(elem_id="medx-run-status")
        with gr.Row(elem_classes="medx-actions"):
            links = gr.HTML(elem_classes="medx-inline", elem_id="medx-run-links")
            stop = gr.Button("Cancel", elem_id="medx-cancel-run", visible=False, scale=0, min_width=110)
        beside = gr.HTML(elem_id="medx-beside")
        # Its own stylesheet is enough; Gradio's prose would set lists and headings anew.
        report = gr.HTML(elem_id="medx-report", apply_default_css=False)
    timer = gr.Timer(POLL_SECONDS, active=False)
    page, guard = _ResultsPage(services), guarded(services)
    lists, shown = [choices, every, chosen, other, listed], [status, links, stop, beside, report, timer]
    wanted = gr.Textbox(visible="hidden")
    on_load(guard(page.open), [wanted], [starting, *lists, *shown], js=QUERY.format(name="run"))
    picked = chosen.input(guard(page.show), [chosen, other], shown, **QUIET)
    picked.then(None, [chosen], None, js=TO_RUN, api_visibility="private")
    other.input(guard(page.show), [chosen, other], shown, **QUIET)
    timer.tick(guard(page.follow), [chosen, other], [*lists, *shown], **QUIET)
    stop.click(guarded(services, Role.ADMIN)(page.cancel), [chosen, other], [*lists, *shown], **QUIET)
    begun = started.change(guard(page.began), [started], [*lists, *shown], **QUIET)
    begun.then(None, [chosen], None, js=TO_RUN, api_visibility="private")


class _ResultsPage:
    """The handlers, each for a signed-in person."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def open(self, person: Person, wanted: str) -> tuple[Any, ...]:
        """Show the evaluation of the address, else the newest that finished."""
        runs = self._runs()
        newest = next((run for run in runs if run.status is RunStatus.DONE), runs[0] if runs else None)
        chosen = wanted or (newest.public_id if newest else None)
        may_start = gr.update(visible=reaches(person, Role.ADMIN), open=not runs)
        return may_start, *self._lists(runs, chosen, None), *self._shown(person, chosen, None)

    def show(self, person: Person, public_id: str | None, other: str | None) -> tuple[Any, ...]:
        """Show an evaluation, beside another one if that was chosen."""
        return self._shown(person, public_id, other)

    def follow(self, person: Person, public_id: str | None, other: str | None) -> tuple[Any, ...]:
        """Show the progress of a running evaluation; lists that do not change meanwhile are left alone."""
        shown = self._shown(person, public_id, other)
        if public_id and not self._services.runs.get(public_id).finished:
            return (*(gr.skip() for _ in range(LISTS)), *shown)
        return *self._lists(self._runs(), public_id, other), *shown

    def cancel(self, person: Person, public_id: str | None, other: str | None) -> tuple[Any, ...]:
        """Cancel the evaluation that is shown."""
        if public_id:
            cancel(self._services, person, public_id)
        return *self._lists(self._runs(), public_id, other), *self._shown(person, public_id, other)

    def began(self, person: Person, public_id: str) -> tuple[Any, ...]:
        """Show the evaluation that was just started."""
        return *self._lists(self._runs(), public_id, None), *self._shown(person, public_id, None)

    def _runs(self) -> tuple[Run, ...]:
        return self._services.runs.list(EVALUATION, limit=RUNS_SHOWN)

    def _lists(self, runs: tuple[Run, ...], chosen: str | None, other: str | None) -> tuple[Any, ...]:
        """Return what the two choices and the list of all evaluations show; without an evaluation they are hidden."""
        choices = [(wording.evaluation_title(run), run.public_id) for run in runs]
        if chosen and chosen not in {run.public_id for run in runs}:
            choices.append(("an older evaluation", chosen))
        done = [("nothing", "")]
        done += [
            (wording.evaluation_title(run), run.public_id) for run in runs if run.status is RunStatus.DONE
        ]
        any_run = gr.update(visible=bool(choices))
        return (
            any_run,
            any_run,
            gr.update(choices=choices, value=chosen),
            gr.update(choices=done, value=other or ""),
            render("evaluations.html", runs=runs),
        )

    def _shown(self, person: Person, public_id: str | None, other: str | None) -> tuple[Any, ...]:
        """Return what status, links, the cancel button, comparison, report and timer show."""
        if not public_id:
            sentence = wording.NO_EVALUATION[reaches(person, Role.ADMIN)]
            return note(sentence, "medx-first"), "", gr.update(visible=False), "", "", gr.Timer(active=False)
        try:
            run = self._services.runs.get(public_id)
            beside, report = self._beside(run, other), _report(run)
        except MedxError as error:
            return fault(str(error)), "", gr.update(visible=False), "", "", gr.Timer(active=False)
        return (
            self._status(run),
            render("evaluation_links.html", run=run) if run.status is RunStatus.DONE else "",
            gr.update(visible=not run.finished and reaches(person, Role.ADMIN)),
            beside,
            report,
            gr.Timer(active=not run.finished),
        )

    def _status(self, run: Run) -> str:
        if run.status is RunStatus.DONE:
            return ""
        waiting = ""
        if run.status is RunStatus.QUEUED:
            has_worker = bool(self._services.live_workers(EVALUATOR))
            waiting = wording.evaluation_waiting(ahead_of(run, self._runs()), has_worker=has_worker)
        seconds = (utc_now() - (run.started_at or utc_now())).total_seconds()
        return render("evaluation_status.html", run=run, waiting=waiting, seconds=seconds)

    def _beside(self, run: Run, other: str | None) -> str:
        if not other or other == run.public_id or run.result is None:
            return ""
        second = finished_evaluation(self._services, other)
        sides = side_by_side(read_result(run.result), read_result(second.result))
        return render("evaluation_comparison.html", first=run, second=second, sides=sides)


def _report(run: Run) -> str:
    if run.result is None:
        return ""
    section = results_section(read_result(run.result))
    return render("evaluation_report.html", section=section, style=stylesheet())
