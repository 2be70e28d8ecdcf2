"""Review: one blinded answer a screen, rated by keyboard; own ratings can be changed, their history is kept."""

from typing import Any

import gradio as gr

from medx_core.clock import utc_now
from medx_core.errors import BadInput
from medx_core.review.rating_form import NewRating, StoredRating
from medx_core.storage.people import Person, Role
from web.frame import QUERY, heading, on_load, page_frame
from web.handler_guard import guarded
from web.markup import note, tag
from web.rating_fields import RatingFields, build_fields, read_form
from web.review_markup import blinded_html, nothing_html, own_ratings_html, progress_html
from web.services import Services

QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": 8}
HIGHLIGHT = "() => { window.medxReview && window.medxReview(); return []; }"
DROP_QUERY = "() => { history.replaceState(null, '', location.pathname); window.medxReview && window.medxReview(); return []; }"
KEYS = "Number keys answer the highlighted field and move on · arrows or Backspace change field · Enter saves · S skips · C cannot judge · Esc leaves a text field"


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
                gr.HTML(note(KEYS, "medx-keys"))
            with gr.Column(scale=6, min_width=300, visible=False) as form:
                fields = build_fields()
                with gr.Row(elem_classes="medx-actions"):
                    save = gr.Button("Save and next", variant="primary", elem_id="medx-save", min_width=160)
                    skip = gr.Button("Skip", elem_id="medx-skip", scale=0, min_width=90)
                    cannot = gr.Button("Cannot judge", elem_id="medx-cannot", scale=0, min_width=150)
        gr.HTML(tag("h2", "Your ratings"))
        own = gr.HTML(elem_id="medx-own-ratings")
    shown_note = gr.Textbox(visible="hidden", elem_id="medx-shown")
    rating_id = gr.Textbox(visible="hidden", elem_id="medx-rating")
    skipped = gr.State([])
    shown = [shown_note, rating_id, skipped, progress, answer, form, own, *fields.components]
    _wire(services, fields, shown, (save, skip, cannot))


def _wire(services: Services, fields: RatingFields, shown: list[Any], buttons: tuple[Any, Any, Any]) -> None:
    shown_note, rating_id, skipped = shown[:3]
    save, skip, cannot = buttons
    screen = _Screen(services, fields)

    @guarded(services, Role.CLINICIAN)
    def open_review(person: Person, wanted: str, skip_ids: list[str]) -> tuple[Any, ...]:
        if wanted:
            return screen.earlier(person, services.ratings.get(wanted, rater_id=person.id), skip_ids)
        return screen.next(person, skip_ids)

    @guarded(services, Role.CLINICIAN)
    def save_rating(
        person: Person, note_text: str, editing: str, skip_ids: list[str], *values: Any
    ) -> tuple[Any, ...]:
        keep_rating(services, person, note_text, editing, read_form(values, cannot_judge=False))
        return screen.next(person, skip_ids, saved=f"saved {utc_now():%H:%M:%S} UTC")

    @guarded(services, Role.CLINICIAN)
    def cannot_judge(
        person: Person, note_text: str, editing: str, skip_ids: list[str], *values: Any
    ) -> tuple[Any, ...]:
        form = read_form(values, cannot_judge=True)
        if not form.cannot_judge_reason.strip():
            raise BadInput("Say why under “Tags, correction and comment”, then press Cannot judge again.")
        keep_rating(services, person, note_text, editing, form)
        return screen.next(person, skip_ids, saved="saved as cannot judge")

    @guarded(services, Role.CLINICIAN)
    def skip_answer(person: Person, note_text: str, skip_ids: list[str]) -> tuple[Any, ...]:
        answer_id, _ = services.rating_tokens.read(note_text, person.id)
        return screen.next(person, [*skip_ids, answer_id], saved="skipped; it comes again when you reload")

    filled = [shown_note, rating_id, skipped, *fields.components]
    on_load(
        open_review,
        [rating_id, skipped],
        shown,
        js=f"(id, skipped) => [...({QUERY.format(name='rating')})(), skipped]",
    ).then(None, None, None, js=HIGHLIGHT, api_visibility="private")
    for button, handler, inputs in (
        (save, save_rating, filled),
        (cannot, cannot_judge, filled),
        (skip, skip_answer, [shown_note, skipped]),
    ):
        button.click(handler, inputs, shown, **QUIET).success(
            None, None, None, js=DROP_QUERY, api_visibility="private"
        )


def keep_rating(services: Services, person: Person, note_text: str, editing: str, form: Any) -> StoredRating:
    """Store a new rating, or change an own one; the seconds run from when the answer was shown.

    Raises:
        BadInput: the form is not complete, the answer was rated before, or the note does not fit.
        NotFound: there is no such answer or rating.
    """
    answer_id, seconds = services.rating_tokens.read(note_text, person.id)
    if editing:
        stored = services.ratings.edit(editing, rater_id=person.id, form=form, seconds=seconds)
    else:
        stored = services.ratings.save(NewRating(answer_id, person.id, form, seconds))
    services.audit.append(
        person.name,
        "change rating" if editing else "rate",
        f"rating {stored.public_id}",
        {"version": stored.version},
    )
    return stored


class _Screen:
    """What the page shows: the next answer, or an earlier rating to be changed."""

    def __init__(self, services: Services, fields: RatingFields) -> None:
        self._services = services
        self._fields = fields

    def next(self, person: Person, skip_ids: list[str], saved: str = "") -> tuple[Any, ...]:
        """Return the updates that show the next answer."""
        answer = self._services.ratings.next_to_rate(person.id, skip=skip_ids)
        note_text = "" if answer is None else self._services.rating_tokens.note(person.id, answer.answer_id)
        return (
            note_text,
            "",
            skip_ids,
            self._progress(person, saved),
            nothing_html() if answer is None else blinded_html(answer),
            gr.update(visible=answer is not None),
            own_ratings_html(self._services.ratings.of_rater(person.id)),
            *self._fields.empty_for(answer),
        )

    def earlier(self, person: Person, rating: StoredRating, skip_ids: list[str]) -> tuple[Any, ...]:
        """Return the updates that show an own rating."""
        return (
            self._services.rating_tokens.note(person.id, rating.answer.answer_id),
            rating.public_id,
            skip_ids,
            self._progress(person, "changing an earlier rating"),
            blinded_html(rating.answer),
            gr.update(visible=True),
            own_ratings_html(self._services.ratings.of_rater(person.id)),
            *self._fields.filled(rating.answer, rating.form),
        )

    def _progress(self, person: Person, saved: str) -> str:
        ratings = self._services.ratings
        return progress_html(ratings.count(person.id), ratings.left_to_rate(person.id), saved)
