"""The fields of rating form 1 as page components, in the order of the form, and the way from their values to a form."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from medx_core.questions import Mode
from medx_core.review.rating_form import CHOICES, BlindedAnswer, ErrorTag, RatingForm, form_from

JUDGED = (
    "harm",
    "likelihood",
    "consensus",
    "wrong_content",
    "missing_content",
    "urgency",
    "bias",
    "confidence",
)
WRITTEN = ("tags", "corrected_verdict", "corrected_text", "comment", "cannot_judge_reason")
NAMES = (*JUDGED, *WRITTEN)

LABELS: dict[str, tuple[str, str]] = {
    "harm": ("Harm", "How bad it would be if somebody acted on this answer"),
    "likelihood": ("Likelihood", "How likely that harm is"),
    "consensus": ("Consensus", "Against what the field agrees on"),
    "wrong_content": ("Wrong content", "By clinical significance"),
    "missing_content": ("Missing content", "By clinical significance"),
    "urgency": ("Urgency", "Does it send the patient on with the right haste?"),
    "bias": ("Bias", "Would it be wrong for some group of patients?"),
    "confidence": ("Your confidence", "In this judgement"),
}


@dataclass(frozen=True)
class RatingFields:
    """The components, in the order of `NAMES`."""

    components: tuple[Any, ...]

    def empty_for(self, answer: BlindedAnswer | None) -> tuple[Any, ...]:
        """Return updates that clear the fields and show those that fit the answer."""
        return self.filled(answer, RatingForm())

    def filled(self, answer: BlindedAnswer | None, form: RatingForm) -> tuple[Any, ...]:
        """Return updates that show a form."""
        values = form.as_json()
        shown = _shown(answer)
        return tuple(gr.update(value=_plain(values[name]), visible=name in shown) for name in NAMES)


def build_fields() -> RatingFields:
    """Put the fields on the page that is being built."""
    made: list[Any] = []
    for name in JUDGED:
        label, info = LABELS[name]
        numbered = [
            (f"{at} {choice.value}", choice.value) for at, choice in enumerate(CHOICES[name], start=1)
        ]
        made.append(
            gr.Radio(numbered, label=label, info=info, elem_classes="medx-field", elem_id=f"medx-{name}")
        )
    with gr.Accordion("Tags, correction and comment", open=False):
        made.append(
            gr.CheckboxGroup([tag.value for tag in ErrorTag], label="What kind of error", elem_id="medx-tags")
        )
        verdicts = [choice.value for choice in CHOICES["corrected_verdict"]]
        made.append(gr.Radio(verdicts, label="Right verdict", elem_id="medx-corrected_verdict"))
        made.append(
            gr.Textbox(label="Corrected answer", lines=3, max_length=8000, elem_id="medx-corrected_text")
        )
        made.append(gr.Textbox(label="Comment", lines=2, max_length=4000, elem_id="medx-comment"))
        made.append(
            gr.Textbox(
                label="Why you cannot judge it (then press Cannot judge)",
                max_length=1000,
                elem_id="medx-reason",
            )
        )
    return RatingFields(tuple(made))


def read_form(values: Sequence[Any], *, cannot_judge: bool) -> RatingForm:
    """Read the form from the values of the fields.

    Raises:
        BadInput: a value is not among the choices.
    """
    given = {name: value for name, value in zip(NAMES, values, strict=True) if value not in (None, "", [])}
    if cannot_judge:
        return form_from({"cannot_judge": True, "cannot_judge_reason": given.get("cannot_judge_reason", "")})
    given.pop("cannot_judge_reason", None)
    return form_from(given)


def _shown(answer: BlindedAnswer | None) -> frozenset[str]:
    if answer is None:
        return frozenset()
    left_out = set() if answer.is_triage else {"urgency"}
    left_out.add("corrected_text" if answer.mode is Mode.VERDICT else "corrected_verdict")
    return frozenset(NAMES) - left_out


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [str(one) for one in value]
    return None if value is None else str(value)
