"""What names and passwords are taken."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medx_core.errors import BadInput
from medx_core.storage.account_rules import (
    appearance,
    check_password,
    generated_password,
    name_key,
    usable_name,
)


@pytest.mark.parametrize(
    "password",
    ["short", "password12", "qwertyuiop", "1111111111", "P@ssw0rd123", "abcdefghijkl", "summer2026", "medxmedxmedx",
     "noor el amin 1", "NOORisagoodname", "x" * 72, "x" * 1001],
)  # fmt: skip
def test_passwords_that_are_guessed_first_are_refused(password):
    with pytest.raises(BadInput):
        check_password(password, "Noor el Amin")


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery",
        "korrekte pferde Ähre",
        "v9#Lq2!xTz",
        "三匹の猫が屋根で踊る夜明け",
        "w" + "rabbit tin lake " * 20,
    ],
)
def test_passwords_that_take_long_to_guess_are_taken(password):
    check_password(password, "Noor el Amin")


def test_a_password_made_here_is_taken_whatever_the_name():
    for name in ("a", "ada", "Noor el Amin", "x_y"):
        check_password(generated_password(name), name)


@pytest.mark.parametrize(
    ("name", "stored"),
    [("  Ann   Lee ", "Ann Lee"), ("Ａｎｎ", "Ann"), ("Zoe\u0308 O’Brien-Smith", "Zoë O’Brien-Smith"), ("山田 ゆき", "山田 ゆき"),
     ("김민수", "김민수"), ("علي", "علي"), ("Łukasz", "Łukasz"), ("rater 2", "rater 2"), ("dr.x@ward_1", "dr.x@ward_1")],
)  # fmt: skip
def test_names_of_one_script_are_stored_in_one_form(name, stored):
    assert usable_name(name) == stored


@pytest.mark.parametrize(
    "name",
    [
        "",
        "  ",
        "x" * 81,
        "a\0b",
        "a\u202eb",
        "a\u200bb",
        "Аnn",
        "sсоре",
        "ann 🙂",
        "12",
        "<b>ann</b>",
        "a\ud800",
    ],
)
def test_names_that_nobody_could_tell_apart_or_read_are_refused(name):
    with pytest.raises(BadInput, match="name"):
        usable_name(name)


def test_names_that_look_alike_look_the_same():
    assert appearance("раур") == appearance("payp")
    assert appearance("Ann") != appearance("Anna")
    assert name_key("ANN  Lee") == name_key("ann lee")


@given(st.text())
def test_no_text_breaks_the_rules(text):
    for rule in (lambda: usable_name(text), lambda: check_password(text, text), lambda: appearance(text)):
        with suppress(BadInput):
            rule()
