"""Where commands write: never over what the user handed in, and over a file of theirs only when told to."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medx_core.errors import BadInput

EXIT_INTERRUPTED = 130  # as a shell reports Ctrl-C


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


def write_json(content: Mapping[str, Any], output: str) -> None:
    """Write one JSON object to a file, whole or not at all; `output` is - for standard output, or empty for nowhere.

    Raises:
        BadInput: the file cannot be written.
    """
    text = json.dumps(content, ensure_ascii=False, allow_nan=False)
    if output == "-":
        print(text)
    elif output:
        target = Path(output)
        fresh = target.with_name(target.name + ".new")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(text + "\n", encoding="utf-8")
            fresh.replace(target)
        except OSError as error:
            reason = (error.strerror or "unknown reason").lower()
            raise BadInput(
                f"{output} cannot be written ({reason}); choose another place with --json."
            ) from error
