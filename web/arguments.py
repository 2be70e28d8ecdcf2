"""Are the arguments of a call what its handler takes? Programs send anything; a page never sees these sentences.

Only text, numbers, true or false, and nothing are looked at; for everything else the handler itself knows better.
"""

import inspect
import math
import typing
from collections.abc import Callable, Sequence
from types import NoneType, UnionType
from typing import Any

from medx_core.errors import BadInput

WORDS: dict[type, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    NoneType: "null",
}

Expected = Sequence[tuple[str, tuple[type, ...]]]


def expected_arguments(handler: Callable[..., Any]) -> Expected:
    """Return the handler's inputs after the person with the types each may have; no types means anything."""
    hints = typing.get_type_hints(handler)
    inputs = list(inspect.signature(handler).parameters.values())[1:]
    named = (one for one in inputs if one.kind is not inspect.Parameter.VAR_POSITIONAL)
    return tuple((one.name, _types(hints.get(one.name, Any))) for one in named)


def check_arguments(expected: Expected, given: Sequence[Any]) -> None:
    """Refuse a call whose arguments are of another type than the handler takes.

    Raises:
        BadInput: an argument is of the wrong type; the sentence names it.
    """
    for (name, types), value in zip(expected, given, strict=False):  # those left out have defaults
        if types and not _fits(value, types):
            raise BadInput(f"The argument {name} must be {' or '.join(WORDS[one] for one in types)}.")


def _types(hint: Any) -> tuple[type, ...]:
    parts = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, UnionType) else (hint,)
    return tuple(parts) if set(parts) <= WORDS.keys() else ()


def _fits(value: object, types: tuple[type, ...]) -> bool:
    if isinstance(value, bool):  # a kind of int to Python, not to people
        return bool in types
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return isinstance(value, types) or (isinstance(value, int) and float in types)
