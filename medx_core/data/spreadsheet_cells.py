"""Text in CSV cells that a spreadsheet cannot run, and that comes back exactly.

A spreadsheet runs a cell that starts with one of `= + - @` (or a tab or line break before them) as a formula. Such a
text gets a leading apostrophe; so does one that starts with an apostrophe of its own, which makes taking it away again
certain. Numbers, negative ones too, stay numbers.
"""

import re

FORMULA_STARTS = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
"""The last four are the full-width forms, which some spreadsheets read as the plain ones."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def guarded(text: str) -> str:
    """Return `text` as a cell that no spreadsheet runs."""
    if not text or (text[0] not in FORMULA_STARTS and text[0] != "'") or is_number(text):
        return text
    return "'" + text


def unguarded(cell: str) -> str:
    """Return the text that `guarded` made `cell` of."""
    return cell[1:] if cell.startswith("'") else cell


def is_number(text: str) -> bool:
    """Whether the whole text is one plain decimal number."""
    return _NUMBER.fullmatch(text) is not None
