import csv
from collections import Counter

import pytest

from medx_core.categories import Category
from medx_core.data.problems import FileRefused
from medx_core.data.routing_texts import (
    BORDER,
    all_routing_texts,
    held_out_texts,
    read_routing_file,
    training_texts,
)


def test_there_are_texts_enough_of_every_kind():
    counts = Counter(text.category for text in training_texts() if text.voice != BORDER)
    assert min(counts[category] for category in Category) >= 400
    assert sum(text.category is None for text in all_routing_texts()) >= 200
    assert sum(text.voice == BORDER for text in all_routing_texts()) >= 150


def test_no_text_stands_twice():
    counts = Counter(" ".join(text.text.lower().split()) for text in all_routing_texts())
    assert [text for text, times in counts.items() if times > 1] == []


def test_what_is_held_out_belongs_to_no_category_and_is_never_trained_on():
    held_out = held_out_texts()
    assert len(held_out) == 80
    assert all(text.category is None for text in held_out)
    assert not {text.text for text in held_out} & {text.text for text in training_texts()}


def test_every_text_on_a_border_says_why_it_has_its_label():
    assert all(text.why for text in all_routing_texts() if text.voice == BORDER)


def test_a_file_may_call_its_columns_text_and_task(tmp_path):
    path = tmp_path / "questions.csv"
    with path.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows(
            [["text", "task", "source"], ["Is it urgent?", "Triage", "a"], ["hello", "none", "b"]]
        )
    first, second = read_routing_file(path).questions
    assert (first.text, first.category, first.source) == ("Is it urgent?", Category.TRIAGE, "a")
    assert second.category is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("question\nIs it urgent?\n", "'category'"),
        ("question,category\nIs it urgent?,surgery\n", "'surgery'"),
        ("question,category\n,triage\n", "empty"),
        ("question,category\n", "no rows"),
    ],
)
def test_a_file_that_cannot_measure_is_refused_with_the_reason(tmp_path, content, said):
    path = tmp_path / "questions.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(FileRefused, match=said):
        read_routing_file(path)
