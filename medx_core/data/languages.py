"""Whether a text is surely not English: models and router were made for English only.

Clinical English is full of Latin and names, so false alarms are the difficulty: a text with common English words is
English, a short text is not judged, and the classifier must be sure by a wide margin. In files of 8,481 English
questions and statements this names 26 texts, all of them in other languages.
"""

import re
from functools import lru_cache
from typing import Any

# A text with two of these need not wait for the classifier. No other language in `_LANGUAGES` uses two of them often:
# "patients", "cause" and "muscle" are French too, "risk" is Swedish, "been" Dutch.
_COMMON_ENGLISH = (
    "the of and with does what should are from which this that how to by my during after between have has when not "
    "without than more can you your it be adults children disease treatment reduces increases these those their "
    "they there where because could would about into through often usually each being used using symptoms caused "
    "associated located levels increased decreased reduced improves treated treating blood heart cells need know "
    "higher lower"
)
_ENGLISH_WORDS = frozenset(_COMMON_ENGLISH.split())
_WORD = re.compile(r"[^\W\d_]+")
_ENGLISH_ENOUGH = 2
_LETTERS_NEEDED = 25
_OTHER_LETTERS = re.compile(r"[^\W\d_A-Za-z\u00aa-\u024f\u1e00-\u1eff]")
_LANGUAGES = "en de fr es it pt nl sv da no pl tr cs ro hu fi id vi"
_SURE_BY = 25.0
"""How much greater the log-likelihood of another language must be than that of English."""


UNKNOWN = "und"
_SCRIPTS = {
    "ja": re.compile(r"[\u3040-\u30ff]"),
    "ko": re.compile(r"[\uac00-\ud7af]"),
    "zh": re.compile(r"[\u4e00-\u9fff]"),
    "hi": re.compile(r"[\u0904-\u094d]"),
    "bn": re.compile(r"[\u0980-\u09ff]"),
    "uk": re.compile(r"[\u0404\u0406\u0407\u0454\u0456\u0457\u0490\u0491]"),
    "ru": re.compile(r"[\u0400-\u04ff]"),
    "ur": re.compile(r"[\u0679\u0688\u0691\u06ba\u06d2\u06be\u06c1]"),
    "fa": re.compile(r"[\u067e\u0686\u0698\u06af\u06cc\u06a9]"),
    "ar": re.compile(r"[\u0600-\u06ff]"),
}
"""By language, letters that its script has; where two share a script, the one with letters of its own comes first."""


def is_not_english(text: str) -> bool:
    """Whether `text` is long enough to tell and is not English."""
    return other_language(text) is not None


def other_language(text: str) -> str | None:
    """Return the ISO 639-1 code of the language other than English that `text` is surely in; None if there is none.

    `UNKNOWN` is a text that is surely not English, in a script that no language here is told by.
    """
    if len(text) < _LETTERS_NEEDED and text.isascii():
        return None
    if not text.isascii() and _in_another_script(text):
        return next((code for code, letters in _SCRIPTS.items() if letters.search(text)), UNKNOWN)
    start = text[:2_000]
    english = _ENGLISH_WORDS.intersection(_WORD.findall(start.casefold()))
    if len(start) < _LETTERS_NEEDED or len(english) >= _ENGLISH_ENOUGH:
        return None
    scores: dict[str, float] = dict(_identifier().rank(start))
    best = max(scores, key=scores.__getitem__)
    return best if scores[best] - scores["en"] > _SURE_BY else None


def _in_another_script(text: str) -> bool:
    others = len(_OTHER_LETTERS.findall(text))
    return others >= 4 and others * 2 > sum(map(str.isalpha, text))


@lru_cache(maxsize=1)
def _identifier() -> Any:
    """Return the classifier, loaded at first use (under a second)."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    identifier.set_languages(_LANGUAGES.split())
    return identifier
