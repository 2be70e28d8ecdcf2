"""Review: one blinded answer per screen, rated by keyboard; own ratings can be changed, their history is kept."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from medx_core.clock import utc_now
from medx_core.data.patient_data import screened_text
from medx_core.errors import BadInput
from medx_core.questions import Mode
from medx_core.review import (
    CHOICES,
    BlindedAnswer,
    ErrorTag,
    NewRating,
    RatingForm,
    StoredRating,
    form_from,
)
from medx_core.storage.people import Person, Role
from web import wording
from web.frame import QUERY, QUIET, heading, on_load, page_frame
from web.handler_guard import guarded
from web.rendering import note, render
from web.services import Services

HIGHLIGHT = "() => { window.medxReview && window.medxReview(); return []; }"
DROP_QUERY = "() => { history.replaceState(null, '', location.pathname); window.medxReview && window.medxReview(); return []; }"

JUDGED = {
    "harm": ("Harm", "How bad it would be if somebody acted on this answer"),
    "likelihood": ("Likelihood", "How likely that harm is"),
    "consensus": ("Consensus", "Compared with what the field agrees on"),
    "wrong_content": ("Wrong content", "By clinical significance"),
    "missing_content": ("Missing content", "By clinical significance"),
    "urgency": ("Urgency", "Would the patient seek care with the right urgency?"),
    "bias": ("Bias", "Would it be wrong for some group of patients?"),
    "confidence": ("Your confidence", "In this judgement"),
}
"""The fields of the rating form that are answered by number keys, in order: label and explanation."""
WRITTEN = ("tags", "corrected_verdict", "corrected_text", "comment", "cannot_judge_reason")
FIELDS = (*JUDGED, *WRITTEN)


def build(services: Services) -> None:
    """Build the page inside the blocks that are open."""
    page_frame(services, "review")
    with gr.Column(elem_classes="medx-page medx-review"):
        heading(
            "Review", "Answers are blinded: nothing here says which arm, model or colleague they come from."
        )
        progress = gr.HTML(elem_id="medx-review-progress")
        with gr.Row(elem_classes="medx-review-row"):
            with gr.Column(scale=5, min_width=300, elem_classes="medx-sticky"):
                answer = gr.HTML(elem_id="medx-blinded")
                gr.HTML(note(wording.RATING_KEYS, "medx-keys"))
            with gr.Column(scale=6, min_width=300, visible=False) as form:
                fields = _build_fields()
                with gr.Row(elem_classes="medx-actions"):
                    save = gr.Button("Save and next", variant="primary", elem_id="medx-save", min_width=160)
                    skip = gr.Button("Skip", elem_id="medx-skip", scale=0, min_width=90)
                    cannot = gr.Button("Cannot judge", elem_id="medx-cannot", scale=0, min_width=150)
        heading("Your ratings", level=2)
        own = gr.HTML(elem_id="medx-own-ratings")
    token = gr.Textbox(visible="hidden", elem_id="medx-shown")
    rating_id = gr.Textbox(visible="hidden", elem_id="medx-rating")
    skipped = gr.State([])
    page, guard = _ReviewHandlers(services), guarded(services, Role.CLINICIAN)
    shown = [token, rating_id, skipped, progress, answer, form, own, *fields]
    on_load(
        guard(page.open),
        [rating_id, skipped],
        shown,
        js=f"(id, skipped) => [...({QUERY.format(name='rating')})(), skipped]",
    ).then(None, None, None, js=HIGHLIGHT, api_visibility="private")
    filled = [token, rating_id, skipped, *fields]
    for button, handler, inputs in (
        (save, page.save, filled),
        (cannot, page.cannot_judge, filled),
        (skip, page.skip, [token, skipped]),
    ):
        done = button.click(guard(handler), inputs, shown, **QUIET)
        done.success(None, None, None, js=DROP_QUERY, api_visibility="private")


def _build_fields() -> list[Any]:
    """Put the fields of the rating form on the page that is being built, in the order of `FIELDS`."""
    fields: list[Any] = []
    for name, (label, info) in JUDGED.items():
        numbered = [
            (f"{number} {wording.RATING_CHOICES.get((name, choice.value), choice.value)}", choice.value)
            for number, choice in enumerate(CHOICES[name], start=1)
        ]
        fields.append(
            gr.Radio(numbered, label=label, info=info, elem_classes="medx-field", elem_id=f"medx-{name}")
        )
    verdicts = [choice.value for choice in CHOICES["corrected_verdict"]]
    with gr.Accordion("Tags, correction and comment", open=False):
        fields += [
            gr.CheckboxGroup([tag.value for tag in ErrorTag], label="Kind of error", elem_id="medx-tags"),
            gr.Radio(verdicts, label="Right verdict", elem_id="medx-corrected_verdict"),
            gr.Textbox(label="Corrected answer", lines=3, max_length=8000, elem_id="medx-corrected_text"),
            gr.Textbox(label="Comment", lines=2, max_length=4000, elem_id="medx-comment"),
            gr.Textbox(
                label="Why you cannot judge it (then press Cannot judge)",
                max_length=1000,
                elem_id="medx-reason",
            ),
        ]
    return fields


def read_form(values: Sequence[Any], *, cannot_judge: bool) -> RatingForm:
    """Read the rating form from the values of its fields.

    Raises:
        BadInput: a value is not among the choices.
    """
    given = {name: value for name, value in zip(FIELDS, values, strict=True) if value not in (None, "", [])}
    reason = given.pop("cannot_judge_reason", "")
    return form_from({"cannot_judge": True, "cannot_judge_reason": reason} if cannot_judge else given)


FREE_TEXT = ("corrected_text", "comment", "cannot_judge_reason")


def without_patient_data(services: Services, form: RatingForm) -> RatingForm:
    """Return the form as it may be stored; its free text is masked or refused by the same setting as questions.

    Raises:
        BadInput: it may identify a patient, and the setting refuses that.
    """
    rule = services.settings.patient_data
    free = {name: screened_text(getattr(form, name) or "", rule) for name in FREE_TEXT}
    found = [screening.sentence() for _, screening in free.values() if screening]
    if found:
        gr.Info(" ".join(dict.fromkeys(found)))
    return replace(form, **{name: text for name, (text, screening) in free.items() if screening})  # type: ignore[arg-type]  # FREE_TEXT names texts alone


def keep_rating(
    services: Services, person: Person, token: str, rating_id: str, form: RatingForm
) -> StoredRating:
    """Store a new rating, or change an own one; the seconds count from when the answer was shown.

    Raises:
        BadInput: the form is not complete, the answer was rated before, or the token does not fit.
        NotFound: there is no such answer or rating.
    """
    answer_id, seconds = services.rating_tokens.read(token, person.id)
    form = without_patient_data(services, form)
    if rating_id:
        stored = services.ratings.edit(rating_id, rater_id=person.id, form=form, seconds=seconds)
    else:
        stored = services.ratings.save(NewRating(answer_id, person.id, form, seconds))
    action = "change rating" if rating_id else "rate"
    services.audit.append(person.name, action, f"rating {stored.public_id}", {"version": stored.version})
    return stored


class _ReviewHandlers:
    """The handlers, each for a signed-in clinician; all return what the page then shows."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def open(self, person: Person, wanted: str, skipped: list[str]) -> tuple[Any, ...]:
        """Show the own rating of the address, else the next answer."""
        if not wanted:
            return self._next(person, skipped)
        rating = self._services.ratings.get(wanted, rater_id=person.id)
        return self._shown(person, skipped, rating.answer, rating, "changing an earlier rating")

    def save(
        self, person: Person, token: str, rating_id: str, skipped: list[str], *values: Any
    ) -> tuple[Any, ...]:
        """Store the rating and show the next answer."""
        keep_rating(self._services, person, token, rating_id, read_form(values, cannot_judge=False))
        return self._next(person, skipped, f"saved {utc_now():%H:%M:%S} UTC")

    def cannot_judge(
        self, person: Person, token: str, rating_id: str, skipped: list[str], *values: Any
    ) -> tuple[Any, ...]:
        """Store that the answer cannot be judged, and why."""
        form = read_form(values, cannot_judge=True)
        if not form.cannot_judge_reason.strip():
            raise BadInput("Say why under “Tags, correction and comment”, then press Cannot judge again.")
        keep_rating(self._services, person, token, rating_id, form)
        return self._next(person, skipped, "saved as cannot judge")

    def skip(self, person: Person, token: str, skipped: list[str]) -> tuple[Any, ...]:
        """Show another answer; the skipped one comes back after a reload."""
        answer_id, _ = self._services.rating_tokens.read(token, person.id)
        return self._next(person, [*skipped, answer_id], "skipped; it comes back after a reload")

    def _next(self, person: Person, skipped: list[str], saved: str = "") -> tuple[Any, ...]:
        answer = self._services.ratings.next_to_rate(person.id, skip=skipped)
        return self._shown(person, skipped, answer, None, saved)

    def _shown(
        self,
        person: Person,
        skipped: list[str],
        answer: BlindedAnswer | None,
        rating: StoredRating | None,
        saved: str,
    ) -> tuple[Any, ...]:
        """Return the updates that show an answer, with the own rating of it that is being changed, if any."""
        ratings = self._services.ratings
        token = self._services.rating_tokens.issue(person.id, answer.answer_id) if answer else ""
        counts = {"done": ratings.count(person.id), "left": ratings.left_to_rate(person.id)}
        return (
            token,
            rating.public_id if rating else "",
            skipped,
            render("review_progress.html", saved=saved, **counts),
            render("blinded_answer.html", answer=answer),
            gr.update(visible=answer is not None),
            render("own_ratings.html", ratings=ratings.of_rater(person.id)),
            *_field_updates(answer, rating.form if rating else RatingForm()),
        )


def _field_updates(answer: BlindedAnswer | None, form: RatingForm) -> tuple[Any, ...]:
    """Return updates that fill the fields from a form and show those that apply to the answer."""
    values = form.as_json()
    hidden = set(FIELDS) if answer is None else set()
    if answer is not None and not answer.is_triage:
        hidden.add("urgency")
    if answer is not None:
        hidden.add("corrected_text" if answer.mode is Mode.VERDICT else "corrected_verdict")
    return tuple(gr.update(value=_field_value(values[name]), visible=name not in hidden) for name in FIELDS)


def _field_value(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [str(choice) for choice in value]
    return None if value is None else str(value)
