"""The vectors part of Admin: see the versions; promote, retire or roll back one, each after a confirmation."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from medx_core.errors import BadInput, VectorRefused
from medx_core.evaluation.vector_findings import gain_sentence, warnings_of
from medx_core.storage.people import Person, Role
from medx_core.storage.vectors import VectorRecord, VectorStatus, check_file, provenance_of
from web import wording
from web.evidence import Evidence
from web.frame import QUIET, heading, on_load
from web.handler_guard import guarded
from web.rendering import render
from web.services import Services

PROMOTE, RETIRE, ROLL_BACK = "Promote", "Retire", "Roll back"
ACTIONS = {PROMOTE: "vector promoted", RETIRE: "vector retired", ROLL_BACK: "vector rolled back"}
_END_OF_VERDICT = re.compile(r": |\. ")


@dataclass(frozen=True)
class VectorHandlers:
    """The handlers, each for a signed-in administrator; all return what the part then shows."""

    services: Services

    def show(self, person: Person) -> tuple[Any, ...]:  # noqa: ARG002 - every guarded handler takes the person
        """Show the versions."""
        return self._shown("")

    def ask(self, person: Person, action: str, vector_id: int | None) -> tuple[Any, ...]:  # noqa: ARG002 - as above
        """Say what the action would do; nothing is done yet."""
        vector = self._vector(vector_id)
        sentence = self._consequence(action, vector)
        known_of = self._checked(action, vector)
        row = gr.update(visible=True)
        return (
            sentence,
            row,
            confirm_html(sentence, known_of, self.services.evidence),
            gr.update(value=action),
            "",
        )

    def put_off(self, person: Person) -> Any:  # noqa: ARG002 - as above
        """Hide the confirmation, because another vector was chosen."""
        return gr.update(visible=False)

    def act(self, person: Person, action: str, vector_id: int | None, agreed: str) -> tuple[Any, ...]:
        """Do what was confirmed, unless it would now do something else."""
        vector = self._vector(vector_id)
        if self._consequence(action, vector) != agreed:
            raise BadInput("Somebody has changed the vectors meanwhile. Reload the page and look again.")
        self._checked(action, vector)
        self._done(action, vector)
        detail = {"id": vector.id, "file_sha256": vector.file_sha256}
        self.services.audit.append(person.name, ACTIONS[action], f"{vector.model} {vector.name}", detail)
        return self._shown(f"Done: {agreed.split('?')[0]}. Workers use it within seconds.")

    def _done(self, action: str, vector: VectorRecord) -> None:
        store = self.services.vectors
        if action == PROMOTE:
            store.promote(vector.id)
        elif action == RETIRE:
            store.retire(vector.id)
        else:
            store.roll_back(vector.model_sha256, vector.category)

    def _checked(self, action: str, vector: VectorRecord) -> VectorRecord:
        """Return the vector that the action is about: the one it puts to use, else the one that was chosen.

        Raises:
            VectorRefused: it would be put to use, but its file is missing here or was changed, so that a worker
                could not read it and would answer unsteered.
        """
        if action == RETIRE:
            return vector
        _, before = self._around(vector)
        about = before if action == ROLL_BACK and before else vector
        try:
            check_file(self.services.settings.vectors_folder, about)
        except VectorRefused as error:
            command = f"medx vectors {action.lower().replace(' ', '-')} {vector.id}"
            raise VectorRefused(
                f"{error} If the workers keep their vectors on another machine, run {command} there."
            ) from error
        return about

    def _vector(self, vector_id: int | None) -> VectorRecord:
        if vector_id is None:
            raise BadInput("Choose a vector first.")
        return self.services.vectors.get(vector_id)

    def _consequence(self, action: str, vector: VectorRecord) -> str:
        present, before = self._around(vector)
        return consequence(action, vector, present=present, before=before)

    def _around(self, vector: VectorRecord) -> tuple[VectorRecord | None, VectorRecord | None]:
        """Return the vector in use for the same model and category, and the one in use before that."""
        store = self.services.vectors
        present = store.active(vector.model_sha256).get(vector.category)
        before = None if present is None or present.replaced_id is None else store.get(present.replaced_id)
        return present, before

    def _shown(self, sentence: str) -> tuple[Any, ...]:
        vectors = self.services.vectors.list()
        choices = [(_title(vector), vector.id) for vector in vectors]
        return (
            vectors_html(vectors, self.services.evidence, self.services.settings.vectors_folder),
            gr.update(choices=choices, value=None),
            gr.update(visible=False),
            render("report_line.html", sentence=sentence),
        )


def build_vectors(services: Services) -> None:
    """Build the part inside the page that is open."""
    heading("Models and vectors", level=2)
    listed = gr.HTML(elem_id="medx-vectors")
    report = gr.HTML(elem_id="medx-vectors-report")
    with gr.Row(elem_classes="medx-inline-form"):
        chosen = gr.Dropdown([], label="Vector", elem_id="medx-vector", min_width=300)
        buttons = [
            gr.Button(action, scale=0, min_width=110, elem_id=f"medx-{action.lower().replace(' ', '-')}")
            for action in ACTIONS
        ]
    with gr.Row(visible=False, elem_classes="medx-confirm", elem_id="medx-confirm") as row:
        question = gr.HTML(elem_classes="medx-inline")
        yes = gr.Button(PROMOTE, variant="primary", scale=0, min_width=110, elem_id="medx-yes")
        no = gr.Button("Leave it", scale=0, min_width=110, elem_id="medx-no")
    agreed = gr.Textbox(visible="hidden")
    part, guard, shown = (
        VectorHandlers(services),
        guarded(services, Role.ADMIN),
        [listed, chosen, row, report],
    )
    on_load(guard(part.show), None, shown)
    for button in buttons:
        button.click(guard(part.ask), [button, chosen], [agreed, row, question, yes, report], **QUIET)
    yes.click(guard(part.act), [yes, chosen, agreed], shown, **QUIET)
    no.click(guard(part.show), None, shown, **QUIET)
    chosen.input(guard(part.put_off), None, [row], **QUIET)


def vectors_html(vectors: Sequence[VectorRecord], evidence: Evidence, folder: Path) -> Markup:
    """List the vector versions with what is known of each.

    How a vector was built is read from its file in `folder`; where the file cannot be used, the row says so.
    """
    return render("vectors.html", rows=[_row(vector, evidence, folder) for vector in vectors])


def _row(vector: VectorRecord, evidence: Evidence, folder: Path) -> dict[str, Any]:
    sentence, run_id = evidence.of(vector)
    if run_id:  # the verdict alone; the link leads to the rest
        sentence = _END_OF_VERDICT.split(sentence, maxsplit=1)[0].rstrip(".") + "."
    try:
        made = provenance_of(folder, vector).in_words(vector.strategy)
    except VectorRefused as error:
        made = str(error)
    norm = vector.diagnostics.get("norm")
    return {
        "vector": vector,
        "state": _state(vector),
        "made": made,
        "norm": f"{norm:.3g}" if isinstance(norm, (int, float)) else "",
        "evidence": sentence,
        "run_id": run_id,
    }


def consequence(
    action: str, vector: VectorRecord, *, present: VectorRecord | None, before: VectorRecord | None
) -> str:
    """Ask whether to do it, and say what it does; `present` is in use now, `before` was in use before it.

    Raises:
        BadInput: there is nothing to do, or no such action.
    """
    questions = f"{wording.category_name(vector.category)} questions on {vector.model}"
    if action == PROMOTE and vector.status is not VectorStatus.ACTIVE:
        now = f"in place of {present.name}" if present else "where none is in use"
        return f"Use {vector.name} for {questions}, {now}?"
    if action == RETIRE and vector.status is not VectorStatus.RETIRED:
        after = f" Then {questions} are answered unsteered." if vector.status is VectorStatus.ACTIVE else ""
        return f"Retire {vector.name}?{after}"
    if action == ROLL_BACK and present is not None and before is not None:
        return f"Roll back from {present.name} to {before.name} for {questions}?"
    raise BadInput(
        {
            PROMOTE: f"{vector.name} is already in use.",
            RETIRE: f"{vector.name} is already retired.",
            ROLL_BACK: f"There is no earlier vector for {questions} to roll back to.",
        }.get(action, f"There is no action {action!r}.")
    )


def confirm_html(sentence: str, vector: VectorRecord, evidence: Evidence) -> Markup:
    """Show what an action would do, with what is known of the vector."""
    diagnostics = vector.diagnostics
    known = [evidence.of(vector)[0], gain_sentence(diagnostics)]
    relative_norm = diagnostics.get("relative_norm")
    if isinstance(relative_norm, (int, float)):
        known.append(f"It moves states by {100 * relative_norm:.2g} % of the residual stream.")
    return render("vector_confirm.html", sentence=sentence, known=known, warnings=warnings_of(diagnostics))


def _state(vector: VectorRecord) -> str:
    return "in use" if vector.status is VectorStatus.ACTIVE else vector.status.value


def _title(vector: VectorRecord) -> str:
    return f"{vector.name} for {vector.model}, {_state(vector)}"
