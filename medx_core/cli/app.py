"""The whole command line, and the one place where a fault becomes a sentence and an exit code."""

import logging
import os
import sys

import typer

from medx_core import __version__
from medx_core.cli import administration, ask, batch, data, evaluate, jobs, models, router, vectors
from medx_core.errors import MedxError
from medx_core.settings import settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="MedX: route, steer, measure and review a frozen language model. Research use only - not for patient care.",
)
app.command("ask")(ask.ask)
app.command("batch")(batch.batch)
app.command("evaluate")(evaluate.evaluate)
app.command("replicates")(evaluate.replicates)
app.add_typer(jobs.app, name="jobs")
app.add_typer(data.app, name="data")
app.add_typer(models.app, name="models")
app.add_typer(router.app, name="router")
app.add_typer(vectors.app, name="vectors")
app.add_typer(administration.serve_app, name="serve")
app.add_typer(administration.users_app, name="users")
app.add_typer(administration.db_app, name="db")
app.add_typer(administration.audit_app, name="audit")


@app.command("version")
def version() -> None:
    """Print the version."""
    print(__version__)


def main() -> None:
    """Run one command; a fault becomes one sentence on standard error and an exit code that is not 0."""
    # Two model processes on few cores stand in each other's way if a waiting thread spins; read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        app()
    except MedxError as error:
        print(f"medx: {error}", file=sys.stderr)
        sys.exit(1)
    except SystemExit as ended:
        if ended.code == ask.EXIT_INTERRUPTED:
            print("medx: stopped by Ctrl-C.", file=sys.stderr)
        raise
    except Exception as fault:  # noqa: BLE001 - the outermost door: the traceback goes to the log
        where = _log_fault(fault)
        print(f"medx: an unexpected fault stopped this command; the details are in {where}.", file=sys.stderr)
        sys.exit(2)


def _log_fault(fault: Exception) -> str:
    folder = settings().home / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "cli.log"
    handler = logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("medx_core.cli")
    logger.propagate = False
    logger.addHandler(handler)
    logger.error("A command failed.", exc_info=fault)
    return str(file)
