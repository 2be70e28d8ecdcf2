"""Reading what a person typed: the form of answer that a text asks for, and choices that do not exist."""

import pytest

from medx_core.errors import BadInput
from medx_core.jobs.submission import read_mode, read_question
from medx_core.questions import Mode


@pytest.mark.parametrize(
    "text",
    [
        "Metformin lowers blood glucose.",
        "Is chest pain that spreads to the left arm an emergency?",
        "doesn't warfarin interact with cranberry juice?",
        "What the heart pumps is blood.",
        "Whatever the cause, a thunderclap headache needs imaging.",
        "She said: fever",
    ],
)
def test_a_statement_or_yes_no_question_is_judged(text):
    assert (
        read_question(text, mode="auto", category="auto", arm="both", max_characters=500).mode is Mode.VERDICT
    )


@pytest.mark.parametrize(
    "text",
    [
        "What is asthma?",
        "how long does shingles last",
        "My son has a rash and a fever. Should I worry? What can I give him?",
        "I missed two doses of my pill, what now?",
        "Can I fly after surgery? When would it be safe?",
    ],
)
def test_any_other_question_is_answered_in_text(text):
    assert read_question(text, mode="auto", category="auto", arm="both", max_characters=500).mode is Mode.TEXT


def test_a_mode_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(BadInput, match="no mode 'essay'; choose auto, verdict or text"):
        read_question("A statement.", mode="essay", category="auto", arm="both", max_characters=500)
    with pytest.raises(BadInput, match="no mode 'auto'; choose verdict or text"):
        read_mode("auto")


def test_half_a_pair_of_surrogates_is_no_text():
    with pytest.raises(BadInput, match="invalid characters"):
        read_question("Is it \ud800 asthma?", mode="auto", category="auto", arm="both", max_characters=500)
