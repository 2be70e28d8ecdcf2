"""The bundled messages that emergencies are recognised by, and files of messages to measure with."""

import csv
from collections import Counter
from importlib.resources import files
from statistics import median

import pytest

from medx_core.data.emergency_messages import bundled_messages, read_message_file
from medx_core.data.identifiers import IdentifierKind, identifier_kinds
from medx_core.data.problems import FileLimits, FileRefused

BUNDLED = files("medx_core.data") / "bundled" / "emergencies"


def kind_sources() -> dict[str, str]:
    rows = csv.DictReader((BUNDLED / "kinds.csv").read_text("utf-8").splitlines())
    return {row["kind"]: row["source"] for row in rows}


def test_every_message_is_labelled_and_its_kind_has_a_source():
    messages = bundled_messages()
    assert Counter(message.emergency for message in messages) == {True: 1_865, False: 1_838}
    assert {message.writer for message in messages} == {"a", "b", "c", "d", "e", "f", "g"}
    assert all(message.style for message in messages)
    assert {message.kind for message in messages} == set(kind_sources())
    assert all(len(source) > 10 for source in kind_sources().values())


def test_every_kind_has_emergencies_and_look_alikes():
    counts = Counter((message.kind, message.emergency) for message in bundled_messages())
    counts[("privacy-admin", True)] = 20  # nobody is in danger there
    assert {kind for kind, _ in counts} == set(kind_sources())
    assert min(counts.values()) >= 20


def test_no_message_comes_twice_and_length_does_not_tell_the_label():
    messages = bundled_messages()
    assert len({" ".join(message.text.casefold().split()) for message in messages}) == len(messages)
    lengths = [
        median(len(message.text) for message in messages if message.emergency is label)
        for label in (True, False)
    ]
    assert max(lengths) < 1.2 * min(lengths)


# "4 June", "the tyre place on the Old Dublin Road": of nobody, in an invented message.
NAMES_NOBODY = {IdentifierKind.AGE, IdentifierKind.DATE, IdentifierKind.ADDRESS}


def test_no_message_holds_an_identifier():
    assert [
        message.text for message in bundled_messages() if set(identifier_kinds(message.text)) - NAMES_NOBODY
    ] == []


def test_a_file_of_messages_may_leave_labels_and_kinds_out(tmp_path):
    file = tmp_path / "messages.csv"
    file.write_text('Text;emergency;other\nHe is not breathing;1;x\n"Hay fever; mild";;y\n', encoding="utf-8")
    first, second = read_message_file(file, FileLimits())
    assert (first.text, first.emergency, first.kind) == ("He is not breathing", True, "")
    assert (second.text, second.emergency) == ("Hay fever; mild", None)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("message,emergency\nx,1\n", "no 'text' column"),
        ("text,emergency\nx,yes\n", "Row 1: 'yes' is no label"),
        ("text,emergency\n,1\n", "Row 1: the text is empty"),
        ("text,emergency\n", "no rows"),
    ],
)
def test_a_file_that_cannot_be_measured_with_says_why(tmp_path, content, said):
    file = tmp_path / "messages.csv"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(FileRefused, match=said):
        read_message_file(file, FileLimits())
