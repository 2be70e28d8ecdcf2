"""Odd but taken: what is said about rows that are used all the same."""

from pathlib import Path

import pytest

from medx_core.data.decoding import repaired
from medx_core.data.identifiers import identifier_kinds, without_identifiers
from medx_core.data.languages import is_not_english
from medx_core.data.problems import FileLimits
from medx_core.data.question_files import QuestionFile, read_question_file
from medx_core.data.spellings import read_answer


def read(folder: Path, content: str) -> QuestionFile:
    path = folder / "questions.csv"
    path.write_text(content, encoding="utf-8", newline="")
    return read_question_file(path, limits=FileLimits())


def notices(file: QuestionFile) -> list[tuple[int | None, str | None, str]]:
    return [(notice.row, notice.column, notice.message) for notice in file.notices]


@pytest.mark.parametrize("cell", ["TRUE", "true", " T ", "yes", "Y", "1", "1.0", "Correct", "true."])
def test_usual_spellings_of_true(cell):
    assert read_answer(cell) is True


@pytest.mark.parametrize("cell", ["FALSE", "f", "No", "n", "0", "0.0", "incorrect", "Wrong"])
def test_usual_spellings_of_false(cell):
    assert read_answer(cell) is False


def test_what_is_not_understood_is_left_out_and_the_row_taken(tmp_path):
    file = read(tmp_path, "question,answer,category,harm,urgency\nx,maybe,surgery,2,soon\n")
    (row,) = file.rows
    assert (row.answer, row.category, row.harm, row.urgency) == (None, None, "", "")
    assert [(row_, column) for row_, column, _ in notices(file)] == [
        (1, "answer"),
        (1, "category"),
        (1, "harm"),
        (1, "urgency"),
    ]
    assert "'maybe'" in file.notices[0].message


def test_repeated_ids_and_questions_are_kept_and_contradictions_named(tmp_path):
    file = read(tmp_path, "id,question,answer\na,One?,TRUE\na,Two?,TRUE\nb,one? ,FALSE\nc,ONE?,TRUE\n")
    assert len(file.rows) == 4
    assert notices(file) == [
        (2, "id", "The id of row 1 is used again."),
        (3, "answer", "Row 1 has the same question with the opposite answer."),
        (4, "question", "The question of row 1 is repeated; both are taken."),
    ]


def test_mojibake_is_repaired_and_named(tmp_path):
    file = read(
        tmp_path,
        "question,note\nIs the cafÃ© diet “safe” for the heart’s sake?,cafÃ©\nPlain “quotes” – and é,x\n",
    )
    assert [row.text for row in file.rows] == [
        "Is the café diet “safe” for the heart’s sake?",
        "Plain “quotes” – and é",
    ]
    assert file.rows[0].carried["note"] == "cafÃ©", "columns that are only carried stay as they stood"
    assert [notice[:2] for notice in notices(file)] == [(1, "question")]


@pytest.mark.parametrize(
    "text", ["fi ﬁ ½ … “x” ‘y’", "TNF-α ≥ 5 µg/dl", "Sjögren’s", "Å ångström", "&amp; <b>", "x\u00a0y"]
)
def test_sound_text_is_not_touched(text):
    assert repaired(text) == text


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("write to jo.doe@example.org please", "an e-mail address"),
        ("call 555-123-4567 or come", "a telephone number"),
        ("call +44 20 7946 0958", "a telephone number"),
        ("born on 12/03/1956, with fever", "a date of birth"),
        ("DOB: 1956-03-12", "a date of birth"),
        ("MRN 00123456 has a rash", "a record number"),
        ("her SSN is 123-45-6789", "a social security number"),
        ("943 476 5919 has a rash", "an NHS number"),
    ],
)
def test_possible_identifiers_are_named_by_kind_and_never_repeated(tmp_path, text, kind):
    assert kind in identifier_kinds(text)
    assert not identifier_kinds(without_identifiers(text))
    file = read(tmp_path, f'question\n"{text}"\n')
    assert any(kind in notice.message for notice in file.notices)
    secret = max(text.replace(",", "").split(), key=lambda word: sum(c.isdigit() or c == "@" for c in word))
    assert all(secret not in notice.message for notice in file.notices)


@pytest.mark.parametrize(
    "text",
    [
        "Published 12/03/2004 in 24,000 adults (PMID 12345678, NCT01234567, doi 10.1001/jama.2004.291.10.1238).",
        "BP 138/86, HR 104, 39.5 C, 500-1000 mg, 2001-2005, p < 0.001, 95% CI 1.02-1.34",
        "943 476 5918 is no NHS number, its check digit is wrong",
    ],
)
def test_figures_of_medicine_are_no_identifiers(text):
    assert identifier_kinds(text) == ()


@pytest.mark.parametrize(
    "text",
    [
        "Aspirin senkt das Risiko für Herzinfarkt bei Erwachsenen.",
        "¿Debo ir a urgencias si me duele mucho el pecho?",
        "У меня болит голова уже неделю",
        "头痛三天了，需要去医院吗？",
    ],
)
def test_other_languages_are_noticed(tmp_path, text):
    assert [notice[:2] for notice in notices(read(tmp_path, f"question\n{text}\n"))] == [(1, "question")]


@pytest.mark.parametrize(
    "text",
    [
        "Flexor digitorum longus subdivides into five tendons.",
        "Sirtuin 3 deacetylates mitochondrial superoxide dismutase.",
        "ESI 2? 71F L facial droop, apixaban",
        "TNF-α und",
        "Café?",
    ],
)
def test_clinical_english_and_short_texts_are_left_in_peace(text):
    assert not is_not_english(text)


def test_a_cell_that_swallowed_rows_is_named(tmp_path):
    file = read(tmp_path, 'question,answer\n"one,TRUE\ntwo,TRUE\nthree",TRUE\nfour,FALSE\n')
    assert [notice[:2] for notice in notices(file)] == [(1, "question")]


def test_many_notices_of_one_kind_are_summed_up(tmp_path):
    file = read(
        tmp_path, "question,answer\n" + "".join(f"q{n},perhaps\n" for n in range(332)) + "q,TRUE\nq,FALSE\n"
    )
    of_answers = [notice for notice in file.notices if "understood" in notice.message]
    assert [notice.row for notice in of_answers] == [*range(1, 21), None]
    assert of_answers[-1].message == "... and 312 more rows whose answer is not understood."
    assert any("opposite" in notice.message for notice in file.notices)
