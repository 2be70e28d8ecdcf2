"""`medx users`: who may sign in."""

import secrets
import sys
import warnings
from getpass import GetPassWarning
from typing import Annotated

import typer

from medx_core.cli.database import opened_database
from medx_core.errors import BadInput
from medx_core.storage.audit_store import AuditStore
from medx_core.storage.engine import Database
from medx_core.storage.person_store import PersonStore, Role

ACTOR = "command line"

app = typer.Typer(help="People who may sign in, their roles and passwords.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The name to sign in with.")]
FromInput = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input, one line.")
]
Generate = Annotated[bool, typer.Option("--generate", help="Make a password and print it once.")]


@app.command()
def add(
    name: Name,
    role: Annotated[Role, typer.Option(help="How far this person reaches.")] = Role.ASKER,
    password_stdin: FromInput = False,
    generate: Generate = False,
) -> None:
    """Add a person; asks for the password unless told otherwise."""
    with opened_database() as database:
        people = PersonStore(database)
        people.refuse_name(name)  # before a password is thought of
        password, made = _password(from_input=password_stdin, generate=generate)
        person = people.add(name, role, password)
        _note(database, "person added", person.name, role=person.role.value)
    print(f"{person.name} may sign in as {person.role.value}.")
    if made:
        print(f"Password (shown only now): {password}")


@app.command("list")
def list_people() -> None:
    """List everybody with role and state."""
    with opened_database() as database:
        for person in PersonStore(database).list():
            print(f"{person.name}\t{person.role.value}\t{'disabled' if person.disabled else 'enabled'}")


@app.command()
def disable(name: Name) -> None:
    """Keep a person from signing in and end all sessions; nothing that they did is lost."""
    with opened_database() as database:
        person = PersonStore(database).disable(name)
        _note(database, "person disabled", person.name)
    print(f"{person.name} can no longer sign in.")


@app.command()
def enable(name: Name) -> None:
    """Let a disabled person sign in again."""
    with opened_database() as database:
        person = PersonStore(database).enable(name)
        _note(database, "person enabled", person.name)
    print(f"{person.name} can sign in again.")


@app.command("set-role")
def set_role(name: Name, role: Annotated[Role, typer.Argument(help="asker, clinician or admin")]) -> None:
    """Give a person another role."""
    with opened_database() as database:
        person = PersonStore(database).set_role(name, role)
        _note(database, "role changed", person.name, role=person.role.value)
    print(f"{person.name} is {person.role.value} now.")


@app.command("reset-password")
def reset_password(name: Name, password_stdin: FromInput = False, generate: Generate = False) -> None:
    """Give a person a new password and end all sessions."""
    with opened_database() as database:
        people = PersonStore(database)
        people.find(name)
        password, made = _password(from_input=password_stdin, generate=generate)
        person = people.reset_password(name, password)
        _note(database, "password reset", person.name)
    print(f"{person.name} has a new password; all sessions have ended.")
    if made:
        print(f"Password (shown only now): {password}")


def _password(*, from_input: bool, generate: bool) -> tuple[str, bool]:
    if from_input and generate:
        raise BadInput("Choose one of --password-stdin and --generate.")
    if generate:
        return secrets.token_urlsafe(15), True
    if from_input:
        return sys.stdin.readline().rstrip("\r\n"), False
    return _asked(), False


def _asked() -> str:
    with warnings.catch_warnings():
        # Without a terminal getpass only warns, and then shows what is typed.
        warnings.simplefilter("error", GetPassWarning)
        try:
            return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
        except GetPassWarning:
            typer.echo()  # the line that asked is ended
            raise BadInput(
                "There is no terminal to ask for a password; give it with --password-stdin, or have one made with --generate."
            ) from None


def _note(database: Database, action: str, name: str, **detail: str) -> None:
    AuditStore(database).append(ACTOR, action, name, detail)
