"""The form that starts an evaluation: which statements, how many, what is judged; and how long it may take."""

from typing import Any

import gradio as gr

from medx_core.errors import MedxError
from medx_core.evaluation.report.words import arm_title
from medx_core.evaluation.request import DECLARED, EXTRA_ARMS, STEERED
from medx_core.storage.people import Person, Role
from web import evaluations
from web.evaluations import ALL, FILE, OWN_SIZES, StartForm
from web.handler_guard import guarded
from web.rendering import note, render
from web.services import Services
from web.uploads import file_field

QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
SOURCES = [("The bundled statements", "bundled"), ("A file", FILE)]
SIZES = [
    ("All statements", ALL),
    ("The paper's protocol: 1,077 drawn, 861 / 216", "paper"),
    ("Sizes of my own", OWN_SIZES),
]
FILE_MEANING = "The file needs the columns statement and answer; pair, split, category, harm and difficulty are understood."


def build_start(services: Services) -> gr.Textbox:
    """Build the form inside the part that is open; return what holds the id of the evaluation it started."""
    source = gr.Radio(SOURCES, value="bundled", label="Statements", elem_id="medx-eval-source")
    with gr.Column(visible=False) as uploading:
        path = file_field(
            label="Choose or drop a file: CSV, TSV or JSONL",
            file_types=[".csv", ".tsv", ".jsonl"],
            height=130,
            elem_id="medx-eval-upload",
        )
        gr.HTML(note(FILE_MEANING))
    # The bundled statements have a split of their own, so that only a file leaves a choice.
    preset = gr.Radio(SIZES, value=ALL, label="How many", elem_id="medx-eval-preset", visible=False)
    with gr.Row(visible=False) as own:
        sample = gr.Number(None, label="Draw", precision=0, min_width=110, info="empty: all")
        train = gr.Number(None, label="To train", precision=0, min_width=110, info="empty: four fifths")
        test = gr.Number(None, label="To test", precision=0, min_width=110, info="empty: one fifth")
    with gr.Row():
        seed = gr.Number(1, label="Seed", precision=0, minimum=0, min_width=110, scale=1)
        declared = gr.Dropdown(
            [(arm_title(name), name) for name in STEERED],
            value=DECLARED,
            label="Judge this arm",
            info="declared beforehand; the others are exploratory",
            min_width=220,
            scale=2,
        )
        extra = gr.CheckboxGroup(
            [(arm_title(name), name) for name in EXTRA_ARMS], label="Run these too", min_width=220, scale=2
        )
    check = gr.HTML(elem_id="medx-eval-check")
    begin = gr.Button("Start", variant="primary", elem_id="medx-eval-start", scale=0, min_width=140)
    started = gr.Textbox(visible="hidden")
    fields = [source, path, preset, sample, train, test, seed, declared, extra]
    form, guard = _StartPart(services), guarded(services, Role.ADMIN)
    source.change(guard(form.choose_source), [source], [uploading, preset], **QUIET, concurrency_limit=8)
    preset.change(guard(form.choose_sizes), [preset], [own], **QUIET, concurrency_limit=8)
    changes = [field.change for field in (source, path, preset, sample, train, test, declared, extra)]
    looking = {"concurrency_limit": 2, "trigger_mode": "always_last"}
    gr.on(changes, guard(form.look), fields, [check], **QUIET, **looking)
    begin.click(guard(form.start), fields, [started], **QUIET, concurrency_limit=2)
    return started


class _StartPart:
    """The handlers, each for a signed-in administrator."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def choose_source(self, person: Person, source: str) -> tuple[Any, Any]:  # noqa: ARG002 - every guarded handler takes the person
        """Ask for a file, and how much of it, only when one is wanted."""
        wanted = source == FILE
        return gr.update(visible=wanted), gr.update(visible=wanted, value=ALL)

    def choose_sizes(self, person: Person, preset: str) -> Any:  # noqa: ARG002 - as above
        """Ask for sizes only when they are somebody's own."""
        return gr.update(visible=preset == OWN_SIZES)

    def look(self, person: Person, *values: Any) -> str:  # noqa: ARG002 - as above
        """Say what would be run, or what is still missing, without queueing anything."""
        try:
            return render(
                "evaluation_check.html", checked=evaluations.checked(self._services, StartForm(*values))
            )
        except MedxError as error:
            return note(str(error), "medx-remark")

    def start(self, person: Person, *values: Any) -> str:
        """Queue the evaluation and return its id."""
        return evaluations.start(self._services, person, StartForm(*values)).public_id
