"""The rating form: what is missing, what follows from it, and that it is stored as given."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medx_core.errors import BadInput
from medx_core.review import (
    Harm,
    RatingForm,
    Urgency,
    form_from,
    problems,
)
from tests.samples import rating_form

FORMS = st.builds(RatingForm)


def test_a_complete_form_has_no_problems():
    assert problems(rating_form(), is_triage=False) == []
    assert problems(rating_form(urgency=Urgency.RIGHT), is_triage=True) == []


def test_every_missing_field_is_named_in_the_order_of_the_form():
    sentences = problems(RatingForm(), is_triage=True)
    words = ["harm", "likely", "consensus", "wrong", "missing", "biased", "urgency"]
    assert len(sentences) == len(words)
    assert all(word in sentence for word, sentence in zip(words, sentences, strict=True))


def test_urgency_belongs_to_triage_only():
    assert problems(rating_form(urgency=Urgency.OVER), is_triage=False)
    assert problems(rating_form(), is_triage=True)


def test_who_cannot_judge_gives_a_reason_and_nothing_else():
    assert problems(RatingForm(cannot_judge=True, cannot_judge_reason="  "), is_triage=True)
    form = RatingForm(cannot_judge=True, cannot_judge_reason="Not my field.", harm=Harm.SEVERE)
    assert problems(form, is_triage=True) == []


@given(FORMS)
def test_a_form_reads_back_from_what_is_stored(form):
    again = form_from(form.as_json())
    assert (again.harm, again.corrected_verdict, again.comment) == (
        form.harm,
        form.corrected_verdict,
        form.comment,
    )
    assert set(again.tags) == set(form.tags)
    assert form_from(again.as_json()) == again


@pytest.mark.parametrize("values", [{"harm": "terrible"}, {"tags": ["nonsense"]}, {"arm": "steered"}])
def test_words_that_are_not_on_the_form_are_refused(values):
    with pytest.raises(BadInput):
        form_from(values)
