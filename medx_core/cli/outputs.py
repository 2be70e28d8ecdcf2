"""What commands print and write: never over what the user handed in, and over a file of theirs only when told to."""

import json
import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, TextIO

import typer

from medx_core.errors import BadInput

EXIT_INTERRUPTED = 130  # as a shell reports Ctrl-C
SAY_EVERY_SECONDS = 15.0  # where standard error is a file: often enough to see that it goes on

_said_at = monotonic()

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
JsonOut = Annotated[str, typer.Option("--json", help="Where to write the JSON; - is standard output.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that is there.")]


def refuse_input_as_output(source: str | Path, output: str | Path | None) -> None:
    """Refuse to write over the file that is read, by whatever name or link it is called.

    `source` may also be the name of a data set and `output` nothing or - for standard output; these name no file.

    Raises:
        BadInput: both are the same file.
    """
    if not source or not output:
        return
    try:
        same = Path(source).samefile(output)
    except (OSError, ValueError):
        return  # one of them is no file here: nothing is lost
    if same:
        raise BadInput(
            f"{output} is the file that is read, and would be lost; choose another place to write to."
        )


def refuse_existing(output: Path, *, force: bool) -> None:
    """Refuse to write over a file that is there, unless told to.

    Raises:
        BadInput: there is a file, and `force` was not given.
    """
    if output.is_file() and not force:
        raise BadInput(f"{output} exists already; choose another place, or say --force to replace it.")


def refuse_unwritable(output: Path) -> None:
    """Refuse a file that cannot be written, before any work is done for it.

    Raises:
        BadInput: its folder does not exist or is not the user's, or it is a folder itself.
    """
    folder = output.resolve().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK) or output.is_dir():
        raise BadInput(f"{output} cannot be written; choose a file in a folder that exists and is yours.")


@contextmanager
def text_file(output: Path, *, option: str = "-o") -> Iterator[TextIO]:
    """Open a file that takes its place only when the block ends well; a device or a pipe is written to directly.

    Raises:
        BadInput: the file cannot be written.
    """
    direct = output.exists() and not output.is_file()
    target = output.resolve()
    part = target if direct else target.with_name(f".{target.name}-{secrets.token_hex(4)}")
    try:
        with part.open("w", encoding="utf-8", newline="") as out:
            yield out
        if not direct:
            part.replace(target)
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise BadInput(
            f"{output} cannot be written ({reason}); choose another place with {option}."
        ) from error
    finally:
        if not direct:
            with suppress(OSError):  # it has taken its place, or was never made
                part.unlink()


def print_json(content: Mapping[str, Any], *, indent: int | None = None) -> None:
    """Print one JSON object."""
    print(json.dumps(content, ensure_ascii=False, indent=indent))


def write_json(content: Mapping[str, Any], output: str) -> None:
    """Write one JSON object to a file, whole or not at all; `output` is - for standard output, or empty for nowhere.

    Raises:
        BadInput: the file cannot be written.
    """
    text = json.dumps(content, ensure_ascii=False, allow_nan=False)
    if output == "-":
        print(text)
    elif output:
        with suppress(OSError):  # the sentence comes from opening the file
            Path(output).parent.mkdir(parents=True, exist_ok=True)
        with text_file(Path(output), option="--json") as out:
            out.write(text + "\n")


def tell(sentence: str) -> None:
    """Write a sentence to standard error, which leaves standard output to the answers."""
    print(sentence, file=sys.stderr, flush=True)


def show_stage(stage: str, done: int, total: int) -> None:
    """Show how far a stage is: in one line of a terminal that the next stage replaces, else in a line now and then."""
    global _said_at  # standard error is one for the whole process
    if sys.stderr.isatty():
        print(f"\r\033[K{stage}: {done} of {total}", end="", file=sys.stderr, flush=True)
    elif monotonic() - _said_at > SAY_EVERY_SECONDS:
        _said_at = monotonic()
        tell(f"{stage}: {done} of {total}")


def clear_stage() -> None:
    """Take the line of `show_stage` away."""
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
