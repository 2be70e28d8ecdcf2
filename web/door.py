"""The door of every event: who is asking, may they, and what do they read when it fails.

A handler takes the signed-in person first. `door` turns it into the function Gradio calls: it looks the person up
again (a role taken away works at once), refuses those whose role does not reach and arguments of another type than
the handler takes, and turns errors into sentences.
"""

import inspect
import logging
import secrets
import typing
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import gradio as gr

from medx_core.errors import MedxError, NotAllowed
from medx_core.storage.people import Person, Role
from web import wording
from web.arguments import Expected, check_arguments, expected_arguments
from web.services import Services

log = logging.getLogger(__name__)

RANK = {Role.ASKER: 0, Role.CLINICIAN: 1, Role.ADMIN: 2}

Handler = Callable[..., Any]


def reaches(person: Person, at_least: Role) -> bool:
    """Whether the person's role is `at_least` or stands above it."""
    return RANK[person.role] >= RANK[at_least]


def admit(services: Services, name: str | None, at_least: Role) -> Person:
    """Return the signed-in person.

    Raises:
        NotAllowed: nobody is signed in, or the role does not reach.
        NotFound: the person was removed.
    """
    if not name:
        raise NotAllowed(wording.SIGN_IN_FIRST)
    person = services.people.find(name)
    if person.disabled:
        raise NotAllowed(wording.SIGN_IN_FIRST)
    if not reaches(person, at_least):
        raise NotAllowed(
            f"This needs the role {at_least.value}; yours is {person.role.value}. Ask an administrator."
        )
    return person


@contextmanager
def told() -> Iterator[None]:
    """Turn errors into what a page may show: our sentences as they are, anything else as a reference to the log."""
    try:
        yield
    except gr.Error:
        raise
    except MedxError as error:
        raise gr.Error(str(error), duration=8, print_exception=False) from error
    except Exception as error:  # a door: the traceback goes to the log, the reader gets a reference
        reference = secrets.token_hex(4)
        log.exception("page handler failed, reference %s", reference)
        raise gr.Error(
            f"{wording.SOMETHING_BROKE} (reference {reference}).", print_exception=False
        ) from error


def door(services: Services, at_least: Role = Role.ASKER) -> Callable[[Handler], Handler]:
    """Return a decorator for handlers `(person, *inputs)`; what it makes takes `(request, *inputs)`."""

    def open_for(handler: Handler) -> Handler:
        let_in = partial(_let_in, services, at_least, expected_arguments(handler))

        async def stream(request: gr.Request, *inputs: Any) -> AsyncIterator[Any]:
            with told():
                person = let_in(request, inputs)
                async for value in handler(person, *inputs):
                    yield value

        def call(request: gr.Request, *inputs: Any) -> Any:
            with told():
                return handler(let_in(request, inputs), *inputs)

        async def wait(request: gr.Request, *inputs: Any) -> Any:
            with told():
                return await handler(let_in(request, inputs), *inputs)

        made: Handler = call
        if inspect.isasyncgenfunction(handler):
            made = stream
        elif inspect.iscoroutinefunction(handler):
            made = wait
        return _dressed(made, like=handler, at_least=at_least)

    return open_for


def _let_in(
    services: Services, at_least: Role, expected: Expected, request: gr.Request, inputs: tuple[Any, ...]
) -> Person:
    """Return the person who asks, once they may and their arguments are of the handler's types."""
    person = admit(services, request.username, at_least)
    check_arguments(expected, inputs)
    return person


def _dressed(made: Handler, *, like: Handler, at_least: Role) -> Handler:
    """Give the made function the name, docstring and inputs of the handler, with the request in the person's place."""
    hints = typing.get_type_hints(like)
    inputs = list(inspect.signature(like).parameters.values())[1:]
    request = inspect.Parameter("request", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=gr.Request)
    made.__name__ = made.__qualname__ = like.__name__
    made.__doc__ = like.__doc__
    made.__annotations__ = {"request": gr.Request} | {
        name: hint for name, hint in hints.items() if name in {p.name for p in inputs} | {"return"}
    }
    made.__dict__["__signature__"] = inspect.Signature(
        [request, *(p.replace(annotation=hints.get(p.name, Any)) for p in inputs)],
        return_annotation=hints.get("return", Any),
    )
    made.__dict__["medx_role"] = at_least
    return made
