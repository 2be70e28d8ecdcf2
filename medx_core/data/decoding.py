"""From the bytes of a file to its text. Nothing is guessed that could put other characters into what a clinician wrote."""

import codecs
import re
from dataclasses import dataclass

from medx_core.data.problems import FileRefused


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


def decoded(content: bytes) -> Decoded:
    """Return the text of `content`.

    Raises:
        FileRefused: the content is not text, or its encoding is not certain.
    """
    _refuse_known_binary(content)
    if content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise FileRefused(f"The file is in UTF-32, which is not read here; {_SAVE_AS_UTF8}.")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        result = Decoded(_utf16(content), "utf-16")
    else:
        result = _eight_bit(content)
    _refuse_control_characters(result.text)
    return result


def _refuse_known_binary(content: bytes) -> None:
    for signature, kind in _SIGNATURES:
        if content.startswith(signature):
            workbook = kind == "a zip archive" and (b"xl/" in content or b"[Content_Types].xml" in content)
            kind = "an Excel workbook or another Office document" if workbook else kind
            raise FileRefused(f"The file is {kind}, not a table of text; export it as CSV and try again.")


def _utf16(content: bytes) -> str:
    try:
        return content.decode("utf-16").lstrip("\ufeff")
    except UnicodeDecodeError as error:
        raise FileRefused(
            f"The file starts as UTF-16 but breaks at byte {error.start + 1:,}; {_SAVE_AS_UTF8}."
        ) from error


def _eight_bit(content: bytes) -> Decoded:
    try:
        text = content.decode("utf-8-sig")
        return Decoded(text.lstrip("\ufeff"), "utf-8")
    except UnicodeDecodeError:
        text = content.decode("utf-8", errors="surrogateescape").lstrip("\ufeff")
    broken = sum(1 for c in text if "\udc80" <= c <= "\udcff")
    whole = sum(1 for c in text if c > "\x7f") - broken
    if whole >= broken:
        return Decoded(
            text, "utf-8", "The file is UTF-8 with broken characters; rows with one are not taken."
        )
    try:
        text = content.decode("cp1252")
    except UnicodeDecodeError as error:
        raise FileRefused(
            f"The file is in neither UTF-8, UTF-16 nor Windows-1252 (byte {error.start + 1:,}); {_SAVE_AS_UTF8}."
        ) from error
    return Decoded(
        text, "windows-1252", "The file is not UTF-8 and was read as Windows-1252; check accents and symbols."
    )


def _refuse_control_characters(text: str) -> None:
    """Refuse what reads as text by chance; single control characters are the rows' own business."""
    sample = text[:_SAMPLE_CHARACTERS]
    nuls = sample.count("\x00")
    if nuls >= 4 and nuls * 4 > len(sample):
        raise FileRefused(f"The file looks like UTF-16 or UTF-32 without a byte order mark; {_SAVE_AS_UTF8}.")
    controls = len(_CONTROL.findall(sample))
    if controls >= 8 and controls * 20 > len(sample):
        raise FileRefused(
            "The file contains binary data, not a table of text; export it as CSV and try again."
        )
