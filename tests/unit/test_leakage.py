"""What wording gives away is found where it is planted and not found where it is not."""

from pathlib import Path

import numpy as np
import pytest

from medx_core.categories import Category
from medx_core.data.leakage import LabelledStatement, labelled_statements, leakage
from medx_core.data.limits import FileLimits
from medx_core.data.question_files import read_question_file
from medx_core.errors import BadInput

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
    assert leakage(statements(" not")) == leakage(statements(" not"))


def test_too_few_statements_are_said_in_words():
    words = leakage(statements(" not")[:10])["readers"]["words"]
    assert words["accuracy"] is None
    assert "at least" in words["reasons"]["auroc"]


def read(folder: Path, content: str):
    path = folder / "data.csv"
    path.write_text(content)
    return labelled_statements(read_question_file(path, limits=FileLimits()))


def test_quads_go_before_pairs_and_pairs_before_wording(tmp_path):
    rows = read(
        tmp_path, "statement,answer,pair,Quad\na,1,p,q\nb,0,p2,q\nc,1,p,\nd,0,p,\ne,1,,\nE ,0,,\nf,,,\n"
    )
    groups = [row.group for row in rows]
    assert groups[0] == groups[1] != groups[2] == groups[3] != groups[4] == groups[5]


def test_data_without_answers_are_refused(tmp_path):
    with pytest.raises(BadInput, match="answer"):
        read(tmp_path, "statement\nx\n")
    with pytest.raises(BadInput, match="no 'question' or 'statement'"):
        read(tmp_path, "text\nx\n")
