"""What wording gives away is found where it is planted and not found where it is not."""

import numpy as np

from medx_core.categories import Category
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.data.leakage import WORDING_READERS, leakage, surface_cues

DRUGS = ("aspirin", "insulin", "heparin", "warfarin", "morphine", "digoxin", "lithium", "codeine")


def statements(cue: str) -> list[LabelledStatement]:
    """Forty pairs about random drugs; the false ones end in `cue`."""
    random = np.random.default_rng(1)
    rows = []
    for pair in range(40):
        left, right = random.choice(DRUGS, 2, replace=False)
        for answer in (True, False):
            first, second = (left, right) if answer else (right, left)
            text = f"Give {first} before {second}" + ("" if answer else cue)
            rows.append(LabelledStatement(text, answer, str(pair), Category.TRIAGE if pair % 2 else None))
    return rows


def test_a_planted_word_is_found_by_every_reader():
    figures = leakage(statements(" only."))
    for reader, values in figures["readers"].items():
        assert values["accuracy"]["low"] > 0.7, reader
        assert values["auroc"]["low"] > 0.85, reader
        assert values["auroc"]["n"] == 80
    assert set(figures["by_category"]) == {"triage"}
    assert figures["rows"] == 80


def test_twins_with_the_same_words_give_surface_readers_nothing():
    surface = leakage(statements(""))["readers"]["surface"]
    assert surface["auroc"]["low"] <= 0.5 <= surface["auroc"]["high"]
    assert surface["accuracy"]["low"] <= surface["accuracy"]["value"] <= surface["accuracy"]["high"]


def test_the_same_statements_give_the_same_figures():
    few = statements(" not")[:24]
    assert leakage(few) == leakage(few)
    assert leakage(few)["readers"]["words"]["accuracy"] is not None


def test_too_few_statements_are_said_in_words():
    words = leakage(statements(" not")[:10])["readers"]["words"]
    assert words["accuracy"] is None
    assert "at least" in words["reasons"]["auroc"]


def test_a_reader_can_be_fitted_on_some_rows_and_asked_about_others():
    rows = statements(" only.")
    texts, answers = [row.text for row in rows], [row.answer for row in rows]
    for name, build in WORDING_READERS.items():
        reader = build().fit(texts[:60], answers[:60])
        scores = reader.predict_proba(texts[60:])[:, 1]
        assert ((scores > 0.5) == answers[60:]).all(), name


def test_surface_cues_see_length_negation_and_numbers_but_no_content_word():
    first, same, other = surface_cues(["Not 2 ribs.", "Not 9 legs.", "All 2 ribs."])
    assert (first == same).all()
    assert (first != other).any()
