"""The questions for written answers are complete, and a damaged file is refused in words."""

import csv
import io
from collections import Counter

import pytest

from medx_core.categories import Category
from medx_core.data.bundled_texts import COLUMNS, FreeTextQuestion, free_text_questions, questions_in
from medx_core.data.spellings import HARMS, URGENCIES
from medx_core.errors import BadInput

ROW = {
    "id": "x",
    "category": "triage",
    "question": "My chest hurts?",
    "must": "call an ambulance | sit down",
    "must_not": "wait",
    "harm": "severe",
    "urgency": "emergency",
    "source": "NHS website, heart attack",
    "review": "agreed",
}


def file_of(row):
    out = io.StringIO()
    writer = csv.DictWriter(out, list(row))
    writer.writeheader()
    writer.writerow(row)
    return out.getvalue()


def test_there_are_twenty_questions_a_category_each_once():
    questions = free_text_questions()
    assert Counter(each.category for each in questions) == dict.fromkeys(Category, 20)
    assert len({each.id for each in questions}) == len({each.question for each in questions}) == 60


def test_every_question_has_its_points_a_source_and_a_review_status():
    for each in free_text_questions():
        assert 2 <= len(each.must) <= 5, each.id
        assert 1 <= len(each.must_not) <= 4, each.id
        points = [*each.must, *each.must_not]
        assert len(set(points)) == len(points), each.id
        assert all((each.question, each.source)), each.id
        assert each.harm in HARMS, each.id
        assert each.review in {"agreed", "corrected"}, each.id


def test_triage_questions_cover_every_urgency_and_the_others_have_none():
    for category in Category:
        urgencies = {each.urgency for each in free_text_questions() if each.category is category}
        assert urgencies == (set(URGENCIES) if category is Category.TRIAGE else {""}), category


def test_points_are_read_apart():
    assert questions_in(file_of(ROW)) == (
        FreeTextQuestion(
            id="x",
            category=Category.TRIAGE,
            question="My chest hurts?",
            must=("call an ambulance", "sit down"),
            must_not=("wait",),
            harm="severe",
            urgency="emergency",
            source="NHS website, heart attack",
            review="agreed",
        ),
    )


@pytest.mark.parametrize(
    ("column", "cell"),
    [("category", ""), ("category", "gossip"), ("must", " | "), ("must_not", ""), ("urgency", "some day")],
)
def test_a_row_that_cannot_be_read_is_named(column, cell):
    with pytest.raises(BadInput, match="row 1"):
        questions_in(file_of({**ROW, column: cell}))


@pytest.mark.parametrize("column", [name for name in COLUMNS if name != "question"])
def test_a_missing_column_is_named(column):
    with pytest.raises(BadInput, match=f"no column '{column}'"):
        questions_in(file_of({name: cell for name, cell in ROW.items() if name != column}))
