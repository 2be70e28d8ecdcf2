"""Twins exchange one word of a kind, each as often taken out as put in, and never what the file calls TRUE."""

import io
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from medx_core.cli.app import app
from medx_core.data.entities import EntityKinds, same_thing
from medx_core.data.labelled_files import load_labelled
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.data.near_duplicates import words_in_order
from medx_core.data.twins import COLUMNS, swap_twins, write_twins

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "azeez_tf_dev.csv"

NERVES = ("femoral nerve", "ulnar nerve", "optic nerve", "sural nerve", "left phrenic nerve")
BONES = ("femur", "tibia", "scapula", "hyoid bone")
FRAMES = (
    "The {} lies in this region.",
    "An old scar hides the {}.",
    "Surgery of the {} takes long.",
    "Blood flows around the {}.",
    "The {} was first drawn in 1543.",
    "Pain in the {} wakes people at night.",
    "Nobody sees the {} from outside.",
    "Warmth soothes the {} well.",
)


def statements(*texts: str, answer: bool = True) -> list[LabelledStatement]:
    return [LabelledStatement(text, answer, f"g{place}") for place, text in enumerate(texts)]


def changed(text: str, other: str) -> tuple[str, str]:
    """What stands in `text` where something else stands in `other`."""
    words, others = words_in_order(text), words_in_order(other)
    start = next(place for place in range(len(words)) if words[place] != others[place])
    end = next(back for back in range(1, len(words) + 1) if words[-back] != others[-back]) - 1
    return " ".join(words[start : len(words) - end]), " ".join(others[start : len(others) - end])


@st.composite
def files(draw):
    """Statements, both TRUE and FALSE, that name a nerve or a bone each."""
    frames = draw(st.lists(st.sampled_from(FRAMES), min_size=2, unique=True))
    return [
        LabelledStatement(
            frame.format(draw(st.sampled_from(NERVES + BONES))), draw(st.booleans()), f"g{place}"
        )
        for place, frame in enumerate(frames)
    ]


@settings(max_examples=25)
@given(file=files(), seed=st.integers(0, 100))
def test_within_each_couple_of_words_as_many_go_one_way_as_the_other(file, seed):
    rows = swap_twins(file, seed)
    for source_answer in (True, False):
        ways = Counter(
            changed(row.statement, other.statement)
            for row, other in zip(rows[::2], rows[1::2], strict=True)
            if row.source_answer is source_answer
        )
        assert all(ways[there, here] == count for (here, there), count in ways.items())
    assert swap_twins(file, seed) == rows


@settings(max_examples=25)
@given(file=files(), seed=st.integers(0, 100))
def test_every_pair_has_its_original_and_one_exchanged_version_that_is_new(file, seed):
    rows = swap_twins(file, seed)
    texts = {statement.text: statement.answer for statement in file}
    assert len({row.statement for row in rows}) == len(rows)
    for original, exchanged in zip(rows[::2], rows[1::2], strict=True):
        assert original.pair == exchanged.pair
        assert (original.original, exchanged.original) == (True, False)
        assert texts[original.statement] is original.answer is original.source_answer
        assert exchanged.answer is False
        assert exchanged.statement not in texts
    assert all(count == 4 for count in Counter(row.quad for row in rows).values())


def test_from_false_statements_comes_the_association_control():
    file = [
        *statements("The optic nerve bends.", "The sural nerve is long.", answer=False),
        *statements("The femur is made of three parts.", "The tibia has two ends."),
    ]
    rows = swap_twins(file, 0)
    control = [row for row in rows if not row.source_answer]
    assert {row.statement for row in control if row.original} == {statement.text for statement in file[:2]}
    assert not any(row.answer for row in control)
    assert {row.kind for row in rows if row.source_answer} == {"count"}


def test_what_the_file_calls_true_in_nearly_these_words_is_not_made():
    near = "The ulnar nerve runs behind the elbow, under the skin, in its groove"
    file = statements(
        f"{near}, freely.", "The median nerve runs behind the elbow, under the skin, in its groove, freely."
    )
    assert swap_twins(file, 0) == ()
    far = statements(f"{near}, freely.", "The median nerve bends the thumb.")
    assert len(swap_twins(far, 0)) == 4
    assert (
        swap_twins(
            [*far, *statements("The median nerve runs behind the elbow, under the skin, in its groove.")], 0
        )
        == ()
    )


@pytest.mark.parametrize(
    "text",
    [
        "The knee is not near the ulnar nerve.",
        "Many nerves, such as the ulnar nerve, bend.",
        "The ulnar nerve is clinically important.",
        "The ulnar nerve meets the ulnar nerve.",
        "It bends (like the ulnar nerve).",
        "The ulnar nerve (UN) bends.",
    ],
)
def test_frames_that_an_exchange_would_not_make_false_are_left_alone(text):
    assert swap_twins(statements(text, "The median nerve bends the thumb."), 0) == ()


def exchanged(text: str, entity: str, other: str) -> str | None:
    kinds = EntityKinds.from_texts([text, f"There the {other} is."])
    mention = next(each for each in kinds.mentions(text) if " ".join(each.words) == entity)
    return kinds.exchanged(text, mention, tuple(other.lower().split()))


def test_an_exchange_keeps_the_grammar_of_the_sentence():
    assert exchanged("Femur and skin.", "femur", "hyoid bone") == "Hyoid bone and skin."
    assert exchanged("Blood leaves by the aorta.", "aorta", "SVC") == "Blood leaves by the SVC."
    assert exchanged("SVC opens here.", "svc", "aorta") == "Aorta opens here."
    assert exchanged("It is an ulna.", "ulna", "ilium") == "It is an ilium."
    assert exchanged("It is an ulna.", "ulna", "femur") is None
    assert exchanged("The femur of the ulna.", "femur", "ulna") is None
    assert exchanged("The piriformis muscle.", "piriformis", "deltoid muscle") is None


def test_singular_and_plural_are_kinds_of_their_own():
    kinds = EntityKinds.from_texts(
        ["The renal veins open.", "The renal vein opens.", "The optic nerve ends."]
    )
    assert kinds.occurring["vein"] == (("renal", "vein"),)
    assert kinds.occurring["vein (plural)"] == (("renal", "veins"),)
    assert ("optic", "nerve") in kinds.occurring["nerve"]


def test_names_are_found_by_their_structure_and_general_words_are_none():
    kinds = EntityKinds.from_texts(
        [
            "The posterior interosseous nerve ends.",
            "The deep nerve ends.",
            "A spinal nerve ends.",
            "The artery feeds the nerve.",
        ]
    )
    assert kinds.occurring["nerve"] == (("posterior", "interosseous", "nerve"),)


@pytest.mark.parametrize(
    ("name", "other", "same"),
    [
        ("knee", "knee joint", True),
        ("neck", "cervical region", True),
        ("oesophagus", "esophagus", True),
        ("left kidney", "kidney", True),
        ("superior mesenteric artery", "inferior mesenteric artery", False),
        ("knee", "elbow", False),
    ],
)
def test_names_of_one_thing_are_never_exchanged_for_each_other(name, other, same):
    assert same_thing(tuple(name.split()), tuple(other.split())) is same


def test_alternatives_are_others_of_the_kind_that_occur_in_the_texts():
    kinds = EntityKinds.from_texts(FRAMES[place].format(nerve) for place, nerve in enumerate(NERVES))
    made = kinds.alternatives("The ulnar nerve bends the thumb.", k=4, seed=1)
    assert made is not None
    assert made.words[0] == "ulnar nerve"
    assert set(made.words[1:]) == set(NERVES) - {"ulnar nerve"}
    assert all(
        text == f"The {word} bends the thumb." for word, text in zip(made.words[1:], made.texts, strict=True)
    )
    assert kinds.alternatives("The ulnar nerve bends the thumb.", k=4, seed=1) == made
    assert kinds.alternatives("Nothing is said here.", k=4, seed=1) is None


def test_both_of_two_twins_are_asked_about_the_same_place():
    kinds = EntityKinds.from_texts(
        [*(f"The {each} bends." for each in NERVES), *(f"The {each} breaks." for each in BONES)]
    )
    for frame in ("The {} meets the femur.", "Under the {} lies the tibia.", "The scapula hides the {}."):
        places = set()
        for nerve in NERVES[:4]:
            made = kinds.alternatives(frame.format(nerve), k=2, seed=len(nerve))
            assert made is not None
            places.add(made.words[0] in NERVES)
        assert len(places) == 1


def test_twins_come_back_from_their_file_as_complete_pairs(tmp_path):
    rows = swap_twins(statements(*(FRAMES[place].format(nerve) for place, nerve in enumerate(NERVES))), 0)
    path = tmp_path / "twins.csv"
    with path.open("w", encoding="utf-8", newline="") as out:
        write_twins(rows, out)
    data = load_labelled(path)
    assert [statement.text for statement in data.statements] == [row.statement for row in rows]
    assert [statement.pair for statement in data.statements] == [row.pair for row in rows]
    assert [(statement.source_answer, statement.original) for statement in data.statements] == [
        (row.source_answer, row.original) for row in rows
    ]
    assert data.notes["incomplete_pairs"] == 0


def test_the_command_writes_the_columns_of_the_contract_and_shows_what_to_check(tmp_path):
    file, out = tmp_path / "in.csv", tmp_path / "out.csv"
    lines = [frame.format((*NERVES[:4], *BONES[:4])[place]) for place, frame in enumerate(FRAMES)]
    file.write_text("statement,answer\n" + "".join(f"{line},TRUE\n" for line in lines))
    done = CliRunner().invoke(app, ["data", "twins", "--data", str(file), "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert out.read_text().startswith("pair,statement,answer,original,source_answer")
    assert out.read_text().splitlines()[0] == ",".join(COLUMNS)
    assert "twins to check by hand" in done.output
    assert "AUROC" in done.output


def test_a_file_without_medical_words_makes_no_twins_and_says_so(tmp_path):
    file = tmp_path / "in.csv"
    file.write_text("statement,answer\nIt rains.,TRUE\nIt snows.,TRUE\n")
    done = CliRunner().invoke(app, ["data", "twins", "--data", str(file), "-o", str(tmp_path / "out.csv")])
    assert "No two statements name different things of one kind" in str(done.exception)


@pytest.mark.skipif(not SHARED.exists(), reason="the development data do not lie beside the checkout")
def test_the_development_file_makes_twins_enough_to_measure_with():
    rows = swap_twins(load_labelled(SHARED).statements, 1)
    originals = Counter(row.source_answer for row in rows if row.original)
    assert originals[True] >= 1_200
    assert originals[False] >= 600
    out = io.StringIO(newline="")
    write_twins(rows, out)
    assert len(out.getvalue().splitlines()) == len(rows) + 1
