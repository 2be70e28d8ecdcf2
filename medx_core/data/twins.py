"""Twins made from a user's own statements, such that a liking for words or for frames cannot tell them apart.

Two statements that name entities of one kind exchange them: what one says of A the other then says of A, and the
other way round. So in every couple of words (A, B) as many statements go from A to B as from B to A, and a reader
that likes A better than B is right exactly half of the time. From statements labelled TRUE come twins, from those
labelled FALSE the association control: both versions are false there, and preferring the one that was in the file
can only mean "this word belongs here".

Nobody has checked that an exchanged statement is false. Those that the file itself calls TRUE are left out, and so
are frames in which an exchange says little: negations, lists of examples, and praise of anatomy as such.
"""

import csv
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TextIO

from medx_core.data.entities import OPPOSITE, EntityKinds, Mention
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.data.near_duplicates import NearCopies, similarity, words_in_order

COLUMNS = ("pair", "statement", "answer", "original", "source_answer", "quad", "kind")
FAMILIES = {True: ("number", "unit", "name", OPPOSITE), False: ("name",)}
"""What is exchanged by the answer of the source. A wrong number or direction exchanged may well become the right one,
so that the control would contain true statements and look lower than it is: it consists of names."""

# Frames that an exchange need not make false (or that it may make true): negations, lists of examples, and sentences
# that praise, generalise or allow.
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


@dataclass(frozen=True)
class _Source:
    """A statement that could exchange a word, and where."""

    place: int
    text: str
    mentions: tuple[Mention, ...]


@dataclass(frozen=True)
class _Exchange:
    """Two statements and what becomes of them."""

    first: _Source
    second: _Source
    kind: str
    texts: tuple[str, str]


def swap_twins(statements: Sequence[LabelledStatement], seed: int) -> tuple[TwinRow, ...]:
    """Return twins from the TRUE statements and the association control from the FALSE ones, quad by quad.

    A statement is used once at most, and of a group of near copies one.
    """
    kinds = EntityKinds.from_texts(statement.text for statement in statements)
    judge = _Judge(statements)
    rows: list[TwinRow] = []
    for answer in (True, False):
        sources = _sources(statements, kinds, answer)
        matching = _Matching(kinds, judge, random.Random(f"{seed} {answer}"))
        for number, exchange in enumerate(matching.exchanges(sources, FAMILIES[answer]), start=1):
            rows += _rows(exchange, "tf"[not answer] + f"{number:04}", answer)
    return tuple(rows)


def write_twins(rows: Iterable[TwinRow], out: TextIO) -> None:
    """Write `rows` as CSV with `COLUMNS`; `out` must be opened with `newline=""`."""
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in rows:
        cells = (getattr(row, name) for name in COLUMNS)
        writer.writerow("TRUE" if cell is True else "FALSE" if cell is False else cell for cell in cells)


def _sources(statements: Sequence[LabelledStatement], kinds: EntityKinds, answer: bool) -> list[_Source]:
    groups: set[str] = set()
    sources = []
    for place, statement in enumerate(statements):
        if statement.answer is not answer or _NO_FRAME.search(statement.text) or statement.group in groups:
            continue
        mentions = kinds.mentions(statement.text)
        if mentions:
            groups.update({statement.group} - {""})
            sources.append(_Source(place, statement.text, mentions))
    return sources


def _rows(exchange: _Exchange, quad: str, answer: bool) -> list[TwinRow]:
    rows = []
    for letter, source, text in zip("ab", (exchange.first, exchange.second), exchange.texts, strict=True):
        pair = quad + letter
        rows.append(TwinRow(pair, source.text, answer, True, answer, quad, exchange.kind))
        rows.append(TwinRow(pair, text, False, False, answer, quad, exchange.kind))
    return rows


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
        # A near copy of the source is one of the exchange too; it speaks against it when it is nearer to the latter.
        near = (self._true.words[place] for place in self._true.of(made))
        return all(similarity(other, made) < similarity(other, was) for other in near)

    def take(self, texts: Iterable[str]) -> None:
        """Remember statements that were made, so that none is made twice."""
        self._taken.update(words_in_order(text) for text in texts)


class _Matching:
    """Couples statements that exchange words of one kind, each statement once."""

    def __init__(self, kinds: EntityKinds, judge: _Judge, chance: random.Random) -> None:
        self._kinds = kinds
        self._judge = judge
        self._chance = chance

    def exchanges(self, sources: Sequence[_Source], families: Sequence[str]) -> list[_Exchange]:
        """Return the couples, family by family."""
        free = {source.place: source for source in sources}
        exchanges: list[_Exchange] = []
        for family in families:
            pools: dict[str, list[tuple[_Source, Mention]]] = defaultdict(list)
            for source in free.values():
                for mention in source.mentions:
                    if mention.family == family:
                        pools[mention.kind].append((source, mention))
            # Small kinds first: a statement with words of two kinds is missed less by the larger one.
            for kind in sorted(pools, key=lambda name: (len(pools[name]), name)):
                exchanges += self._within(pools[kind], free)
        return exchanges

    def _within(self, pool: list[tuple[_Source, Mention]], free: dict[int, _Source]) -> Iterable[_Exchange]:
        self._chance.shuffle(pool)
        while pool:
            source, mention = pool.pop()
            if source.place not in free:
                continue
            for other, other_mention in reversed(pool[-_MOST_TRIED:]):
                if other.place not in free or other.place == source.place:
                    continue
                exchange = self._exchange((source, mention), (other, other_mention))
                if exchange is not None:
                    del free[source.place], free[other.place]
                    self._judge.take(exchange.texts)
                    yield exchange
                    break

    def _exchange(self, left: tuple[_Source, Mention], right: tuple[_Source, Mention]) -> _Exchange | None:
        (first, mention), (second, second_mention) = left, right
        made = self._kinds.exchanged(first.text, mention, second_mention.words)
        made_too = made and self._kinds.exchanged(second.text, second_mention, mention.words)
        if not made or not made_too or words_in_order(made) == words_in_order(made_too):
            return None
        if not self._judge.allows(made, first.text) or not self._judge.allows(made_too, second.text):
            return None
        return _Exchange(first, second, mention.kind, (made, made_too))
