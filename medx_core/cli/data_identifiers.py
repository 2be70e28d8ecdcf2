"""`medx data identifiers`: what masking finds in texts whose identifiers are known, and which harmless texts it touches."""

import csv
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from medx_core import __version__
from medx_core.cli.outputs import JsonOut, refuse_input_as_output, write_json
from medx_core.data.identifiers import Find, Identifier, identifiers, masked, settled
from medx_core.data.name_classifier import name_finder
from medx_core.data.patient_data import find_all
from medx_core.data.person_names import names
from medx_core.errors import BadInput


@dataclass(frozen=True)
class MarkedText:
    """A text with its known identifiers as (kind, text); None where nobody said which there are, and none is expected."""

    text: str
    known: tuple[tuple[str, str], ...] | None


def data_identifiers(
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            help="CSV: text, identifiers (a JSON list of kind and text); or text alone, without any.",
        ),
    ],
    json_out: JsonOut = "-",
    rules_alone: Annotated[
        bool, typer.Option("--rules-alone", help="As where the classifier of names is not installed.")
    ] = False,
) -> None:
    """Measure masking: the share of known identifiers it covers, by kind, and of texts without any that it touches."""
    refuse_input_as_output(data, json_out)
    texts = read_marked_texts(data)
    write_json(masking_figures(texts, _by_rules if rules_alone else find_all), json_out)


def read_marked_texts(path: Path) -> tuple[MarkedText, ...]:
    """Read a CSV file with the columns text and, for messages, identifiers.

    Raises:
        BadInput: it cannot be read, has no column text, or a row's identifiers are not in its text.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as source:
            rows = list(csv.DictReader(source))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(
            f"{path} cannot be read as CSV; choose a file with the columns text and identifiers."
        ) from error
    if not rows or "text" not in rows[0]:
        raise BadInput(f"{path} needs the column text and, for messages, identifiers, and at least one row.")
    return tuple(_marked_text(number, row) for number, row in enumerate(rows, start=1))


def _marked_text(number: int, row: dict[str, str]) -> MarkedText:
    if row.get("identifiers") is None:
        return MarkedText(row["text"], None)
    try:
        known = tuple(
            (str(each["kind"]), str(each["text"])) for each in json.loads(row["identifiers"] or "[]")
        )
    except (ValueError, TypeError, KeyError) as error:
        raise BadInput(
            f"Row {number}: identifiers must be a JSON list of objects with kind and text."
        ) from error
    if any(text not in row["text"] for _, text in known):
        raise BadInput(f"Row {number}: an identifier does not stand in its text.")
    return MarkedText(row["text"], known)


def masking_figures(texts: Sequence[MarkedText], find: Find) -> dict[str, Any]:
    """Return recall over all identifiers and by kind, and which texts without any are touched, with 95 % intervals."""
    known, covered = Counter[str](), Counter[str]()
    touched, harmless = 0, 0
    items = []
    for each in texts:
        found = find(each.text)
        missed = [(kind, text) for kind, text in each.known or () if not _is_covered(each.text, text, found)]
        known.update(kind for kind, _ in each.known or ())
        covered.update(kind for kind, _ in each.known or ())
        covered.subtract(kind for kind, _ in missed)
        if not each.known:
            harmless += 1
            touched += bool(found)
        if missed or (found and not each.known):
            items.append(_item(each, found, missed))
    return {
        "medx_version": __version__,
        "classifier": name_finder() is not None and find is not _by_rules,
        "n": len(texts),
        "recall": _share(covered.total(), known.total()),
        "by_kind": {kind: _share(covered[kind], known[kind]) for kind in sorted(known)},
        "touched": _share(touched, harmless),
        "items": items,
    }


def _item(each: MarkedText, found: Sequence[Identifier], missed: Sequence[tuple[str, str]]) -> dict[str, Any]:
    return {
        "text": each.text,
        "masked": masked(each.text, found),
        "missed": [{"kind": kind, "text": text} for kind, text in missed],
        "touched": [] if each.known else [each.text[span.start : span.end] for span in found],
    }


def _is_covered(text: str, known: str, found: Sequence[Identifier]) -> bool:
    """Whether no letter or digit of an identifier is left in clear at the first place where it stands."""
    start = text.find(known)
    left = (place for place in range(start, start + len(known)) if text[place].isalnum())
    return all(any(span.start <= place < span.end for span in found) for place in left)


def _share(part: int, n: int) -> dict[str, Any] | None:
    from medx_core.evaluation.bootstrap import wilson  # imports numpy and scipy: a second

    share = wilson(part, n)
    return None if share is None else share.model_dump()


def _by_rules(text: str) -> tuple[Identifier, ...]:
    known = identifiers(text)
    return settled((*known, *names(text, None, known)))
