"""Messages that tell of an emergency, and harmless look-alikes: those that are bundled, and files to measure with."""

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from medx_core.data.decoding import decoded, file_content
from medx_core.data.problems import FileLimits, FileRefused, shortened

COLUMNS = ("text", "emergency", "kind")
_LABELS = {"1": True, "0": False, "": None}


@dataclass(frozen=True)
class EmergencyMessage:
    """One message. `emergency` is None where nobody said whether it is one; `kind` is "" where it is not known."""

    text: str
    emergency: bool | None
    kind: str = ""
    style: str = ""
    writer: str = ""


@lru_cache(maxsize=1)
def bundled_messages() -> tuple[EmergencyMessage, ...]:
    """Return every bundled message to learn from, with its kind, style and writer."""
    content = (files("medx_core.data") / "bundled" / "emergencies" / "messages.csv").read_text("utf-8")
    return tuple(
        EmergencyMessage(row["text"], _LABELS[row["emergency"]], row["kind"], row["style"], row["writer"])
        for row in csv.DictReader(io.StringIO(content, newline=""))
    )


def messages_sha256(messages: Sequence[EmergencyMessage]) -> str:
    """Return the hash of texts and labels, whatever their order."""
    rows = sorted((message.text, message.emergency) for message in messages)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def read_message_file(path: Path, limits: FileLimits) -> tuple[EmergencyMessage, ...]:
    """Read a CSV or TSV file of `text[, emergency][, kind]`; `emergency` is 1, 0 or empty, other columns are left out.

    Raises:
        FileRefused: it cannot be read, has no `text` column, or a row has no text or another label.
    """
    text = decoded(file_content(path, limits)).text
    header = text.split("\n", 1)[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count))
    try:
        names = {(name or "").strip().casefold(): name for name in reader.fieldnames or ()}
        if "text" not in names:
            raise FileRefused(
                f"The file {path.name} has no 'text' column; name the columns in the first line."
            )
        messages = tuple(
            _message(number, {name: (row.get(names.get(name, "")) or "").strip() for name in COLUMNS})
            for number, row in enumerate(reader, start=1)
        )
    except csv.Error as error:
        raise FileRefused(f"The file {path.name} is not sound CSV ({error}).") from error
    if not messages:
        raise FileRefused(f"The file {path.name} has no rows; write one message per line.")
    return messages


def _message(number: int, cells: Mapping[str, str]) -> EmergencyMessage:
    if not cells["text"]:
        raise FileRefused(
            f"Row {number}: the text is empty; fill it in or remove the row.", row=number, column="text"
        )
    if cells["emergency"] not in _LABELS:
        raise FileRefused(
            f"Row {number}: '{shortened(cells['emergency'])}' is no label; write 1, 0 or nothing under emergency.",
            row=number,
            column="emergency",
        )
    return EmergencyMessage(cells["text"], _LABELS[cells["emergency"]], cells["kind"])
