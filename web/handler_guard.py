"""The guard of every page event: who is asking, may they, are the arguments sound, and what they read when it fails.

A handler takes the signed-in person first. `guarded` turns it into the function Gradio calls. It looks the person up
again, so that a role taken away works at once; refuses roles that are too low and arguments of the wrong type
(programs may send anything); and turns errors into sentences.
"""

import inspect
import logging
import math
import secrets
import typing
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from types import NoneType, UnionType
from typing import Any

import gradio as gr

from medx_core.errors import BadInput, MedxError, NotAllowed
from medx_core.storage.people import Person, Role
from web import wording
from web.rendering import fault
from web.services import Services

log = logging.getLogger(__name__)

RANK = {Role.ASKER: 0, Role.CLINICIAN: 1, Role.ADMIN: 2}
TYPE_WORDS: dict[type, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    NoneType: "null",
}

Handler = Callable[..., Any]
ArgumentTypes = Sequence[tuple[str, tuple[type, ...]]]


def reaches(person: Person, at_least: Role) -> bool:
    """Whether the person's role is `at_least` or a higher one."""
    return RANK[person.role] >= RANK[at_least]


def admit(services: Services, name: str | None, at_least: Role) -> Person:
    """Return the signed-in person.

    Raises:
        NotAllowed: nobody is signed in, or the role is too low.
        NotFound: the person was removed.
    """
    if not name:
        raise NotAllowed(wording.SIGN_IN_FIRST)
    person = services.people.find(name)
    if person.disabled:
        raise NotAllowed(wording.SIGN_IN_FIRST)
    if not reaches(person, at_least):
        raise NotAllowed(wording.action_needs(needed=at_least.value, own=person.role.value))
    return person


@contextmanager
def errors_as_messages() -> Iterator[None]:
    """Turn errors into what a page may show: our sentences as they are, anything else as a reference to the log."""
    try:
        yield
    except gr.Error:
        raise
    except MedxError as error:
        raise gr.Error(str(error), duration=None, print_exception=False, title="Not done") from error
    except Exception as error:  # the traceback goes to the log, the reader gets a reference to it
        reference = secrets.token_hex(4)
        log.exception("page handler failed, reference %s", reference)
        raise gr.Error(wording.something_broke(reference), print_exception=False) from error


def beside(handler: Handler, *, fills: int, where: int = 0) -> Handler:
    """Return a handler whose refusal is no passing message but stays on the page as one of the `fills` things it fills.

    What it fills besides, at the place `where` a refusal stands, and that is emptied once nothing is refused.
    """

    @wraps(handler)
    def told(person: Person, *inputs: Any) -> tuple[Any, ...]:
        try:
            result = handler(person, *inputs)
        except MedxError as error:
            shown: list[Any] = [gr.skip()] * fills
            shown.insert(where, fault(str(error)))
            return tuple(shown)
        filled = list(result) if isinstance(result, tuple) else [result]
        filled.insert(where, "")
        return tuple(filled)

    told.__annotations__ = handler.__annotations__ | {"return": tuple[Any, ...]}
    return told


def guarded(services: Services, at_least: Role = Role.ASKER) -> Callable[[Handler], Handler]:
    """Return a decorator that turns a handler `(person, *inputs)` into a function `(request, *inputs)` for Gradio."""

    def guard(handler: Handler) -> Handler:
        let_in = partial(_let_in, services, at_least, argument_types(handler))

        async def stream(request: gr.Request, *inputs: Any) -> AsyncIterator[Any]:
            with errors_as_messages():
                person = let_in(request, inputs)
                async for value in handler(person, *inputs):
                    yield value

        def call(request: gr.Request, *inputs: Any) -> Any:
            with errors_as_messages():
                return handler(let_in(request, inputs), *inputs)

        async def wait(request: gr.Request, *inputs: Any) -> Any:
            with errors_as_messages():
                return await handler(let_in(request, inputs), *inputs)

        made: Handler = call
        if inspect.isasyncgenfunction(handler):
            made = stream
        elif inspect.iscoroutinefunction(handler):
            made = wait
        return _with_signature_of(handler, made, at_least=at_least)

    return guard


def argument_types(handler: Callable[..., Any]) -> ArgumentTypes:
    """Return the handler's inputs after the person with the types each may have; an empty tuple means any type.

    Only text, numbers, booleans and None are checked; anything else the handler checks itself.
    """
    hints = typing.get_type_hints(handler)
    inputs = list(inspect.signature(handler).parameters.values())[1:]
    named = (parameter for parameter in inputs if parameter.kind is not inspect.Parameter.VAR_POSITIONAL)
    return tuple((parameter.name, _types(hints.get(parameter.name, Any))) for parameter in named)


def check_arguments(expected: ArgumentTypes, given: Sequence[Any]) -> None:
    """Refuse a call whose arguments are of another type than the handler takes.

    Raises:
        BadInput: an argument is of the wrong type; the sentence names it.
    """
    for (name, types), value in zip(expected, given, strict=False):  # arguments left out have defaults
        if types and not _fits(value, types):
            raise BadInput(
                f"The argument {name} must be {' or '.join(TYPE_WORDS[allowed] for allowed in types)}."
            )


def _let_in(
    services: Services, at_least: Role, expected: ArgumentTypes, request: gr.Request, inputs: tuple[Any, ...]
) -> Person:
    """Return the person who asks, once they may and their arguments are of the handler's types."""
    person = admit(services, request.username, at_least)
    check_arguments(expected, inputs)
    return person


def _with_signature_of(handler: Handler, made: Handler, *, at_least: Role) -> Handler:
    """Give `made` the name, docstring and inputs of the handler, with the request in the person's place.

    Gradio reads them for the API that programs see.
    """
    hints = typing.get_type_hints(handler)
    inputs = list(inspect.signature(handler).parameters.values())[1:]
    request = inspect.Parameter("request", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=gr.Request)
    made.__name__ = made.__qualname__ = handler.__name__
    made.__doc__ = handler.__doc__
    made.__annotations__ = {"request": gr.Request} | {
        name: hint for name, hint in hints.items() if name in {p.name for p in inputs} | {"return"}
    }
    made.__dict__["__signature__"] = inspect.Signature(
        [request, *(p.replace(annotation=hints.get(p.name, Any)) for p in inputs)],
        return_annotation=hints.get("return", Any),
    )
    made.__dict__["medx_role"] = at_least
    return made


def _types(hint: Any) -> tuple[type, ...]:
    parts = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, UnionType) else (hint,)
    return tuple(parts) if set(parts) <= TYPE_WORDS.keys() else ()


def _fits(value: object, types: tuple[type, ...]) -> bool:
    if isinstance(value, bool):  # a subclass of int in Python, but not a number to people
        return bool in types
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return isinstance(value, types) or (isinstance(value, int) and float in types)
