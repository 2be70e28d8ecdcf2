"""`medx users`, `db`, `audit` and `serve`: who may sign in, the tables, the log of who did what, and single parts."""

import json
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import closing
from getpass import GetPassWarning
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from medx_core.cli.database import audit_log, note, opened_database
from medx_core.cli.outputs import Force, refuse_existing, text_file
from medx_core.clock import iso
from medx_core.errors import BadInput
from medx_core.home import make_private, share_home
from medx_core.ports import refuse_taken_port
from medx_core.settings import settings
from medx_core.storage.account_rules import generated_password
from medx_core.storage.credentials import CredentialStore, new_link, new_token
from medx_core.storage.engine import Database
from medx_core.storage.people import Person, PersonStore, read_role

users_app = typer.Typer(help="People who may sign in, their roles and passwords.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The name to sign in with.")]
FromInput = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input, one line.")
]
Generate = Annotated[bool, typer.Option("--generate", help="Make a password and print it once.")]


@users_app.command()
def add(
    name: Name,
    role: Annotated[
        str, typer.Option(help="asker, clinician or admin: how far this person reaches.")
    ] = "asker",
    password_stdin: FromInput = False,
    generate: Generate = False,
    by_link: Annotated[
        bool, typer.Option("--link", help="Print a one-time link by which they choose a password.")
    ] = False,
) -> None:
    """Add a person; asks for the password unless told otherwise."""
    chosen_role = read_role(role)
    with opened_database() as database:
        people = PersonStore(database)
        people.refuse_name(name)  # before the password is asked for
        password = _password(name, from_input=password_stdin, generate=generate or by_link)
        person = people.add(name, chosen_role, password)
        note(database, "person added", person.name, role=person.role.value)
    print(f"{person.name} may sign in as {person.role.value}.")
    if by_link:
        link(person.name)
    else:
        _show_made(password, made=generate)


@users_app.command("list")
def list_people() -> None:
    """List everybody with role and state."""
    with opened_database() as database:
        for person in PersonStore(database).list():
            print(f"{person.name}\t{person.role.value}\t{'disabled' if person.disabled else 'enabled'}")


@users_app.command()
def disable(name: Name) -> None:
    """Keep a person from signing in and end their sessions, tokens and links; nothing that they did is lost."""
    person = _changed("person disabled", lambda people: people.disable(name))
    print(f"{person.name} can no longer sign in.")


@users_app.command()
def enable(name: Name) -> None:
    """Let a disabled person sign in again."""
    person = _changed("person enabled", lambda people: people.enable(name))
    print(f"{person.name} can sign in again.")


@users_app.command("set-role")
def set_role(name: Name, role: Annotated[str, typer.Argument(help="asker, clinician or admin")]) -> None:
    """Give a person another role."""
    chosen = read_role(role)
    person = _changed("role changed", lambda people: people.set_role(name, chosen), role=chosen.value)
    print(f"{person.name} is {person.role.value} now.")


@users_app.command("reset-password")
def reset_password(name: Name, password_stdin: FromInput = False, generate: Generate = False) -> None:
    """Give a person a new password and end all sessions."""
    with opened_database() as database:
        people = PersonStore(database)
        people.find(name)
        password = _password(name, from_input=password_stdin, generate=generate)
        person = people.reset_password(name, password)
        note(database, "password reset", person.name)
    print(f"{person.name} has a new password; all sessions have ended.")
    _show_made(password, made=generate)


@users_app.command()
def token(
    name: Name,
    title: Annotated[str, typer.Option(help="What the token is for.")],
    scope: Annotated[list[str], typer.Option(help="ask, read or rate; may be repeated.")],
    days: Annotated[int, typer.Option(help="When it ends.")] = 90,
) -> None:
    """Make a token with which a program asks for a person; it is printed once."""
    with opened_database() as database:
        person = PersonStore(database).find(name)
        made = new_token(CredentialStore(database), person, title=title, scopes=scope, days=days)
        note(database, "make token", f"person {person.name}", title=title, scopes=" ".join(scope))
    print(f"Token (shown only now): {made}")


@users_app.command()
def link(name: Name) -> None:
    """Make a one-time link by which a person chooses a password; it is printed once."""
    with opened_database() as database:
        person = PersonStore(database).find(name)
        key = new_link(CredentialStore(database), person, hours=settings().link_hours)
        note(database, "make link", f"person {person.name}")
    print(
        f"Link for {person.name}, for {settings().link_hours:g} hours (shown only now): {settings().link(key)}"
    )


@users_app.command()
def sessions(
    name: Name,
    end: Annotated[str, typer.Option(help="The id of the session, token or link to end.")] = "",
    end_all: Annotated[bool, typer.Option("--end-all", help="End all of this person's.")] = False,
) -> None:
    """List the sessions, tokens and links of a person; or end one, or all."""
    with opened_database() as database:
        person, credentials = PersonStore(database).find(name), CredentialStore(database)
        if end or end_all:
            count = credentials.end_all(person) if end_all else len((credentials.end(person, end),))
            note(database, "sessions ended", person.name, count=count)
            print(f"{count} ended.")
        for each in credentials.of(person):
            print(f"{each.public_id}\t{each.kind.value}\t{each.address}\t{iso(each.seen_at)}\t{each.title}")


def _changed(action: str, change: Callable[[PersonStore], Person], **detail: str) -> Person:
    """Change a person, and note it in the audit log."""
    with opened_database() as database:
        person = change(PersonStore(database))
        note(database, action, person.name, **detail)
    return person


def _show_made(password: str, *, made: bool) -> None:
    if made:
        print(f"Password (shown only now): {password}")


def _password(name: str, *, from_input: bool, generate: bool) -> str:
    if from_input and generate:
        raise BadInput("Choose one of --password-stdin and --generate.")
    if generate:
        return generated_password(name)
    if from_input:
        return sys.stdin.readline().rstrip("\r\n")
    return _asked()


def _asked() -> str:
    with warnings.catch_warnings():
        # Without a terminal getpass only warns, and would then show what is typed.
        warnings.simplefilter("error", GetPassWarning)
        try:
            return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
        except GetPassWarning:
            typer.echo()  # the line that asked is ended
            raise BadInput(
                "There is no terminal to ask for a password; give it with --password-stdin, or have one made with --generate."
            ) from None


db_app = typer.Typer(
    help="The database: bring its tables up to date, or check whether they are.", no_args_is_help=True
)


@db_app.command()
def upgrade() -> None:
    """Make the database, or bring its tables to the version this program needs. Safe to repeat."""
    _up_to_date_after(Database.upgrade)


@db_app.command()
def check() -> None:
    """Check that the database can be reached and is at the version this program needs."""
    _up_to_date_after(Database.check)


def _up_to_date_after(step: Callable[[Database], None]) -> None:
    with closing(Database(settings().database)) as database:
        step(database)
        print(f"The database at {database.shown_url} is up to date.")


audit_app = typer.Typer(
    help="The audit log: check that nobody changed it, or write it to a file.", no_args_is_help=True
)


@audit_app.callback()
def audit() -> None:
    """The audit log."""


@audit_app.command()
def verify(
    go_on: Annotated[
        bool,
        typer.Option("--continue", help="Go on from where it was last found whole here: quick, for often."),
    ] = False,
    after_restore: Annotated[
        bool,
        typer.Option("--after-restore", help="The database came from a backup: its log ends where it ends."),
    ] = False,
) -> None:
    """Check the chain of the audit log; fails at the first row that was changed, put in, taken out or cut off."""
    with opened_database() as database:
        store = audit_log(database)
        if after_restore:
            store.accept_restored()
        verified = store.verify(go_on=go_on)
        newest = store.entries(limit=1)
    known = f" after row {verified.after}, up to which it was whole before" if verified.after else ""
    print(f"The audit log is whole: {verified.rows} rows{known}.")
    if newest:
        print(f"Last hash: {newest[0].hash}")


@audit_app.command("export")
def export_log(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write it, as JSON lines.")],
    force: Force = False,
) -> None:
    """Write the whole audit log with its hashes, one JSON object per line, the oldest first; that is noted in it."""
    refuse_existing(output, force=force)
    rows = 0
    with opened_database() as database, text_file(output) as out:
        store = audit_log(database)
        note(database, "audit log exported", "audit")
        for rows, entry in enumerate(store.every_entry(), 1):  # noqa: B007 - the last one is how many there are
            values = vars(entry) | {"at": entry.at.isoformat(timespec="microseconds")}
            out.write(json.dumps(values, ensure_ascii=False) + "\n")
    print(f"Wrote {rows} rows of the audit log to {output}.")


serve_app = typer.Typer(
    help="Run one part of MedX: the web page, a worker, or a worker for evaluations.", no_args_is_help=True
)


@serve_app.command()
def web() -> None:
    """Serve the web page on MEDX_HOST and MEDX_PORT."""
    refuse_taken_port(settings().host, settings().port)
    _become("web")


Device = Annotated[
    str, typer.Option(help="auto, cpu or cuda:N; one worker takes one device.", show_default="MEDX_DEVICE")
]


@serve_app.command()
def worker(device: Device = "") -> None:
    """Answer what waits in the queues, on one device. Needs REDIS_URL."""
    _become("workers", *_on(device))


EVALUATE = "medx_core.cli.evaluate:evaluate_request"
"""What an evaluation worker runs: what `medx evaluate` runs, so that both know the experimental arms."""


@serve_app.command()
def evaluator(device: Device = "") -> None:
    """Run evaluations, one at a time and at low priority. Needs REDIS_URL."""
    _become("workers", "evaluations", "--evaluate", EVALUATE, *_on(device))


def _on(device: str) -> tuple[str, ...]:
    return ("--device", device) if device else ()


def _become(package: str, *arguments: str) -> NoReturn:
    """Replace this process, so that signals and the exit status are those of the part itself."""
    make_private(settings().home)
    share_home(settings().home)
    os.execv(sys.executable, [sys.executable, "-m", package, *arguments])  # noqa: S606 - fixed arguments
