"""Ask: one question, answered steered and plain side by side, under an address of its own."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from medx_core.categories import Category
from medx_core.data.identifiers import identifier_kinds, without_identifiers
from medx_core.errors import MedxError
from medx_core.jobs.snapshots import JobSnapshot
from medx_core.jobs.status import JobKind
from medx_core.jobs.submission import read_question_text
from medx_core.questions import ARM_CHOICES
from medx_core.storage.people import Person
from web import wording
from web.examples import Example, examples
from web.following import QuestionView, follow, look, visible_job
from web.frame import ADDRESS, QUERY, heading, on_load, page_frame
from web.handler_guard import guarded
from web.health_and_metrics import SUBMITTED
from web.markup import fault, link, note, question_html, tag
from web.results_markup import evidence_html
from web.services import Services
from web.submission import submit_question
from web.tabs.identifier_warning import FOCUS, IdentifierWarning, build_warning, put_away, raised

RECENT = 12
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": 8}
FOLLOWING = QUIET | {"concurrency_limit": None}


@dataclass(frozen=True)
class _Parts:
    """The parts of the page that handlers read or fill."""

    question: gr.Textbox
    mode: gr.Radio
    kind: gr.Dropdown
    arm: gr.Radio
    ask: gr.Button
    cancel: gr.Button
    warning: IdentifierWarning
    again: gr.Row
    answer: gr.HTML
    recent: gr.HTML
    job_id: gr.Textbox

    @property
    def form(self) -> list[Any]:
        """What is submitted."""
        return [self.question, self.mode, self.kind, self.arm]

    @property
    def shown(self) -> list[Any]:
        """What follows an answer."""
        return [self.ask, self.cancel, self.again, self.answer]


def build(services: Services) -> None:
    """Build the page inside the blocks that are open."""
    page_frame(services, "")
    with gr.Column(elem_classes="medx-page"):
        heading("Ask a clinical question")
        question, mode, kind, arm = _form(services)
        with gr.Row(elem_classes="medx-actions"):
            ask = gr.Button("Ask", variant="primary", elem_id="medx-ask", scale=0, min_width=140)
            cancel = gr.Button("Cancel", visible=False, elem_id="medx-cancel", scale=0, min_width=110)
        warning = build_warning()
        with gr.Row(elem_classes="medx-tries"):
            gr.HTML(note("Try"), elem_classes="medx-inline")
            tried = {
                example: gr.Button(example.text, size="sm", elem_classes="medx-example")
                for example in examples()
            }
        answer = gr.HTML(elem_id="medx-answer")
        with gr.Row(visible=False, elem_classes="medx-again", elem_id="medx-again") as again:
            gr.HTML(note("Not the right kind? Answer it as"), elem_classes="medx-inline")
            kinds = [
                gr.Button(name, size="sm", scale=0, min_width=120) for name in wording.KIND_NAMES.values()
            ]
        with gr.Accordion("Recent questions", open=False):
            recent = gr.HTML(elem_id="medx-recent")
    job_id = gr.Textbox(visible="hidden", elem_id="medx-job")
    parts = _Parts(question, mode, kind, arm, ask, cancel, warning, again, answer, recent, job_id)
    _wire(services, parts, tried, kinds)


def _form(services: Services) -> tuple[gr.Textbox, gr.Radio, gr.Dropdown, gr.Radio]:
    with gr.Group(elem_classes="medx-form"):
        question = gr.Textbox(
            label="Question, or a statement to be judged TRUE or FALSE",
            info=wording.NO_IDENTIFIERS,
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
            kind = gr.Dropdown(
                wording.KIND_CHOICES, value="auto", label="Kind", elem_id="medx-kind", min_width=150, scale=2
            )
            arm = gr.Radio(
                wording.ARM_CHOICES, value="both", label="Show", elem_id="medx-arm", min_width=300, scale=4
            )
    return question, mode, kind, arm


def _wire(
    services: Services, parts: _Parts, tried: Mapping[Example, gr.Button], kinds: Sequence[gr.Button]
) -> None:
    page, guard = _AskPage(services), guarded(services)

    def followed(started: Any) -> None:
        """After a submission: write the address, follow to the end, refresh the list."""
        address = ADDRESS.format(name="question")
        named = started.success(None, [parts.job_id], None, js=address, api_visibility="private")
        end = named.then(guard(page.watch), [parts.job_id], parts.shown, **FOLLOWING)
        end.then(guard(page.list_recent), None, [parts.recent], **QUIET)

    triggers, warning = [parts.ask.click, parts.question.submit], parts.warning
    submitted = [parts.question, parts.job_id, *warning.shown]
    asked = gr.on(triggers, guard(page.submit), parts.form, submitted, **QUIET)
    asked.success(None, None, None, js=FOCUS, api_visibility="private")
    followed(asked)
    followed(warning.masked.click(guard(page.submit_masked), parts.form, submitted, **QUIET))
    warned = [*parts.form, warning.warned_of]
    followed(warning.as_it_is.click(guard(page.submit_as_it_is), warned, submitted, **QUIET))
    for category, button in zip(wording.KIND_NAMES, kinds, strict=True):
        followed(
            button.click(guard(page.again_as(category)), [parts.job_id], [parts.job_id, parts.kind], **QUIET)
        )
    parts.cancel.click(guard(page.cancel), [parts.job_id], None, **QUIET)
    for example, button in tried.items():
        button.click(
            guard(page.filling(example)), None, [parts.question, parts.mode, *warning.shown], **QUIET
        )
    restored = [parts.job_id, *parts.form, *parts.shown]
    on_load(guard(page.restore), [parts.job_id], restored, js=QUERY.format(name="question"), unlimited=True)
    on_load(guard(page.list_recent), None, [parts.recent])


class _AskPage:
    """The handlers, each for a signed-in person."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def submit(self, person: Person, text: str, mode: str, category: str, arm: str) -> tuple[Any, ...]:
        """Commit the question; where it may identify a patient, store nothing and say so instead."""
        kinds = identifier_kinds(
            read_question_text(text, max_characters=self._services.settings.max_question_characters)
        )
        if kinds:
            return gr.skip(), gr.skip(), *raised(text, kinds)
        return gr.skip(), self._submit(person, text, mode, category, arm), *put_away()

    def submit_masked(self, person: Person, text: str, mode: str, category: str, arm: str) -> tuple[Any, ...]:
        """Commit the question without what may identify a patient, and show it so."""
        masked = without_identifiers(text)
        return masked, self._submit(person, masked, mode, category, arm), *put_away()

    def submit_as_it_is(
        self, person: Person, text: str, mode: str, category: str, arm: str, warned_of: str
    ) -> tuple[Any, ...]:
        """Commit the question the person was warned of; another one is looked at first."""
        if text != warned_of:
            return self.submit(person, text, mode, category, arm)
        return gr.skip(), self._submit(person, text, mode, category, arm), *put_away()

    def _submit(self, person: Person, text: str, mode: str, category: str, arm: str) -> str:
        job = submit_question(self._services, person, text, mode=mode, category=category, arm=arm)
        SUBMITTED.labels("question").inc()
        return job.public_id

    async def watch(self, person: Person, public_id: str) -> AsyncIterator[tuple[Any, ...]]:
        """Show the question until it is answered; without one nothing changes."""
        if not public_id:
            yield (gr.skip(),) * 4  # a stream that yields nothing would empty what it fills
            return
        async for view in follow(self._services, public_id, person):
            yield _shown(self._services, view)

    async def restore(self, person: Person, public_id: str) -> AsyncIterator[tuple[Any, ...]]:
        """Show the question in the address, if there is one."""
        if not public_id:
            yield ("", *(gr.skip() for _ in range(8)))
            return
        try:
            async for view in follow(self._services, public_id, person):
                form = (view.item.text, view.job.mode.value, gr.skip(), _arm_choice(view))
                yield (public_id, *form, *_shown(self._services, view))
        except MedxError as error:
            yield ("", *(gr.skip() for _ in range(7)), fault(str(error)))

    def again_as(self, category: Category) -> Callable[..., tuple[str, str]]:
        """Return the handler that asks the question on the page again as this kind."""

        def submit_again(person: Person, public_id: str) -> tuple[str, str]:
            view = look(self._services, public_id, person)
            mode, arm = view.job.mode.value, _arm_choice(view)
            return self._submit(person, view.item.text, mode, category.value, arm), category.value

        return submit_again

    def filling(self, example: Example) -> Callable[..., tuple[Any, ...]]:
        """Return the handler that puts an example into the form."""

        def fill(person: Person) -> tuple[Any, ...]:  # noqa: ARG001 - every guarded handler takes the person
            return example.text, example.mode.value, *put_away()

        return fill

    def cancel(self, person: Person, public_id: str) -> None:
        """Cancel the question on the page; what is written stays."""
        self._services.jobs.cancel(visible_job(self._services, public_id, person).public_id)

    def list_recent(self, person: Person) -> str:
        """List the person's latest questions."""
        return _recent_html(self._services.jobs.recent(person.id, limit=4 * RECENT))


def _arm_choice(view: QuestionView) -> str:
    return next((name for name, arms in ARM_CHOICES.items() if arms == view.job.arms), "both")


def _shown(services: Services, view: QuestionView) -> tuple[Any, ...]:
    """Return what the ask button, the cancel button, the row of kinds and the answer show."""
    done = view.finished
    return (
        gr.update(interactive=done),
        gr.update(visible=not done),
        gr.update(visible=done and bool(view.item.answers)),
        question_html(view, evidence_html(services.evidence, view)),
    )


def _recent_html(jobs: Sequence[JobSnapshot]) -> str:
    own = [job for job in jobs if job.kind is JobKind.QUESTION][:RECENT]
    if not own:
        return note("Your questions appear here.")
    rows = "".join(tag("li", link(f"/app/?question={job.public_id}", job.title)) for job in own)
    return tag("ul", rows, "medx-list")
