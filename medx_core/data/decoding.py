"""From a file to its bytes and their text. No guess may put other characters into what a clinician wrote."""

import codecs
import re
from dataclasses import dataclass
from pathlib import Path

from medx_core.data.problems import FileLimits, FileRefused

_SIGNATURES = (
    (b"PK\x03\x04", "a zip archive"),
    (b"PK\x05\x06", "a zip archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel or Word document"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF", "a PDF document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"\x93NUMPY", "a NumPy file"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90\x00", "a program"),
    (b"{\\rtf", "an RTF document"),
)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_SAMPLE_CHARACTERS = 200_000
_SAVE_AS_UTF8 = "save it as UTF-8 and try again"


@dataclass(frozen=True)
class Decoded:
    """The text of a file. Characters that could not be read are lone surrogates: their rows are not taken."""

    text: str
    encoding: str
    notice: str = ""


def file_content(path: Path, limits: FileLimits) -> bytes:
    """Return the bytes of a file.

    Raises:
        FileRefused: it cannot be opened or is too large.
    """
    try:
        with path.open("rb") as file:
            content = file.read(limits.bytes + 1)
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise FileRefused(f"The file cannot be opened ({reason}).") from error
    if len(content) > limits.bytes:
        size = f"{limits.bytes / 1_000_000:g} MB"
        raise FileRefused(f"The file is larger than {size}, the limit; split it into smaller files.")
    return content


def decoded(content: bytes) -> Decoded:
    """Return the text of `content`.

    Raises:
        FileRefused: the content is not text, or its encoding is not certain.
    """
    for signature, kind in _SIGNATURES:
        if content.startswith(signature):
            workbook = kind == "a zip archive" and (b"xl/" in content or b"[Content_Types].xml" in content)
            kind = "an Excel workbook or another Office document" if workbook else kind
            raise FileRefused(f"The file is {kind}, not a table of text; export it as CSV and try again.")
    if content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise FileRefused(f"The file is in UTF-32, which is not read here; {_SAVE_AS_UTF8}.")
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    result = _utf16(content) if is_utf16 else _eight_bit(content)
    _refuse_control_characters(result.text)
    return result


def _utf16(content: bytes) -> Decoded:
    try:
        return Decoded(content.decode("utf-16").lstrip("\ufeff"), "utf-16")
    except UnicodeDecodeError as error:
        message = f"The file starts as UTF-16 but breaks at byte {error.start + 1:,}; {_SAVE_AS_UTF8}."
        raise FileRefused(message) from error


def _eight_bit(content: bytes) -> Decoded:
    text = content.decode("utf-8", errors="surrogateescape").lstrip("\ufeff")
    broken = sum(1 for character in text if "\udc80" <= character <= "\udcff") if not text.isascii() else 0
    if not broken:
        return Decoded(text, "utf-8")
    whole = sum(1 for character in text if character > "\x7f") - broken
    if whole >= broken:
        notice = "The file is UTF-8 with broken characters; rows with one are not taken."
        return Decoded(text, "utf-8", notice)
    try:
        notice = "The file is not UTF-8 and was read as Windows-1252; check accents and symbols."
        return Decoded(content.decode("cp1252"), "windows-1252", notice)
    except UnicodeDecodeError as error:
        raise FileRefused(
            f"The file is in neither UTF-8, UTF-16 nor Windows-1252 (byte {error.start + 1:,}); {_SAVE_AS_UTF8}."
        ) from error


def _refuse_control_characters(text: str) -> None:
    """Refuse what is text only by chance; single control characters concern their rows alone."""
    sample = text[:_SAMPLE_CHARACTERS]
    nuls = sample.count("\x00")
    if nuls >= 4 and nuls * 4 > len(sample):
        raise FileRefused(f"The file looks like UTF-16 or UTF-32 without a byte order mark; {_SAVE_AS_UTF8}.")
    controls = len(_CONTROL.findall(sample))
    if controls >= 8 and controls * 20 > len(sample):
        raise FileRefused(
            "The file contains binary data, not a table of text; export it as CSV and try again."
        )


def repaired(text: str) -> str:
    """Return `text` with characters that were decoded with the wrong code page put right; else the same text."""
    if text.isascii():
        return text
    from ftfy import TextFixerConfig, fix_encoding  # here: most files are plain ASCII and need not load it
    from ftfy.badness import is_bad

    if not is_bad(text):
        return text
    # Lossy repairs put replacement characters where a guess fails; a text with those is left as it is.
    return fix_encoding(text, config=TextFixerConfig(replace_lossy_sequences=False))
