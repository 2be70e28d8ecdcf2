"""The whole command line, and the one place where a fault becomes a sentence and an exit code.

A command's module is imported when that command runs: torch and the database take seconds to import, and `medx --help`
needs neither.
"""

import logging
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from medx_core import __version__
from medx_core.cli.outputs import EXIT_INTERRUPTED
from medx_core.errors import MedxError
from medx_core.home import disk_sentence, write_privately

# Where each command or group of commands is defined, and its line in the list of commands.
COMMANDS = {
    "ask": ("ask:ask", "Answer one question, routed and steered: by a running worker, else in this process."),
    "batch": ("batch:batch", "Answer every row of a file: by a running worker, else in this process."),
    "evaluate": (
        "evaluate:evaluate",
        "Evaluate steering on labelled statements, with controls that a gain must beat.",
    ),
    "replicates": (
        "evaluate:replicates",
        "Tell several evaluations together: the mean of every figure over seeds, with the range it took.",
    ),
    "jobs": ("jobs:app", "Questions and batches: list, follow, try again, cancel."),
    "data": ("data:app", "Check question files; make twins; write the template and the bundled statements."),
    "models": ("models:app", "Language models: list, fetch, check, measure."),
    "recipes": (
        "recipes:app",
        "Recipes: what answers, with the evidence beside it.",
    ),
    "router": ("router:app", "Train, show, measure and explain the router."),
    "vectors": ("vectors:app", "Steering vectors: build, inspect, choose, exchange."),
    "serve": (
        "administration:serve_app",
        "Run one part of MedX: the web page, a worker, or a worker for evaluations.",
    ),
    "users": ("administration:users_app", "People who may sign in, their roles and passwords."),
    "db": ("administration:db_app", "The database: bring its tables up to date, or check whether they are."),
    "bench": (
        "bench:bench",
        "Measure how fast MedX is on this machine: commands, the first start, and both arms of a verdict.",
    ),
    "audit": (
        "administration:audit_app",
        "The audit log: check that nobody changed it, or write it to a file.",
    ),
}


class LazyCommands(TyperGroup):
    """The commands of `COMMANDS`, of which only the one that runs is imported."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, (_, summary) in COMMANDS.items():
            self.commands[name] = TyperCommand(name, short_help=summary)  # for the list of commands

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import the command that is about to run."""
        if args and args[0] in COMMANDS:
            self.commands[args[0]] = loaded(args[0])
        return super().resolve_command(ctx, args)


def loaded(name: str) -> Any:
    """Import a command's module and return the command, or the group of commands."""
    module, _, attribute = COMMANDS[name][0].partition(":")
    command = getattr(import_module(f"medx_core.cli.{module}"), attribute)
    # A group is loaded alone, and typer would offer to write its completion into the shell's own start-up file.
    alone = typer.Typer(add_completion=False)
    if isinstance(command, typer.Typer):
        alone.add_typer(command, name=name)
        groups: Any = get_command(alone)
        return groups.commands[name]
    alone.command(name)(command)
    return get_command(alone)


app = typer.Typer(
    cls=LazyCommands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich would double the time of `medx --help`
    help="MedX: route, steer, measure and review a frozen language model. Research use only - not for patient care.",
)


@app.callback()
def medx() -> None:
    """The command line as a whole."""


@app.command("version")
def version() -> None:
    """Print the version."""
    print(__version__)


def main() -> None:
    """Run one command; a fault becomes one sentence on standard error and an exit code that is not 0."""
    # Two model processes on few cores stand in each other's way if a waiting thread spins; read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    write_privately()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        app()
    except MedxError as error:
        print(f"medx: {error}", file=sys.stderr)
        sys.exit(1)
    except SystemExit as ended:
        if ended.code == EXIT_INTERRUPTED:
            print("medx: stopped by Ctrl-C.", file=sys.stderr)
        raise
    except Exception as fault:  # noqa: BLE001 - the outermost door: the traceback goes to the log
        print(f"medx: {_unexpected(fault)}", file=sys.stderr)
        sys.exit(2)


def _unexpected(fault: Exception) -> str:
    """Return what a person can do about the disk, else where the details of the fault are."""
    from medx_core.settings import settings

    home = settings().home
    about_disk = disk_sentence(fault, home) if isinstance(fault, OSError) else ""
    if about_disk:
        return about_disk
    try:
        return f"an unexpected fault stopped this command; the details are in {_log_fault(fault, home / 'logs' / 'cli.log')}."
    except OSError as error:
        return (
            f"an unexpected fault ({type(fault).__name__}) stopped this command. {disk_sentence(error, home)}"
        )


def _log_fault(fault: Exception, file: Path) -> str:
    from medx_core.logs import log_fault

    log_fault(fault, file, "A command failed.")
    return str(file)
