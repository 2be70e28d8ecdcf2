"""What may identify a patient, recognised by its form and never repeated in a message.

A warning on every second question is not read. So bare dates (of publication, say) and bare numbers pass; a date needs
a word of birth with it, a record number its name, an NHS number its check digit.
"""

import re

_DATE = (
    r"(?:\d{1,2}[./-]\d{1,2}[./-](?:19|20)?\d{2}|(?:19|20)\d{2}[./-]\d{1,2}[./-]\d{1,2}"
    r"|\d{1,2}(?:st|nd|rd|th)?\s+[A-Za-z]{3,9}\.?,?\s+(?:19|20)\d{2}|[A-Za-z]{3,9}\.?\s+\d{1,2},?\s+(?:19|20)\d{2})"
)
_PATTERNS = (
    ("an e-mail address", re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})*\.[A-Za-z]{2,}")),
    (
        "a social security number",
        re.compile(r"(?<![\d-])(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d-])"),
    ),
    (
        "a date of birth",
        re.compile(
            rf"(?:\bd\.?o\.?b\b\.?|\bborn\b|\bbirth\s?da(?:te|y)\b|\bdate of birth\b)[^\d\n]{{0,15}}?{_DATE}",
            re.I,
        ),
    ),
    (
        "a record number",
        re.compile(
            r"\b(?:MRN|(?:medical|health|hospital|patient|chart)(?:\s+record)?\s*(?:number|no\b\.?|id\b|#))"
            r"[\s:#.=is]{0,6}[A-Z]{0,3}-?\d[\d-]{4,}",
            re.I,
        ),
    ),
    (
        "a telephone number",
        re.compile(
            r"(?<![\w.+-])(?:(?:\+1[ .-]?|1[ .-])?(?:\(\d{3}\) ?|\d{3}[.-])\d{3}[.-]\d{4}"
            r"|\+\d{1,3}(?:[ .-]?\(?\d{2,4}\)?){3,5}|0\d{2,4} \d{3,4} ?\d{3,4}|07\d{3} ?\d{6})(?![\w-])"
        ),
    ),
)
_NHS = re.compile(r"(?<![\d.-])(\d{3})([ -])(\d{3})\2(\d{4})(?![\d-])|\bNHS\D{0,12}(\d{10})\b", re.I)
_DIGITS = re.compile(r"\d")
_BIRTH_WORDS = ("born", "birth", "dob")
MASK = "[removed]"


def identifier_kinds(text: str) -> tuple[str, ...]:
    """Return in words which kinds of possible identifiers `text` contains, each once."""
    if not _may_contain_any(text):
        return ()
    kinds = [kind for kind, pattern in _PATTERNS if pattern.search(text)]
    if any(map(_is_nhs_number, _NHS.finditer(text))):
        kinds.append("an NHS number")
    return tuple(kinds)


def without_identifiers(text: str) -> str:
    """Return `text` with each possible identifier replaced by `[removed]`."""
    if not _may_contain_any(text):
        return text
    for _, pattern in _PATTERNS:
        text = pattern.sub(MASK, text)
    return _NHS.sub(lambda match: MASK if _is_nhs_number(match) else match[0], text)


def _may_contain_any(text: str) -> bool:
    """Whether a closer look is worthwhile; nearly every question is done with here."""
    digits = len(_DIGITS.findall(text))
    return (
        "@" in text or digits >= 6 or (digits > 0 and any(word in text.casefold() for word in _BIRTH_WORDS))
    )


def _is_nhs_number(match: re.Match[str]) -> bool:
    """Whether the last digit is the check digit (modulus 11) of the nine before it."""
    digits = match[5] or match[1] + match[3] + match[4]
    total = sum(int(digit) * weight for digit, weight in zip(digits[:9], range(10, 1, -1), strict=True))
    return (11 - total % 11) % 11 == int(digits[9]) and total % 11 != 1
