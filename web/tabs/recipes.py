"""The recipes part of Admin: what answers, with the evidence; promote, retire or roll back one, each after a confirmation."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from medx_core.errors import BadInput, RecipeUnusable, VectorRefused
from medx_core.evaluation.vector_findings import gain_sentence, warnings_of
from medx_core.recipes import ModelIdentity
from medx_core.storage.people import Person, Role
from medx_core.storage.recipes import RecipeName, RecipeRecord, RecipeStatus, RecipeStore
from medx_core.storage.vectors import VectorRecord, provenance_of
from web.frame import QUIET, heading, on_load
from web.handler_guard import guarded
from web.rendering import render
from web.services import Services

PROMOTE, RETIRE, ROLL_BACK = "Promote", "Retire", "Roll back"
ACTIONS = {PROMOTE: "recipe promoted", RETIRE: "recipe retired", ROLL_BACK: "recipe rolled back"}
_END_OF_VERDICT = re.compile(r": |\. ")


@dataclass(frozen=True)
class RecipeHandlers:
    """The handlers, each for a signed-in administrator; all return what the part then shows."""

    services: Services

    def show(self, person: Person) -> tuple[Any, ...]:  # noqa: ARG002 - every guarded handler takes the person
        """Show the recipes and the vectors."""
        return self._shown("")

    def ask(self, person: Person, action: str, recipe_id: str | None) -> tuple[Any, ...]:  # noqa: ARG002 - as above
        """Say what the action would do, with the evidence; nothing is done yet."""
        record = self._recipe(recipe_id)
        sentence = self._consequence(action, record)
        about = self._checked(action, record)
        row = gr.update(visible=True)
        return sentence, row, confirm_html(self.services, sentence, about), gr.update(value=action), ""

    def put_off(self, person: Person) -> Any:  # noqa: ARG002 - as above
        """Hide the confirmation, because another recipe was chosen."""
        return gr.update(visible=False)

    def act(self, person: Person, action: str, recipe_id: str | None, agreed: str) -> tuple[Any, ...]:
        """Do what was confirmed, unless it would now do something else."""
        record = self._recipe(recipe_id)
        if self._consequence(action, record) != agreed:
            raise BadInput("Somebody has changed the recipes meanwhile. Reload the page and look again.")
        about = self._checked(action, record)
        self._done(action, record)
        evidence = self.services.evidence.of(about.id, about.recipe.model_sha256)
        detail = {"recipe": record.id, "evidence": evidence.run}
        self.services.audit.append(person.name, ACTIONS[action], f"{record.model} {record.shown}", detail)
        return self._shown(f"Done: {agreed.split('?')[0]}. Workers take it up within seconds.")

    def _done(self, action: str, record: RecipeRecord) -> None:
        store = self.services.recipes
        if action == PROMOTE:
            store.promote(record.id, withdrawn=record.status is RecipeStatus.WITHDRAWN)
        elif action == RETIRE:
            store.retire(record.id)
        else:
            store.roll_back(record.recipe.model_sha256, record.recipe.number_type)

    def _checked(self, action: str, record: RecipeRecord) -> RecipeRecord:
        """Return the recipe that the action is about: the one it puts to use, else the one that was chosen.

        Raises:
            BadInput: it would be put to use, but was made for another model than a worker says it has, or a worker says that
                the model refuses a prompt of it.
            VectorRefused: it would be put to use, but a vector of it is missing here or was changed, so that a worker
                could not read it and would answer nothing.
        """
        if action == RETIRE:
            return record
        before = self._around(record)[1]
        about = before if action == ROLL_BACK and before else record
        if action == ROLL_BACK and before is None:
            return about
        for model in models_of_workers(self.services):
            is_meant = (about.recipe.model_sha256, about.recipe.number_type) == (
                model.sha256,
                model.number_type,
            )
            if is_meant and (misfit := about.recipe.misfit(model)):
                raise BadInput(f"{about.shown} could not answer, so nothing was changed: {misfit}.")
        within = self.services.settings.worker_seen_seconds
        if reason := self.services.health.why_unaskable(about.recipe, seen_within_seconds=within):
            raise BadInput(f"{about.shown} could not answer, so nothing was changed: {reason}.")
        try:
            self.services.recipes.vectors_of(about.recipe, self.services.settings.vectors_folder)
        except VectorRefused as error:
            command = f"medx recipes {action.lower().replace(' ', '')} {record.id}"
            raise VectorRefused(
                f"{error} If the workers keep their vectors on another machine, run {command} there."
            ) from error
        return about

    def _recipe(self, recipe_id: str | None) -> RecipeRecord:
        if recipe_id is None:
            raise BadInput("Choose a recipe first.")
        return self.services.recipes.get(recipe_id)

    def _consequence(self, action: str, record: RecipeRecord) -> str:
        present, before, passed_over = self._around(record)
        sentence = consequence(action, record, present=present, before=before)
        return f"{sentence} {passed_over}" if action == ROLL_BACK and passed_over else sentence

    def _around(self, record: RecipeRecord) -> tuple[RecipeName | None, RecipeRecord | None, str]:
        """Return the recipe in use for the same model and number type, the one a rollback leads to, and what it passes over."""
        store, recipe = self.services.recipes, record.recipe
        if store.named_in_use(recipe.model_sha256, recipe.number_type) is None:
            return None, None, ""
        way = store.way_back(recipe.model_sha256, recipe.number_type)
        return way.left, way.before, way.passed_over

    def _shown(self, sentence: str) -> tuple[Any, ...]:
        recipes = self.services.recipes.list()
        choices = [
            (f"{record.shown} for {record.model}, {record.status.value}", record.id) for record in recipes
        ]
        return (
            recipes_html(self.services, recipes),
            gr.update(choices=choices, value=None),
            gr.update(visible=False),
            render("report_line.html", sentence=sentence),
            vectors_html(self.services, self.services.vectors.list()),
        )


def build_recipes(services: Services) -> None:
    """Build the part inside the page that is open."""
    heading("Recipes", level=2)
    listed = gr.HTML(elem_id="medx-recipes")
    report = gr.HTML(elem_id="medx-recipes-report")
    with gr.Row(elem_classes="medx-inline-form"):
        chosen = gr.Dropdown([], label="Recipe", elem_id="medx-recipe", min_width=300)
        buttons = [
            gr.Button(action, scale=0, min_width=110, elem_id=f"medx-{action.lower().replace(' ', '-')}")
            for action in ACTIONS
        ]
    with gr.Row(visible=False, elem_classes="medx-confirm", elem_id="medx-confirm") as row:
        question = gr.HTML(elem_classes="medx-inline")
        yes = gr.Button(PROMOTE, variant="primary", scale=0, min_width=110, elem_id="medx-yes")
        no = gr.Button("Leave it", scale=0, min_width=110, elem_id="medx-no")
    heading("Vectors", level=2)
    vectors = gr.HTML(elem_id="medx-vectors")
    agreed = gr.Textbox(visible="hidden")
    part, guard, shown = (
        RecipeHandlers(services),
        guarded(services, Role.ADMIN),
        [listed, chosen, row, report, vectors],
    )
    on_load(guard(part.show), None, shown)
    for button in buttons:
        button.click(guard(part.ask), [button, chosen], [agreed, row, question, yes, report], **QUIET)
    yes.click(guard(part.act), [yes, chosen, agreed], shown, **QUIET)
    no.click(guard(part.show), None, shown, **QUIET)
    chosen.input(guard(part.put_off), None, [row], **QUIET)


def models_of_workers(services: Services) -> list[ModelIdentity]:
    """Return the models that workers say they have, among those seen lately."""
    seen = (
        worker.detail
        for worker in services.health.processes(kind="worker")
        if worker.seconds_since_seen <= services.settings.worker_seen_seconds
    )
    return [
        ModelIdentity(
            *(str(told[key]) for key in ("model_name", "weight_sha256", "number_type", "identity_sha256"))
        )
        for told in seen
        if told.get("identity_sha256")
    ]


def recipes_html(services: Services, recipes: Sequence[RecipeRecord]) -> Markup:
    """List the recipes, what each steers with, the evidence for it, and why the one in use cannot answer."""
    names = {vector.file_sha256: vector.name for vector in services.vectors.list()}
    refused = {
        worker.detail.get("recipe"): worker.detail["refused"]
        for worker in services.health.processes(kind="worker")
        if worker.waits and worker.seconds_since_seen <= services.settings.worker_seen_seconds
    }
    rows = [_recipe_row(services, record, names) for record in recipes]
    return render(
        "recipes.html",
        rows=[row | {"refused": refused.get(row["record"].id, "")} for row in rows],
        damaged=[known.in_words for known in services.recipes.damaged()],
    )


def _recipe_row(services: Services, record: RecipeRecord, names: dict[str, str]) -> dict[str, Any]:
    recipe = record.recipe
    evidence = services.evidence.of(record.id, recipe.model_sha256)
    sentence = evidence.line
    if evidence.run:  # the verdict alone; the link leads to the rest
        sentence = _END_OF_VERDICT.split(sentence, maxsplit=1)[0].rstrip(".") + "."
        sentence = f"{sentence} {services.evidence.refusals_of(record.id)}".strip()
    vectors = {
        key: names.get(entry.file_sha256, entry.file_sha256[:12]) for key, entry in recipe.steering.items()
    }
    steering = [name if name.startswith(key) else f"{key}: {name}" for key, name in vectors.items()]
    model = ModelIdentity(record.model, recipe.model_sha256, recipe.number_type, recipe.identity_sha256)
    return {
        "record": record,
        "answers": _answers(services, model, record),
        "steering": ", ".join(steering) or "unsteered",
        "prompt": recipe.prompt.version,
        "evidence": sentence,
        "run_id": evidence.run,
    }


def _answers(services: Services, model: ModelIdentity, record: RecipeRecord) -> bool:
    try:
        return services.recipes.standing(model, services.settings).id == record.id
    except RecipeUnusable:  # the row of the one in use was damaged, and nothing answers
        return False


def vectors_html(services: Services, vectors: Sequence[VectorRecord]) -> Markup:
    """List the vector versions with what is known of each.

    How a vector was built is read from its file; where the file cannot be used, the row says so.
    """
    in_use = _in_use(services.recipes, {vector.model_sha256 for vector in vectors})
    return render("vectors.html", rows=[_vector_row(services, vector, in_use) for vector in vectors])


def _in_use(store: RecipeStore, models: Iterable[str]) -> frozenset[tuple[str, str]]:
    return frozenset((model, sha256) for model in models for sha256 in store.vectors_in_use(model))


def _vector_row(
    services: Services, vector: VectorRecord, in_use: frozenset[tuple[str, str]]
) -> dict[str, Any]:
    try:
        made = provenance_of(services.settings.vectors_folder, vector).in_words(vector.strategy)
    except VectorRefused as error:
        made = str(error)
    norm = vector.diagnostics.get("norm")
    is_used = (vector.model_sha256, vector.file_sha256) in in_use
    return {
        "vector": vector,
        "state": "in use" if is_used else vector.status.value,
        "made": made,
        "norm": f"{norm:.3g}" if isinstance(norm, (int, float)) else "",
        "gain": gain_sentence(vector.diagnostics).split(":")[0].rstrip(".") + ".",
    }


def consequence(
    action: str, record: RecipeRecord, *, present: RecipeName | None, before: RecipeRecord | None
) -> str:
    """Ask whether to do it, and say what it does; `present` is in use now, `before` was in use before it.

    Raises:
        BadInput: there is nothing to do, or no such action.
    """
    model, built_in = f"{record.model} in {record.recipe.number_type}", "the built-in recipe"
    is_in_use = record.status is RecipeStatus.IN_USE
    if action == PROMOTE and not is_in_use:
        withdrawn = ", which was withdrawn," if record.status is RecipeStatus.WITHDRAWN else ""
        place = present.shown if present else built_in
        return f"Answer by {record.shown}{withdrawn} on {model}, in place of {place}?"
    if action == RETIRE and record.status not in (RecipeStatus.BUILT_IN, RecipeStatus.WITHDRAWN):
        return f"Retire {record.shown}?{f' Then {built_in} answers on {model}.' if is_in_use else ''}"
    if action == ROLL_BACK and present is not None:
        return f"Roll back from {present.shown} to {before.shown if before else built_in} on {model}?"
    raise BadInput(
        {
            PROMOTE: f"{record.shown} is already in use.",
            RETIRE: f"{record.shown} is {record.status.value} and not in use, so there is nothing to retire.",
            ROLL_BACK: f"No recipe is in use on {model}, so there is nothing to roll back from.",
        }.get(action, f"There is no action {action!r}.")
    )


def confirm_html(services: Services, sentence: str, record: RecipeRecord) -> Markup:
    """Show what an action would do, with what is known of the recipe and of its vectors."""
    hashes = {entry.file_sha256 for entry in record.recipe.steering.values()}
    vectors = [
        vector for vector in services.vectors.list(record.recipe.model_sha256) if vector.file_sha256 in hashes
    ]
    known = [services.evidence.of(record.id, record.recipe.model_sha256).line]
    remarks = [f"{vector.name}: {remark}" for vector in vectors for remark in _remarks(vector)]
    return render("recipe_confirm.html", sentence=sentence, known=known, warnings=remarks)


def _remarks(vector: VectorRecord) -> Iterable[str]:
    yield gain_sentence(vector.diagnostics)
    relative_norm = vector.diagnostics.get("relative_norm")
    if isinstance(relative_norm, (int, float)):
        yield f"It moves states by {100 * relative_norm:.2g} % of the residual stream."
    yield from warnings_of(vector.diagnostics)
