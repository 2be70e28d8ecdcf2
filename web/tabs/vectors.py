"""The vectors part of the admin page: look at the versions, promote, retire or go back, each after a second look."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from medx_core.errors import BadInput, VectorRefused
from medx_core.storage.people import Person, Role
from medx_core.storage.vectors import VectorRecord, VectorStatus, check_file
from web.admin_markup import told
from web.frame import on_load
from web.handler_guard import guarded
from web.markup import tag
from web.services import Services
from web.vector_markup import PROMOTE, RETIRE, ROLL_BACK, confirm_html, consequence, vectors_html

QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": 4}
ACTIONS = {PROMOTE: "vector promoted", RETIRE: "vector retired", ROLL_BACK: "vector rolled back"}


@dataclass(frozen=True)
class VectorsPart:
    """The handlers, each for a signed-in administrator; every one returns what the part shows afterwards."""

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
        """Take back the second look, because another vector was chosen."""
        return gr.update(visible=False)

    def act(self, person: Person, action: str, vector_id: int | None, agreed: str) -> tuple[Any, ...]:
        """Do what was agreed to, unless it would now do something else."""
        vector = self._vector(vector_id)
        if self._consequence(action, vector) != agreed:
            raise BadInput("Somebody changed the vectors meanwhile. Reload the page and look again.")
        self._checked(action, vector)
        self._done(action, vector)
        detail = {"id": vector.id, "file_sha256": vector.file_sha256}
        self.services.audit.append(person.name, ACTIONS[action], f"{vector.model} {vector.name}", detail)
        return self._shown(f"Done: {agreed.split('?')[0]}. Workers take it up within seconds.")

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
            VectorRefused: it would be put to use, and its file is missing here or was changed: a worker could not
                read it and would answer unsteered.
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
        """Return the vector in use for the same model and kind of question, and the one in use before that."""
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
            told(sentence) if sentence else "",
        )


def build_vectors(services: Services) -> None:
    """Build the part inside the page that is open."""
    gr.HTML(tag("h2", "Models and vectors"))
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
    part, guard, shown = VectorsPart(services), guarded(services, Role.ADMIN), [listed, chosen, row, report]
    on_load(guard(part.show), None, shown)
    for button in buttons:
        button.click(guard(part.ask), [button, chosen], [agreed, row, question, yes, report], **QUIET)
    yes.click(guard(part.act), [yes, chosen, agreed], shown, **QUIET)
    no.click(guard(part.show), None, shown, **QUIET)
    chosen.input(guard(part.put_off), None, [row], **QUIET)


def _title(vector: VectorRecord) -> str:
    use = "in use" if vector.status is VectorStatus.ACTIVE else vector.status.value
    return f"{vector.name} for {vector.model}, {use}"
