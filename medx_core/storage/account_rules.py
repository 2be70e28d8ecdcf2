"""What the name of a person and a password must be like.

A password is judged by zxcvbn (Wheeler, USENIX Security 2016), which knows the commonest passwords, words, names, dates
and keyboard walks; names by Unicode's tables of scripts and of look-alikes (UTS 39), as `confusable_homoglyphs` has them.
"""

import re
import secrets
import unicodedata

from medx_core.errors import BadInput

SHORTEST_PASSWORD = 10
LONGEST_PASSWORD = 1_000
LONGEST_NAME = 80
GENERATED_BYTES = 12
FEWEST_GUESSES_LOG10 = 8.0
READ_BY_ZXCVBN = 72  # it refuses more
SHORTEST_PART_OF_NAME = 3
MARKS_IN_NAMES = frozenset(" '’.-_·,@+")
TOGETHER = ({"HAN", "HIRAGANA", "KATAKANA"}, {"HAN", "BOPOMOFO"}, {"HAN", "HANGUL"})
"""Scripts that one language writes together (UTS 39, "highly restrictive")."""
ANY_SCRIPT = {"COMMON", "INHERITED"}


def usable_name(name: str) -> str:
    """Return a name in the one form it is stored in: NFKC, single spaces.

    Raises:
        BadInput: it is empty, too long, has characters that names do not have, or mixes scripts.
    """
    name = " ".join(unicodedata.normalize("NFKC", name).split())
    if not 1 <= len(name) <= LONGEST_NAME:
        raise BadInput(f"A name has between 1 and {LONGEST_NAME} characters.")
    if not all(char in MARKS_IN_NAMES or unicodedata.category(char)[0] in "LMN" for char in name):
        raise BadInput("A name has letters, digits, spaces and . - _ ' , @ + alone.")
    if not any(unicodedata.category(char)[0] == "L" for char in name):
        raise BadInput("A name has at least one letter.")
    scripts = _scripts(name)
    if len(scripts) > 1 and not any(scripts <= allowed for allowed in TOGETHER):
        raise BadInput(
            f"A name is written in one script; this one mixes {' and '.join(sorted(scripts)).lower()} letters that may look alike."
        )
    return name


def name_key(name: str) -> str:
    """Return what names are compared by: no two people differ in case or form alone."""
    return " ".join(unicodedata.normalize("NFKC", name).split()).casefold()


def appearance(name: str) -> str:
    """Return what a name looks like: every letter that has a Latin look-alike as that letter."""
    from confusable_homoglyphs import confusables

    def latin(char: str) -> str:
        if char.isascii():
            return char
        known = confusables.is_confusable(char, greedy=True) or []
        likes = (like["c"] for each in known for like in each["homoglyphs"])
        return next((like for like in likes if like.isascii() and like.isalpha()), char)

    return "".join(map(latin, name_key(name))).casefold()


def check_password(password: str, name: str) -> None:
    """Refuse a password that is too short, has the person's name in it, or would soon be guessed.

    Raises:
        BadInput: the sentence says why.
    """
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise BadInput(f"A password has at least {SHORTEST_PASSWORD} characters.")
    parts = [part for part in re.findall(r"\w+", name_key(name)) if len(part) >= SHORTEST_PART_OF_NAME]
    if any(part in name_key(password) for part in parts):
        raise BadInput("A password does not contain your name; choose another.")
    from zxcvbn import zxcvbn

    judged = zxcvbn(password[:READ_BY_ZXCVBN], user_inputs=[*parts, "medx"])
    if judged["guesses_log10"] < FEWEST_GUESSES_LOG10:
        raise BadInput(
            "This password is too easy to guess; three or four words that do not belong together are better."
        )


def generated_password(name: str) -> str:
    """Return a random password that `check_password` takes."""
    while True:
        password = secrets.token_urlsafe(GENERATED_BYTES)
        if not any(part in password.casefold() for part in re.findall(r"\w+", name_key(name))):
            return password


def _scripts(name: str) -> set[str]:
    from confusable_homoglyphs import categories

    return {str(script) for script in categories.unique_aliases(name)} - ANY_SCRIPT
