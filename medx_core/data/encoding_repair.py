"""Mojibake: text that was written in one encoding and read in another, as in `cafÃ©`. Nothing else is touched."""

from ftfy import TextFixerConfig, fix_encoding
from ftfy.badness import is_bad

# Lossy repairs put replacement characters where a guess fails; a text with those is left as it is.
_CONFIG = TextFixerConfig(replace_lossy_sequences=False)


def repaired(text: str) -> str:
    """Return `text` with double-encoded characters put right, the same text where there are none."""
    return fix_encoding(text, config=_CONFIG) if not text.isascii() and is_bad(text) else text
