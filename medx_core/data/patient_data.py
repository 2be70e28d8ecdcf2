"""Patient data found before anything is stored: what each door does with it, by one setting.

`MEDX_PATIENT_DATA` is mask (what may identify a patient is replaced before it is stored; a page lets the person decide),
warn (stored as written, and said) or refuse (nothing is stored). What is stored is what the router and the model read.
Messages and records name kinds and counts, never the text.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from medx_core.data.identifiers import (
    Find,
    Identifier,
    IdentifierKind,
    found_in_cell,
    identifiers,
    in_words,
    masked,
    settled,
)
from medx_core.data.name_classifier import name_finder
from medx_core.data.person_names import names
from medx_core.data.question_files import FileRow, QuestionFile
from medx_core.errors import BadInput
from medx_core.settings import PatientDataRule

SAMPLES = 5
_KNOWN = ("id", "reference", "split", "pair")


@dataclass(frozen=True)
class MaskedCell:
    """One cell of a file as it will be stored, to be looked at before."""

    row: int
    column: str
    text: str


@dataclass(frozen=True)
class Screening:
    """What was found in a question or a file: `kinds` with counts, in how many `cells`, and what was done by `rule`.

    `by_rules_alone` says that the classifier of names is not there. `samples` are cells as masked.
    """

    rule: PatientDataRule
    kinds: Counter[IdentifierKind] = field(default_factory=Counter)
    cells: int = 0
    samples: tuple[MaskedCell, ...] = ()
    by_rules_alone: bool = False

    def __bool__(self) -> bool:
        """Whether anything was found."""
        return bool(self.kinds)

    def as_json(self) -> dict[str, Any]:
        """Return what programs are told: kinds and counts."""
        return {
            "rule": self.rule.value,
            "kinds": {kind.value: count for kind, count in self.kinds.most_common()},
            "cells": self.cells,
            "names": "by rules alone" if self.by_rules_alone else "by rules and a classifier",
        }

    def sentence(self) -> str:
        """Say what was found and what was done; empty where nothing was found."""
        if not self:
            return ""
        done = {
            PatientDataRule.MASK: "Masked before storing, as [removed]",
            PatientDataRule.WARN: "Stored as written (MEDX_PATIENT_DATA=warn), though it may identify a patient",
            PatientDataRule.REFUSE: "Nothing was stored, since it may identify a patient",
        }
        only = (
            " The classifier of names is not installed: names were found by rules alone."
            if self.by_rules_alone
            else ""
        )
        return f"{done[self.rule]}: {in_words(self.kinds)}.{only}"


def find_all(text: str) -> tuple[Identifier, ...]:
    """Return everything that may identify a patient in `text`, names included."""
    known = identifiers(text)
    return settled((*known, *names(text, name_finder(), known)))


def screened_text(text: str, rule: PatientDataRule, *, find: Find = find_all) -> tuple[str, Screening]:
    """Return a text as it may be stored, and what was found in it.

    Raises:
        BadInput: something was found, and the rule is to refuse.
    """
    found = find(text)
    screening = _screening(rule, Counter(each.kind for each in found), cells=bool(found))
    _refuse(screening)
    return (masked(text, found) if rule is PatientDataRule.MASK else text), screening


def screened_file(
    file: QuestionFile, rule: PatientDataRule, *, find: Find = find_all
) -> tuple[QuestionFile, Screening]:
    """Return a file as it may be stored, carried columns and its name too, and what was found in it.

    Raises:
        BadInput: something was found, and the rule is to refuse.
    """
    return file_by_rule(file, *masked_file(file, find=find), rule)


def masked_file(file: QuestionFile, *, find: Find = find_all) -> tuple[QuestionFile, Screening]:
    """Return a file with everything masked that may identify a patient, and what was found; thousands of rows take a while.

    A cell is read with its column's name before it: "12345678" is nothing, "MRN: 12345678" is a record number.
    """
    reading = _FileReading(cache(find))
    rows = tuple(reading.masked_row(row) for row in file.rows)
    stem, dot, ending = file.name.rpartition(".")
    name = reading.masked_cell(0, "", stem.replace("_", " "))
    screening = _screening(PatientDataRule.MASK, reading.kinds, cells=reading.cells)
    name = file.name if name == stem.replace("_", " ") else name + dot + ending
    return replace(file, rows=rows, name=name), replace(screening, samples=tuple(reading.samples))


def file_by_rule(
    file: QuestionFile, masked_one: QuestionFile, screening: Screening, rule: PatientDataRule
) -> tuple[QuestionFile, Screening]:
    """Return what is stored by a rule of a file that `masked_file` has read: it as masked, or as it is.

    Raises:
        BadInput: something was found, and the rule is to refuse.
    """
    screening = replace(screening, rule=rule)
    _refuse(screening)
    return (masked_one if screening and rule is PatientDataRule.MASK else file), screening


class _FileReading:
    """Masks the cells of a file, and counts what was found."""

    def __init__(self, find: Find) -> None:
        self._find = find
        self.kinds: Counter[IdentifierKind] = Counter()
        self.cells = 0
        self.samples: list[MaskedCell] = []

    def masked_row(self, row: FileRow) -> FileRow:
        """Return the row as it may be stored."""
        known = {name: self.masked_cell(row.number, name, getattr(row, name)) for name in _KNOWN}
        return replace(
            row,
            text=self.masked_cell(row.number, "", row.text),
            carried={name: self.masked_cell(row.number, name, cell) for name, cell in row.carried.items()},
            **known,  # type: ignore[arg-type]  # all of _KNOWN are texts
        )

    def masked_cell(self, row: int, column: str, cell: str) -> str:
        """Return a cell as it may be stored; row 0 is the file's name."""
        found = found_in_cell("" if column in _KNOWN else column, cell, self._find)
        if not found:
            return cell
        self.kinds.update(each.kind for each in found)
        self.cells += 1
        text = masked(cell, found)
        if row and len(self.samples) < SAMPLES:
            self.samples.append(MaskedCell(row, column or "question", text))
        return text


def _screening(rule: PatientDataRule, kinds: Counter[IdentifierKind], *, cells: int) -> Screening:
    return Screening(rule, kinds, cells=int(cells), by_rules_alone=name_finder() is None)


def _refuse(screening: Screening) -> None:
    if screening and screening.rule is PatientDataRule.REFUSE:
        raise BadInput(f"{screening.sentence()} Take that out and try again.")
