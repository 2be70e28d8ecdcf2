"""The guard of every page event: who is asking, may they, are the arguments sound, and what they read when it fails.

A handler takes the signed-in person first. `guarded` turns it into the function Gradio calls. It looks the person up
again, so that a role taken away or a session ended works at once, also while an answer is followed; refuses roles that are too low and arguments of the wrong type
(programs may send anything); and turns errors into sentences.
"""

import asyncio
import inspect
import math
import time
import typing
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from pathlib import Path
from types import NoneType, UnionType
from typing import Any

import gradio as gr

from medx_core.errors import BadInput, MedxError, NotAllowed
from medx_core.storage.credentials import Scope, Visitor
from medx_core.storage.people import Person, Role
from web import wording
from web.faults import sentence_of
from web.rendering import fault
from web.services import Services
from web.session import PERSON_IN_SCOPE, may_use

LOOK_AGAIN_SECONDS = 1.0
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


def admit(services: Services, visitor: Visitor | None, at_least: Role, scope: Scope | None = None) -> Visitor:
    """Return the signed-in person as they are now.

    Raises:
        NotAllowed: nobody is signed in, the session has ended meanwhile, the role is too low, or the token of a program is
            not for this.
    """
    present = None if visitor is None else services.sessions.still(visitor)
    if present is None:
        raise NotAllowed(wording.SIGN_IN_FIRST)
    if not reaches(present, at_least):
        raise NotAllowed(wording.action_needs(needed=at_least.value, own=present.role.value))
    if not may_use(present, scope):
        raise NotAllowed(wording.token_needs(scope))
    return present


@contextmanager
def errors_as_messages(home: Path) -> Iterator[None]:
    """Turn errors into what a page may show: our sentences as they are, anything else as a reference to the log."""
    try:
        yield
    except gr.Error:
        raise
    except MedxError as error:
        raise gr.Error(str(error), duration=None, print_exception=False, title="Not done") from error
    except Exception as error:
        raise gr.Error(sentence_of(error, home), print_exception=False) from error


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


def guarded(
    services: Services, at_least: Role = Role.ASKER, *, scope: Scope | None = None
) -> Callable[[Handler], Handler]:
    """Return a decorator that turns a handler `(person, *inputs)` into a function `(request, *inputs)` for Gradio.

    `scope` is what the token of a program must be for; without one the handler is for people on pages alone.
    """

    def guard(handler: Handler) -> Handler:
        let_in = partial(
            _let_in, partial(admit, services, at_least=at_least, scope=scope), argument_types(handler)
        )

        async def stream(request: gr.Request, *inputs: Any) -> AsyncIterator[Any]:
            with errors_as_messages(services.settings.home):
                person = await asyncio.to_thread(let_in, request, inputs)
                async for value in _while_let_in(handler(person, *inputs), partial(let_in, request, inputs)):
                    yield value

        def call(request: gr.Request, *inputs: Any) -> Any:
            with errors_as_messages(services.settings.home):
                return handler(let_in(request, inputs), *inputs)

        async def wait(request: gr.Request, *inputs: Any) -> Any:
            with errors_as_messages(services.settings.home):
                return await handler(await asyncio.to_thread(let_in, request, inputs), *inputs)

        made: Handler = call
        if inspect.isasyncgenfunction(handler):
            made = stream
        elif inspect.iscoroutinefunction(handler):
            made = wait
        return _with_signature_of(handler, made, at_least=at_least, scope=scope)

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
    admitted: Callable[[Visitor | None], Visitor],
    expected: ArgumentTypes,
    request: gr.Request,
    inputs: tuple[Any, ...],
) -> Visitor:
    """Return the person who asks, once they may and their arguments are of the handler's types."""
    visitor = request.request.scope.get(PERSON_IN_SCOPE) if request.request else None
    person = admitted(visitor)
    check_arguments(expected, inputs)
    return person


async def _while_let_in(values: AsyncIterator[Any], let_in: Callable[[], object]) -> AsyncIterator[Any]:
    """Yield the values; NotAllowed is raised between two of them once the person would not be let in any more."""
    looked_at = time.monotonic()
    async for value in values:
        if time.monotonic() - looked_at > LOOK_AGAIN_SECONDS:
            await asyncio.to_thread(let_in)
            looked_at = time.monotonic()
        yield value


def _with_signature_of(handler: Handler, made: Handler, *, at_least: Role, scope: Scope | None) -> Handler:
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
    made.__dict__["medx_scope"] = scope
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
