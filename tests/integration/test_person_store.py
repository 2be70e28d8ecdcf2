"""People: who may sign in, and when a session ends."""

from functools import partial

import pytest

from medx_core.errors import BadInput, NotAllowed, NotFound
from medx_core.storage.people import Role
from medx_core.storage.tables import PersonTable
from tests.databases import at_once

PASSWORD = "correct horse battery"


def test_the_right_password_signs_in_and_nothing_else_does(people):
    ann = people.add("Ann Lee", Role.CLINICIAN, PASSWORD)
    assert people.authenticate("ann  LEE", PASSWORD) == ann
    for name, password in [("Ann Lee", PASSWORD + "x"), ("Ann", PASSWORD), ("", ""), ("Ann Lee", "\ud800")]:
        assert people.authenticate(name, password) is None


def test_a_password_is_never_stored_as_it_is(database, people):
    people.add("Ann", Role.ASKER, PASSWORD)
    with database.read() as session:
        stored = session.get(PersonTable, 1)
    assert stored.password_hash.startswith("$argon2id$")
    assert PASSWORD not in repr(stored)


def test_a_disabled_person_cannot_sign_in_until_enabled_again(people):
    people.add("Admin", Role.ADMIN, PASSWORD)
    ann = people.add("Ann", Role.ASKER, PASSWORD)
    disabled = people.disable("ann")
    assert people.authenticate("Ann", PASSWORD) is None
    assert people.disable("ann") == disabled
    assert people.enable("ann") == people.authenticate("Ann", PASSWORD) == ann


def test_changing_a_password_needs_the_old_one(people):
    people.add("Ann", Role.ASKER, PASSWORD)
    with pytest.raises(NotAllowed):
        people.change_password("Ann", "not the old one", "a new password")
    changed = people.change_password("Ann", PASSWORD, "a new password")
    assert people.authenticate("Ann", PASSWORD) is None
    assert people.authenticate("Ann", "a new password") == changed


@pytest.mark.parametrize("password", ["", "123456789", "x" * 1001])
def test_a_password_of_the_wrong_length_is_refused(people, password):
    with pytest.raises(BadInput, match="at least 10"):
        people.add("Ann", Role.ASKER, password)
    assert people.list() == ()


@pytest.mark.parametrize("name", ["", "a\u202eb", "Аnn"])
def test_a_name_that_nobody_can_read_is_refused(people, name):
    with pytest.raises(BadInput, match="name"):
        people.add(name, Role.ASKER, PASSWORD)


def test_no_two_people_have_names_that_look_alike(people):
    people.add("Ann Lee", Role.ASKER, PASSWORD)
    with pytest.raises(BadInput, match="already somebody"):
        people.add(" ann lee", Role.ADMIN, PASSWORD)
    people.add("scope", Role.ASKER, PASSWORD)
    with pytest.raises(BadInput, match="already somebody"):
        people.add("ѕсоре", Role.ADMIN, PASSWORD)  # every letter is Cyrillic
    people.disable("scope")
    results = at_once(*(partial(people.add, "Bob", Role.ASKER, PASSWORD) for _ in range(4)))
    assert sorted(type(result).__name__ for result in results) == ["BadInput"] * 3 + ["Person"]
    assert [person.name for person in people.list()] == ["Ann Lee", "Bob", "scope"]


def test_the_only_administrator_can_be_neither_disabled_nor_demoted(people):
    people.add("Ann", Role.ADMIN, PASSWORD)
    people.add("Bob", Role.ASKER, PASSWORD)
    for act in (partial(people.disable, "Ann"), partial(people.set_role, "Ann", Role.ASKER)):
        with pytest.raises(NotAllowed, match="only administrator"):
            act()
    for _ in range(8):
        people.enable("Ann")
        people.enable("Bob")
        people.set_role("Bob", Role.ADMIN)
        results = at_once(partial(people.disable, "Ann"), partial(people.disable, "Bob"))
        assert sum(isinstance(result, NotAllowed) for result in results) == 1


def test_an_unknown_name_is_said(people):
    for act in (people.find, people.disable, people.enable, partial(people.reset_password, new=PASSWORD)):
        with pytest.raises(NotFound, match="nobody called Eve"):
            act("Eve")
