"""Ask: one question, answered steered and unsteered side by side, under an address of its own."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from medx_core.categories import Category
from medx_core.data.bundled_texts import bundled_statements, free_text_questions
from medx_core.data.patient_data import Screening, screened_text
from medx_core.errors import MedxError
from medx_core.jobs.status import JobKind
from medx_core.jobs.submission import read_question_text
from medx_core.questions import ARM_CHOICES, Mode
from medx_core.settings import PatientDataRule
from medx_core.storage.evidence import KnownEvidence
from medx_core.storage.people import Person, Role
from web import wording
from web.following import QuestionView, follow, look, visible_job
from web.frame import ADDRESS, QUERY, QUIET, heading, model_line, on_load, page_frame
from web.handler_guard import beside, guarded, reaches
from web.health_and_metrics import SUBMITTED
from web.rendering import fault, note, render
from web.services import Services
from web.submission import submit_question

RECENT = 12
FOLLOWING = QUIET | {"concurrency_limit": None}
MASKED, AS_IT_IS = "Ask masked", "Ask as written"
EXAMPLES = ("triage-053t", "free-literature-18", "patient-facing-039t")
"""Bundled statements and questions to try, one per category; the statements are true, and from the test split, so that
no vector was fitted on them."""
# What may identify a patient comes into view, and whoever asks by keyboard goes on by keyboard, at the safer choice. Two
# frames later, when it can be seen.
FOCUS = (
    "() => { requestAnimationFrame(() => requestAnimationFrame(() => { "
    "const first = document.getElementById('medx-masked'); "
    "if (!first || first.offsetParent === null) return; "
    "document.getElementById('medx-identifiers').scrollIntoView({ block: 'center' }); "
    "first.focus({ preventScroll: true }); })); return []; }"
)


@dataclass(frozen=True)
class Example:
    """A question to try, with its category and the form of answer that suits it."""

    text: str
    category: Category
    mode: Mode


def examples() -> tuple[Example, ...]:
    """Return the examples of the page."""
    known = {
        statement.id: Example(statement.statement, statement.category, Mode.VERDICT)
        for statement in bundled_statements()
    } | {
        question.id: Example(question.question, question.category, Mode.TEXT)
        for question in free_text_questions()
    }
    return tuple(known[name] for name in EXAMPLES if name in known)


@dataclass(frozen=True)
class _IdentifierWarning:
    """What is shown instead of storing a question that may identify a patient, with two ways to go on.

    The text of the warned question stays in the browser, so that agreeing to it agrees to nothing written afterwards.
    """

    row: gr.Row
    sentence: gr.HTML
    masked: gr.Button
    as_it_is: gr.Button
    warned_text: gr.Textbox

    @property
    def shown(self) -> list[Any]:
        """What `_warned` and `_no_warning` fill."""
        return [self.row, self.sentence, self.warned_text]


def _build_warning() -> _IdentifierWarning:
    with gr.Row(visible=False, elem_classes="medx-confirm", elem_id="medx-identifiers") as row:
        sentence = gr.HTML(elem_classes="medx-stored")
        masked = gr.Button(MASKED, variant="primary", scale=0, min_width=130, elem_id="medx-masked")
        as_it_is = gr.Button(AS_IT_IS, scale=0, min_width=150, elem_id="medx-as-it-is")
    return _IdentifierWarning(row, sentence, masked, as_it_is, gr.Textbox(visible="hidden"))


def _warned(text: str, masked: str, screening: Screening) -> tuple[Any, ...]:
    shown = render("identifier_warning.html", sentence=wording.may_identify(screening.kinds), masked=masked)
    return gr.update(visible=True), shown, text


def _no_warning() -> tuple[Any, ...]:
    return gr.update(visible=False), "", ""


@dataclass(frozen=True)
class _Parts:
    """The parts of the page that handlers read or fill."""

    question: gr.Textbox
    mode: gr.Radio
    category: gr.Dropdown
    arm: gr.Radio
    refused: gr.HTML
    ask: gr.Button
    cancel: gr.Button
    warning: _IdentifierWarning
    again: gr.Row
    answer: gr.HTML
    recent: gr.HTML
    job_id: gr.Textbox

    @property
    def form(self) -> list[Any]:
        """What is submitted."""
        return [self.question, self.mode, self.category, self.arm]

    @property
    def shown(self) -> list[Any]:
        """What follows an answer."""
        return [self.ask, self.cancel, self.again, self.answer]


def build(services: Services) -> None:
    """Build the page inside the blocks that are open."""
    page_frame(services, "")
    with gr.Column(elem_classes="medx-page"):
        heading("Ask a clinical question")
        model_line(services)
        question, mode, category, arm = _form(services)
        refused = gr.HTML(elem_id="medx-refused", elem_classes="medx-told")
        with gr.Row(elem_classes="medx-actions"):
            ask = gr.Button("Ask", variant="primary", elem_id="medx-ask", scale=0, min_width=140)
            cancel = gr.Button("Cancel", visible=False, elem_id="medx-cancel", scale=0, min_width=110)
        warning = _build_warning()
        with gr.Row(elem_classes="medx-tries"):
            gr.HTML(note("Try"), elem_classes="medx-inline")
            tried = {
                example: gr.Button(example.text, size="sm", elem_classes="medx-example")
                for example in examples()
            }
        answer = gr.HTML(elem_id="medx-answer")
        with gr.Row(visible=False, elem_classes="medx-again", elem_id="medx-again") as again:
            gr.HTML(note("Not the right category? Answer it as"), elem_classes="medx-inline")
            categories = [
                gr.Button(name, size="sm", scale=0, min_width=120) for name in wording.CATEGORY_NAMES.values()
            ]
        with gr.Accordion("Recent questions", open=False):
            recent = gr.HTML(elem_id="medx-recent")
    job_id = gr.Textbox(visible="hidden", elem_id="medx-job")
    parts = _Parts(
        question, mode, category, arm, refused, ask, cancel, warning, again, answer, recent, job_id
    )
    _wire(services, parts, tried, categories)


def _form(services: Services) -> tuple[gr.Textbox, gr.Radio, gr.Dropdown, gr.Radio]:
    with gr.Group(elem_classes="medx-form"):
        question = gr.Textbox(
            label="Question, or a statement to be judged TRUE or FALSE",
            info=wording.patient_data(services.settings.patient_data),
            placeholder="Is chest pain that spreads to the left arm an emergency?",
            lines=3,
            max_lines=10,
            max_length=services.settings.max_question_characters,
            elem_id="medx-question",
            autofocus=True,
        )
        with gr.Row(elem_classes="medx-choices"):
            mode = gr.Radio(
                wording.MODE_CHOICES,
                value="verdict",
                label="Answer as",
                elem_id="medx-mode",
                min_width=230,
                scale=3,
            )
            category = gr.Dropdown(
                wording.CATEGORY_CHOICES,
                value="auto",
                label="Category",
                elem_id="medx-category",
                min_width=150,
                scale=2,
            )
            arm = gr.Radio(
                wording.ARM_CHOICES, value="both", label="Compare", elem_id="medx-arm", min_width=330, scale=4
            )
    return question, mode, category, arm


def _wire(
    services: Services, parts: _Parts, tried: Mapping[Example, gr.Button], categories: Sequence[gr.Button]
) -> None:
    page, guard = _AskHandlers(services), guarded(services)

    def followed(started: Any) -> None:
        """After a submission: write the address, follow to the end, refresh the list."""
        address = ADDRESS.format(name="question")
        named = started.success(None, [parts.job_id], None, js=address, api_visibility="private")
        end = named.then(guard(page.watch), [parts.job_id], parts.shown, **FOLLOWING)
        end.then(guard(page.list_recent), None, [parts.recent], **QUIET)

    triggers, warning = [parts.ask.click, parts.question.submit], parts.warning
    submitted = [parts.refused, parts.question, parts.job_id, *warning.shown]

    def telling(handler: Callable[..., Any]) -> Callable[..., Any]:
        """A handler that fills `submitted`; why it refuses stands between the question and its button."""
        return guard(beside(handler, fills=len(submitted) - 1))

    asked = gr.on(triggers, telling(page.submit), parts.form, submitted, **QUIET)
    asked.success(None, None, None, js=FOCUS, api_visibility="private")
    followed(asked)
    followed(warning.masked.click(telling(page.submit_masked), parts.form, submitted, **QUIET))
    confirmed = [*parts.form, warning.warned_text]
    followed(warning.as_it_is.click(telling(page.submit_as_it_is), confirmed, submitted, **QUIET))
    for category, button in zip(wording.CATEGORY_NAMES, categories, strict=True):
        chosen = [parts.refused, parts.job_id, parts.category]
        again = guard(beside(page.again_as(category), fills=2))
        followed(button.click(again, [parts.job_id], chosen, **QUIET))
    parts.cancel.click(guard(page.cancel), [parts.job_id], None, **QUIET)
    for example, button in tried.items():
        filled = [parts.refused, parts.question, parts.mode, *warning.shown]
        button.click(guard(page.filling(example)), None, filled, **QUIET)
    restored = [parts.job_id, *parts.form, *parts.shown]
    on_load(guard(page.restore), [parts.job_id], restored, js=QUERY.format(name="question"), unlimited=True)
    on_load(guard(page.list_recent), None, [parts.recent])


class _AskHandlers:
    """The handlers, each for a signed-in person."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def submit(self, person: Person, text: str, mode: str, category: str, arm: str) -> tuple[Any, ...]:
        """Commit the question; where it may identify a patient, show what would be stored and store nothing yet."""
        settings = self._services.settings
        question = read_question_text(text, max_characters=settings.max_question_characters)
        if settings.patient_data is PatientDataRule.MASK:
            masked, screening = screened_text(question, PatientDataRule.MASK)
            if screening:
                return gr.skip(), gr.skip(), *_warned(text, masked, screening)
        return gr.skip(), self._submit(person, text, mode, category, arm), *_no_warning()

    def submit_masked(self, person: Person, text: str, mode: str, category: str, arm: str) -> tuple[Any, ...]:
        """Commit the question without what may identify a patient, and show it so."""
        masked, _ = screened_text(text, PatientDataRule.MASK)
        return masked, self._submit(person, masked, mode, category, arm), *_no_warning()

    def submit_as_it_is(
        self, person: Person, text: str, mode: str, category: str, arm: str, warned_text: str
    ) -> tuple[Any, ...]:
        """Commit the question the person was warned of; a changed one is checked first."""
        if text != warned_text:
            return self.submit(person, text, mode, category, arm)
        job_id = self._submit(person, text, mode, category, arm, as_written=True)
        return gr.skip(), job_id, *_no_warning()

    def _submit(
        self, person: Person, text: str, mode: str, category: str, arm: str, *, as_written: bool = False
    ) -> str:
        job, screening = submit_question(
            self._services, person, text, mode=mode, category=category, arm=arm, as_written=as_written
        )
        if screening and not as_written:
            gr.Info(screening.sentence())
        SUBMITTED.labels("question").inc()
        return job.public_id

    async def watch(self, person: Person, public_id: str) -> AsyncIterator[tuple[Any, ...]]:
        """Show the question until it is answered; without one nothing changes."""
        if not public_id:
            yield (gr.skip(),) * 4  # a stream that yields nothing would empty what it fills
            return
        async for view in follow(self._services, public_id, person):
            yield self._shown(view, person)

    async def restore(self, person: Person, public_id: str) -> AsyncIterator[tuple[Any, ...]]:
        """Show the question in the address, if there is one."""
        if not public_id:
            yield ("", *(gr.skip() for _ in range(8)))
            return
        try:
            async for view in follow(self._services, public_id, person):
                form = (view.item.text, view.job.mode.value, gr.skip(), _arm_choice(view))
                yield (public_id, *form, *self._shown(view, person))
        except MedxError as error:
            yield ("", *(gr.skip() for _ in range(7)), fault(str(error)))

    def again_as(self, category: Category) -> Callable[..., tuple[str, str]]:
        """Return the handler that asks the question on the page again in this category."""

        def submit_again(person: Person, public_id: str) -> tuple[str, str]:
            view = look(self._services, public_id, person)
            mode, arm = view.job.mode.value, _arm_choice(view)
            # What is stored was masked, or the person said that it names no patient.
            job_id = self._submit(person, view.item.text, mode, category.value, arm, as_written=True)
            return job_id, category.value

        return submit_again

    def filling(self, example: Example) -> Callable[..., tuple[Any, ...]]:
        """Return the handler that puts an example into the form."""

        def fill(person: Person) -> tuple[Any, ...]:  # noqa: ARG001 - every guarded handler takes the person
            return "", example.text, example.mode.value, *_no_warning()

        return fill

    def cancel(self, person: Person, public_id: str) -> None:
        """Cancel the question on the page; the text so far is kept."""
        self._services.jobs.cancel(visible_job(self._services, public_id, person).public_id)

    def list_recent(self, person: Person) -> Markup:
        """List the person's latest questions."""
        jobs = self._services.jobs.recent(person.id, limit=4 * RECENT)
        questions = [job for job in jobs if job.kind is JobKind.QUESTION][:RECENT]
        return render("recent_questions.html", jobs=questions)

    def _shown(self, view: QuestionView, person: Person) -> tuple[Any, ...]:
        """Return what the ask button, the cancel button, the row of categories and the answer show."""
        answer = view.recipe_answer
        return (
            gr.update(interactive=view.finished),
            gr.update(visible=not view.finished),
            gr.update(visible=view.finished and bool(view.item.answers)),
            question_html(
                view,
                self._services.evidence.of_answer(answer) if answer else KnownEvidence(),
                administrator=reaches(person, Role.ADMIN),
            ),
        )


def question_html(view: QuestionView, evidence: KnownEvidence, *, administrator: bool = False) -> Markup:
    """Show a question with everything that is known of it by now.

    `evidence` is what is known of the recipe that answered, with the evaluation behind that; `administrator` is whether
    an administrator reads it.
    """
    return render("question.html", view=view, evidence=evidence, administrator=administrator)


def _arm_choice(view: QuestionView) -> str:
    return next((name for name, arms in ARM_CHOICES.items() if arms == view.job.arms), "both")
