"""Where entities stand in a text, and whether one stands there by itself, so that another could take its place."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from medx_core.data.function_words import FUNCTION_WORDS, word_set
from medx_core.data.naming_words import HEADS, is_descriptive, is_telling

OPPOSITE = "opposite"
NUMBERS = ("count", "ordinal", "ordinal in digits", "vertebral level", "cranial nerve number")
UNITS = ("length unit", "mass unit", "time unit")
MOST_WORDS = 5

_WORD = re.compile(r"[^\W_]+")
_GAPS = frozenset((" ", "'", "\u2019"))
_DASHES = "-\u2010-\u2015/"
_COUNTING = word_set(
    "and or to of one half halves third thirds quarter quarters hundred thousand times at least most"
)
_NO_COUNTED = FUNCTION_WORDS | word_set("two three four five six seven eight nine ten eleven twelve most")
# Of these the other word is not simply the contrary, unless what follows is a place.
_PLACES = word_set("to side aspect surface border margin boundary end ends half wall part portion direction")
_NEEDS_PLACE = word_set(
    "medial lateral anterior posterior superior inferior proximal distal ventral dorsal cranial caudal superficial deep",
    "internal external upper lower left right ascending descending anterosuperior posteroinferior anteroinferior",
    "posterosuperior",
)

Words = tuple[str, ...]


class Token(NamedTuple):
    """One word in lower case, and where it stands."""

    word: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Mention:
    """One entity in a text: where it stands, its words in lower case, and its kind."""

    start: int
    end: int
    words: Words
    kind: str

    @property
    def family(self) -> str:
        """What the kind is one of: opposite, number, unit or name."""
        if self.kind.startswith(OPPOSITE):
            return OPPOSITE
        return "number" if self.kind in NUMBERS else "unit" if self.kind in UNITS else "name"


def tokens_of(text: str) -> list[Token]:
    """Return the words of `text` in order."""
    return [Token(match[0].casefold(), match.start(), match.end()) for match in _WORD.finditer(text)]


def words_of(text: str) -> Words:
    """Return the words of an entity."""
    return tuple(token.word for token in tokens_of(text))


def find_mentions(text: str, kind_of: Mapping[Words, str]) -> list[Mention]:
    """Return the longest known entities of `text` from left to right."""
    tokens, found, place = tokens_of(text), [], 0
    while place < len(tokens):
        for length in range(_run(text, tokens, place), 0, -1):
            words = tuple(token.word for token in tokens[place : place + length])
            kind = kind_of.get(words)
            if kind is not None:
                place += length - 1
                found.append(Mention(tokens[place - length + 1].start, tokens[place].end, words, kind))
                break
        place += 1
    return found


def find_names(text: str) -> Iterator[tuple[Words, str]]:
    """Yield the phrases of `text` that end in a head word such as nerve and name one of its kind, with the kind."""
    tokens = tokens_of(text)
    for place, token in enumerate(tokens):
        if token.word not in HEADS:
            continue
        first = place
        while first and place - first < MOST_WORDS - 1:
            before = tokens[first - 1]
            if text[before.end : tokens[first].start] != " " or not is_descriptive(before.word):
                break
            first -= 1
        words = tuple(each.word for each in tokens[first : place + 1])
        if is_telling(words[:-1]):
            yield words, HEADS[token.word]


def stands_alone(text: str, mention: Mention) -> bool:
    """Whether nothing around the mention belongs to it: it is no part of a longer name, a range or an explanation."""
    before, after = text[: mention.start], text[mention.end :]
    if re.search(rf"[{_DASHES}(]\s?$", before) or re.match(rf"\s?[{_DASHES}(\u00b0]|\)", after):
        return False
    if before.count("(") > before.count(")"):
        return False
    previous = re.search(r"([^\W_]+)\s$", before.casefold())
    following = re.match(r"\s([^\W_]+)", after.casefold())
    return _FITS[mention.family](mention, previous[1] if previous else "", following[1] if following else "")


def _run(text: str, tokens: Sequence[Token], place: int) -> int:
    """Return how many words from `place` on have nothing but a space or an apostrophe between them."""
    run = 1
    while run < MOST_WORDS and place + run < len(tokens):
        if text[tokens[place + run - 1].end : tokens[place + run].start] not in _GAPS:
            break
        run += 1
    return run


def _name_fits(mention: Mention, previous: str, following: str) -> bool:
    if previous and previous not in FUNCTION_WORDS and not _is_like_verb(previous):
        return False
    if mention.words[-1] in HEADS:
        return following not in HEADS
    nothing_more = not following or following in FUNCTION_WORDS or following in ("muscle", "joint")
    return nothing_more or (_is_like_verb(following) and following not in HEADS)


def _number_fits(mention: Mention, previous: str, following: str) -> bool:
    if previous in _COUNTING - {"and", "of"} or following in _COUNTING:
        return False
    if mention.kind in ("vertebral level", "cranial nerve number"):
        return True
    return re.fullmatch(r"[^\W\d_]+(?<!est)", following) is not None and following not in _NO_COUNTED


def _unit_fits(mention: Mention, previous: str, following: str) -> bool:
    return previous[-1:].isdigit() and following != mention.words[-1]


def _opposite_fits(mention: Mention, previous: str, following: str) -> bool:
    if previous in ("and", "or", "both", "most") or following in ("and", "or"):
        return False
    return following in _PLACES or mention.words[0] not in _NEEDS_PLACE


def _is_like_verb(word: str) -> bool:
    return re.fullmatch(r".+(?:[^ui]s|ed|ing)", word) is not None


_FITS = {"name": _name_fits, "number": _number_fits, "unit": _unit_fits, OPPOSITE: _opposite_fits}
