"""What may identify a patient is found before it is stored, and clinical shorthand survives."""

import csv
import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from medx_core.cli.app import app
from medx_core.cli.data_identifiers import masking_figures, read_marked_texts
from medx_core.data import patient_data
from medx_core.data.bundled_texts import bundled_statements, free_text_questions
from medx_core.data.emergency_messages import bundled_messages
from medx_core.data.identifiers import IdentifierKind, identifiers, masked, settled, without_identifiers
from medx_core.data.patient_data import find_all, screened_file, screened_text
from medx_core.data.person_names import names
from medx_core.data.problems import FileLimits
from medx_core.data.question_files import read_question_file, write_questions
from medx_core.errors import BadInput
from medx_core.settings import PatientDataRule

MESSAGES, PHRASES = (
    Path(patient_data.__file__).parent / "bundled" / "patient_data" / name
    for name in ("messages.csv", "phrases.csv")
)
LETTER = "Dear Dr Achterberg, Mrs Ottilie Brandreth (MRN 00482917, born 3.2.1949) of 17 Larkrise Close, LS38 4QT rang from 07700 900461."


def test_bundled_messages_are_masked_and_their_other_texts_left_alone():
    figures = masking_figures(
        read_marked_texts(MESSAGES)[::4], find_all
    )  # all of them: `medx data identifiers`
    assert figures["classifier"]
    assert figures["recall"]["value"] > 0.95
    assert min(share["value"] for kind, share in figures["by_kind"].items() if kind != "name") >= 0.8
    assert figures["by_kind"]["name"]["value"] > 0.9
    assert figures["touched"]["value"] < 0.1


def test_clinical_phrases_survive():
    assert masking_figures(read_marked_texts(PHRASES)[::2], find_all)["items"] == []


@pytest.mark.parametrize(
    "text",
    [
        "Chest pain.No fever.",
        "T2 N0 M0, L4/5 and B12 142, E11.9, I10",
        "takes Celexa 40 mg and Xanax 0.5 mg tds",
        "HYVET and ISIS-2 enrolled 3,845 and 17,187 patients",
        "Graves', Crohn's, Parkinson's, Down, Raynaud's, Kawasaki and Bell's palsy",
        "Wells 4.5, Glasgow Coma Scale 13, Apgar 3, 7 and 9; Ottawa ankle rules; Hodgkin lymphoma",
        "Addison's versus Cushing's; Marcus Gunn pupil; Henoch-Schönlein purpura",
        "doses at 0800 1200 1600 2000, 10-5-5 mg, 1:20 titres, 138/86, 7.1/21.8",
        "published 12 March 2019 (PMID 12345678, NCT01234567)",
        "adults aged 80 to 95 years, over 90 years, 90% of 99 kg",
        "What are the symptoms of Lymphocytic Choriomeningitis (LCM)?",
        "SUBJECT: Periventricular Heterotopia. Its unique shape; storage of Estradiol Topical and Pectus Excavatum.",
        "Will We Miss Cancers Following Updated Guidelines?",
    ],
)
def test_what_looks_like_an_identifier_in_clinical_text_is_none(text):
    assert find_all(text) == ()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("my mum winifred oyelaran keeps falling", "my mum [removed] keeps falling"),
        ("Elspeth (GP receptionist) said to hold it.", "[removed] (GP receptionist) said to hold it."),
        ("KOWALCZYK, JAN DOB 11/02/1949 has gout", "[removed] DOB [removed] has gout"),
        ("Thanks for seeing her.\n\nBest,\nAilsa\nPractice nurse", "Thanks for seeing her.\n\nBest,\n[removed]\nPractice nurse"),
        ("Mrs Okafor has K 2.6. Okafor is on the ward.", "Mrs [removed] has K 2.6. [removed] is on the ward."),
        ("her sons Obinna and Kelechi were present", "her sons [removed] and [removed] were present"),
        ("Thomas splint, Bruce protocol, Austin Flint murmur", "Thomas splint, Bruce protocol, Austin Flint murmur"),
        ("Rose spots in week 2; will mark the site in May", "Rose spots in week 2; will mark the site in May"),
        ("Prof. van den Heuvel and mr de souza agreed", "Prof. [removed] and mr [removed] agreed"),
        ("Hello, I am Ngawang from Lhasa, a carer.", "Hello, I am [removed] from Lhasa, a carer."),
        ("Thank you for reviewing Thessaly, who wheezes.", "Thank you for reviewing [removed], who wheezes."),
        ("Cancel Zodwa's MRI. Can Kwabena drive?", "Cancel [removed]'s MRI. Can [removed] drive?"),
        ("Cathal Ó Súilleabháin rang. sunita didi too", "[removed] rang. [removed] didi too"),
        ("I've told her I've fainted. Don't. MenACWY due", "I've told her I've fainted. Don't. MenACWY due"),
        ("from Microgynon to Lucette mid pack; Ann Arbor IIA Hodgkin; Bair Hugger on", "from Microgynon to Lucette mid pack; Ann Arbor IIA Hodgkin; Bair Hugger on"),
        ("Ask Jamal Anthropic or Miss Cancers.", "Ask [removed] or Miss [removed]."),
        ("The memory nurse said donepezil 10 may help", "The memory nurse said donepezil 10 may help"),
    ],
)  # fmt: skip
def test_a_name_is_known_by_what_stands_around_it(text, kept):
    assert masked(text, find_all(text)) == kept


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("corner of Saddler Lane and Wick Street", "[removed]"),
        ("we stay at no 41 adeola crescent near the bank", "we stay at [removed] near the bank"),
        ("lives at Thistle Cottage, Nether Wallop", "lives at [removed]"),
        ("H.No. 77, Phase 4, third floor", "[removed], third floor"),
        ("Calle de la Luna 14; ul. Długa 8/2; Lindenstraße 5", "[removed]; [removed]; [removed]"),
        ("from Willow Bank Assisted Living by ambulance", "from [removed] by ambulance"),
        ("seen on 3rd of October, next check 14/6", "seen on [removed], next check [removed]"),
        ("I am ninety-four and well; 98, lives alone", "I am [removed] and well; [removed], lives alone"),
        ("DM u/quiet_otter_7 or my profile north_fells22", "DM [removed] or my profile [removed]"),
        ("RTC 6/12, pain 7/10, 2 may help, turn 45 degrees each way", "RTC 6/12, pain 7/10, 2 may help, turn 45 degrees each way"),
        ("the Mayo Clinic, a memory clinic, The Fracture Clinic", "the Mayo Clinic, a memory clinic, The Fracture Clinic"),
    ],
)  # fmt: skip
def test_places_dates_ages_and_handles_of_many_forms(text, kept):
    assert masked(text, find_all(text)) == kept


def test_bundled_texts_hold_nothing_that_identifies():
    texts = [each.statement for each in bundled_statements()] + [
        each.question for each in free_text_questions()
    ]
    touched = [text for text in texts if identifiers(text) or names(text, None)]
    assert len(touched) <= 8, touched  # "devised by Robert Guthrie"


# What rules alone take for names in the messages that emergencies are recognised by, all of it read. Their writers invented
# persons ("Mr Singh 74", "my sister Maureen", "Mrs D"), which masking must find: they are no mistakes.
INVENTED = frozenset(
    re.findall(
        r"\w+",
        """Adeyemi Albie Anand Angel Anu Aoife B Bernadette Byrne Ashdown Cushion D Rowe Dee Doyle Eze Feeney Gemma Hale Hilda
        Joyce K Kaur Keith Lim Maureen Ngozi Niamh Okafor Oonagh Owen Pat Pham Prendergast Priya R Mbeki Rao S C Singh Sofia
        Teresa Whitcombe""",
    )
)
NO_PERSONS = {"Peter Piper", "Tyrone"}  # what somebody recites, and a county


def test_what_is_taken_for_a_name_in_emergency_messages_is_one():
    taken = {
        message.text[each.start : each.end]
        for message in bundled_messages()
        for each in names(message.text, None)
    }
    assert {name for name in taken if not set(name.replace(".", "").split()) <= INVENTED} == NO_PERSONS


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=200) | st.lists(st.sampled_from(LETTER.split()), max_size=30).map(" ".join))
def test_spans_are_in_order_apart_and_inside_any_text(text):
    found = settled((*identifiers(text), *names(text, None)))
    assert all(0 <= each.start < each.end <= len(text) for each in found)
    assert all(first.end <= second.start for first, second in pairwise(found))
    assert len(masked(text, found).split("[removed]")) >= len(found)


def test_masking_twice_changes_nothing():
    once, _ = screened_text(LETTER, PatientDataRule.MASK)
    assert (
        once
        == "Dear Dr [removed], Mrs [removed] (MRN [removed], born [removed]) of [removed], [removed] rang from [removed]."
    )
    assert screened_text(once, PatientDataRule.MASK) == (once, patient_data.Screening(PatientDataRule.MASK))


def test_each_rule_does_what_it_says_and_never_repeats_the_text():
    for rule in PatientDataRule:
        if rule is PatientDataRule.REFUSE:
            with pytest.raises(BadInput, match="Nothing was stored") as refused:
                screened_text(LETTER, rule)
            said = str(refused.value)
        else:
            text, screening = screened_text(LETTER, rule)
            assert (text == LETTER) is (rule is PatientDataRule.WARN)
            said = screening.sentence() + json.dumps(screening.as_json())
        assert "a telephone number" in said
        assert not any(part in said for part in ("Brandreth", "Achterberg", "900461", "00482917", "Larkrise"))


@pytest.fixture
def uploaded(tmp_path):
    path = tmp_path / "Mrs Ottilie Brandreth.csv"
    path.write_text(
        "id,question,MRN,surname,note,pmid\n"
        "7,Is aspirin safe?,4829,Brandreth,seen by Dr Achterberg,12345678\n"
        "8,May jo@example.org fly?,,,calm,\n",
        encoding="utf-8",
    )
    return read_question_file(path, limits=FileLimits())


def test_carried_columns_and_the_name_of_the_file_are_masked_too(uploaded, tmp_path):
    file, screening = screened_file(uploaded, PatientDataRule.MASK)
    first, second = file.rows
    assert second.text == "May [removed] fly?"
    assert first.carried == {
        "MRN": "4829", "surname": "[removed]", "note": "seen by Dr [removed]", "pmid": "12345678",
    }  # fmt: skip
    assert "Brandreth" not in file.name
    assert screening.kinds == Counter({IdentifierKind.NAME: 3, IdentifierKind.EMAIL: 1})
    with (tmp_path / "again.csv").open("w", encoding="utf-8", newline="") as out:
        write_questions(file.rows, out)
    again = read_question_file(tmp_path / "again.csv", limits=FileLimits())
    assert [(row.id, row.text, row.carried) for row in again.rows] == [
        (row.id, row.text, row.carried) for row in file.rows
    ]


def test_without_the_classifier_rules_mask_and_it_is_said(monkeypatch):
    monkeypatch.setattr(patient_data, "name_finder", lambda: None)
    text, screening = screened_text(LETTER, PatientDataRule.MASK)
    assert "Brandreth" not in text
    assert "rules alone" in screening.sentence()


def test_the_measuring_command_counts_what_is_covered(tmp_path):
    path = tmp_path / "messages.csv"
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerows(
            [("text", "identifiers"), ("Ring 07700 900461", '[{"kind": "phone", "text": "07700 900461"}]')]
        )
        writer.writerow(("Zed is well", '[{"kind": "name", "text": "Zed"}]'))
        writer.writerow(("T2 N0 M0", "[]"))
    done = CliRunner().invoke(
        app, ["data", "identifiers", "--data", str(path), "--json", str(tmp_path / "out.json")]
    )
    assert done.exit_code == 0, done.output
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["by_kind"]["phone"]["value"] == 1
    assert figures["recall"]["n"] == 2
    assert figures["touched"]["value"] == 0
    assert without_identifiers("Ring 07700 900461") == "Ring [removed]"
