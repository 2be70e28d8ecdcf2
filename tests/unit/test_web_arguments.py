from typing import Any

import pytest

from medx_core.errors import BadInput
from web.handler_guard import argument_types, check_arguments


def handler(
    person: object, text: str, path: str | None, count: int, share: float | None, on: bool, form: dict[str, Any], *rest: Any
) -> None:  # fmt: skip
    """Takes a bit of everything."""


EXPECTED = argument_types(handler)
RIGHT = ("a", None, 3, 0.5, True, {})


@pytest.mark.parametrize(
    "given", [RIGHT, ("a", "b", 3, 4, False, []), ("a",), (*RIGHT, 1, None, []), ("", "", 0, None, True, 5)]
)
def test_what_a_handler_takes_is_let_through(given):
    check_arguments(EXPECTED, given)


@pytest.mark.parametrize(
    ("at", "value", "sentence"),
    [
        (0, None, "The argument text must be text."),
        (0, 5, "The argument text must be text."),
        (1, {}, "The argument path must be text or null."),
        (2, "3", "The argument count must be a whole number."),
        (2, True, "The argument count must be a whole number."),
        (2, 3.5, "The argument count must be a whole number."),
        (3, float("nan"), "The argument share must be a number or null."),
        (4, 1, "The argument on must be true or false."),
    ],
)
def test_a_wrong_type_is_refused_in_one_sentence_that_names_the_argument(at, value, sentence):
    given = [*RIGHT[:at], value, *RIGHT[at + 1 :]]
    with pytest.raises(BadInput, match=sentence):
        check_arguments(EXPECTED, given)
