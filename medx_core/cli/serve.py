"""`medx serve`: one part of MedX in the foreground, for deployments that run each part on its own."""

import os
import sys
from typing import Annotated, NoReturn

import typer

app = typer.Typer(help="Run one part of MedX: the web page or a worker.", no_args_is_help=True)


@app.command()
def web() -> None:
    """Serve the web page on MEDX_HOST and MEDX_PORT."""
    _become("web")


@app.command()
def worker(
    device: Annotated[
        str,
        typer.Option(help="auto, cpu or cuda:N; one worker takes one device.", show_default="MEDX_DEVICE"),
    ] = "",
) -> None:
    """Answer what waits in the queues, on one device. Needs REDIS_URL."""
    _become("workers", *(["--device", device] if device else []))


def _become(package: str, *arguments: str) -> NoReturn:
    """Replace this process, so that signals and the exit status are those of the part itself."""
    os.execv(sys.executable, [sys.executable, "-m", package, *arguments])  # noqa: S606 - fixed arguments
