"""Twins made from a user's own statements, such that a liking for words or for frames cannot tell them apart.

Two statements that name entities of one kind exchange them. So of every two words A and B, as many statements go from
A to B as from B to A, and a reader that prefers A to B is right exactly half of the time. From statements labelled TRUE
come twins, from those labelled FALSE the association control: there both versions are false, and preferring the
version of the file can only mean "this word belongs here".

Nobody has checked that an exchanged statement is false. Those that the file itself calls TRUE are left out, and so
are frames in which an exchange says little: negations, lists of examples, and praise of anatomy as such.
"""

import csv
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TextIO

from medx_core.data.entities import OPPOSITE, EntityKinds, Mention
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.data.near_duplicates import NearCopies, similarity, words_in_order

FAMILIES = {True: ("number", "unit", "name", OPPOSITE), False: ("name",)}
"""The families of words exchanged, by the answer of the source. A wrong number or direction may well become the right
one, so that the control would contain true statements and look lower than it is: it consists of names."""

# Frames that an exchange need not make false (or may make true): negations, lists of examples, and sentences that
# praise, generalise or allow.
_NO_FRAME = re.compile(
    r"\b(?:not|no|never|none|nor|neither|without|cannot|absent|lacks?|unlike|except|excluding|instead|rather than|"
    r"unrelated|independent\w*|such as|including|includes?|e\.g|for example|various|many|some|several|can|could|may|"
    r"might|often|sometimes|occasionally|understanding|knowledge|importan\w+|essential|critical|crucial|vital|"
    r"clinical\w*|significan\w+|anatom\w+|textbook|chapter|described|description|surgeons?|comprehensive|complex\w*|"
    r"integrat\w+|integrity|intricate|plays? an?|role|classified|hinge|temporary|(?:in)?correctly|falsely|stated|"
    r"stabil\w+|mobility|optimi[sz]\w+|optimal|unique|properties|strategic\w*|evolution\w*|functional\w*|maintain\w*|"
    r"ensur\w+|facilitat\w+|adequate|dynamic|architecture|overall|design\w*|efficien\w+|adapt\w+|injur\w+|visuali[sz]ed)\b",
    re.IGNORECASE,
)
_MOST_TRIED = 400


@dataclass(frozen=True, slots=True)
class TwinRow:
    """One version of a statement. Its pair has one `original` and one in which a word of `kind` was exchanged.

    A quad consists of the two pairs whose statements exchanged their words with each other.
    """

    pair: str
    statement: str
    answer: bool
    original: bool
    source_answer: bool
    quad: str
    kind: str


COLUMNS = tuple(column.name for column in fields(TwinRow))


@dataclass(frozen=True)
class _Place:
    """A word in a statement that could be exchanged; `number` is the statement's place in the file."""

    number: int
    text: str
    mention: Mention


def swap_twins(statements: Sequence[LabelledStatement], seed: int) -> tuple[TwinRow, ...]:
    """Return twins from the TRUE statements and the association control from the FALSE ones, quad by quad.

    A statement is used once at most, and of a group of near copies only the first.
    """
    kinds = EntityKinds.from_texts(statement.text for statement in statements)
    judge = _Judge(statements)
    rows: list[TwinRow] = []
    for answer in (True, False):
        places = _places(statements, kinds, answer)
        matching = _Matching(kinds, judge, random.Random(f"{seed} {answer}"))
        for number, exchange in enumerate(matching.exchanges(places, FAMILIES[answer]), start=1):
            quad = f"{'t' if answer else 'f'}{number:04}"
            for letter, (place, text) in zip("ab", exchange, strict=True):
                for version, original in ((place.text, True), (text, False)):
                    kind = place.mention.kind
                    rows.append(
                        TwinRow(quad + letter, version, answer and original, original, answer, quad, kind)
                    )
    return tuple(rows)


def write_twins(rows: Iterable[TwinRow], out: TextIO) -> None:
    """Write `rows` as CSV with `COLUMNS`; `out` must be opened with `newline=""`."""
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in rows:
        cells = (getattr(row, name) for name in COLUMNS)
        writer.writerow(str(cell).upper() if isinstance(cell, bool) else cell for cell in cells)


def _places(statements: Sequence[LabelledStatement], kinds: EntityKinds, answer: bool) -> list[_Place]:
    groups: set[str] = set()
    places: list[_Place] = []
    for number, statement in enumerate(statements):
        if statement.answer is not answer or _NO_FRAME.search(statement.text) or statement.group in groups:
            continue
        mentions = kinds.mentions(statement.text)
        if mentions:
            groups.update({statement.group} - {""})
            places += [_Place(number, statement.text, mention) for mention in mentions]
    return places


class _Judge:
    """Says which exchanged statements may be used: new ones that the file does not call TRUE in nearly these words."""

    def __init__(self, statements: Sequence[LabelledStatement]) -> None:
        self._taken = {words_in_order(statement.text) for statement in statements}
        self._true = NearCopies([statement.text for statement in statements if statement.answer])

    def allows(self, text: str, source: str) -> bool:
        """Whether `text`, made from `source`, may be used as a false statement."""
        if words_in_order(text) in self._taken:
            return False
        made, was = frozenset(words_in_order(text)), frozenset(words_in_order(source))
        # A near copy of the source is near to `text` too; it speaks against `text` only when it is nearer to that.
        near = (self._true.words[place] for place in self._true.of(made))
        return all(similarity(other, made) < similarity(other, was) for other in near)

    def take(self, texts: Iterable[str]) -> None:
        """Remember statements that were made, so that none is made twice."""
        self._taken.update(words_in_order(text) for text in texts)


_Exchange = tuple[tuple[_Place, str], tuple[_Place, str]]
"""Two places, each with its statement after the exchange."""


class _Matching:
    """Couples statements that exchange words of one kind, each statement once."""

    def __init__(self, kinds: EntityKinds, judge: _Judge, chance: random.Random) -> None:
        self._kinds = kinds
        self._judge = judge
        self._chance = chance
        self._used: set[int] = set()

    def exchanges(self, places: Sequence[_Place], families: Sequence[str]) -> Iterator[_Exchange]:
        """Yield the couples, family by family."""
        for family in families:
            pools: dict[str, list[_Place]] = defaultdict(list)
            for place in places:
                if place.mention.family == family and place.number not in self._used:
                    pools[place.mention.kind].append(place)
            # Small kinds first: a statement with words of two kinds is missed less by the larger one.
            for kind in sorted(pools, key=lambda name: (len(pools[name]), name)):
                yield from self._within(pools[kind])

    def _within(self, pool: list[_Place]) -> Iterator[_Exchange]:
        self._chance.shuffle(pool)
        while pool:
            place = pool.pop()
            if place.number in self._used:
                continue
            for other in reversed(pool[-_MOST_TRIED:]):
                if other.number in self._used or other.number == place.number:
                    continue
                exchange = self._exchange(place, other)
                if exchange is not None:
                    self._used |= {place.number, other.number}
                    self._judge.take(text for _, text in exchange)
                    yield exchange
                    break

    def _exchange(self, first: _Place, second: _Place) -> _Exchange | None:
        made = self._kinds.exchanged(first.text, first.mention, second.mention.words)
        made_too = made and self._kinds.exchanged(second.text, second.mention, first.mention.words)
        if not made or not made_too or words_in_order(made) == words_in_order(made_too):
            return None
        if not self._judge.allows(made, first.text) or not self._judge.allows(made_too, second.text):
            return None
        return (first, made), (second, made_too)
