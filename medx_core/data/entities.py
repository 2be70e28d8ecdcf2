"""Medical entities: their kinds, where a text mentions them, and in which words they are spoken of.

The lists of words that this goes by are in bundled/words.
"""

import csv
import io
import math
import random
import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np

OPPOSITE = "opposite"
NUMBERS = ("count", "ordinal", "ordinal in digits", "vertebral level", "cranial nerve number")
UNITS = ("length unit", "mass unit", "time unit")
MOST_WORDS = 5
NEIGHBOURS = 12

_DESCRIBING_ENDINGS = re.compile(
    r".{2,}(?:al|ar|ic|ac|ior|eal|ous|oid|tid|ary|ory|ian|ine|eus|ius|tus|gus|cus|lis|ris|tis|oris|nis|dii|chii|"
    r"ent|lique|iate|drate|cuate|nate)"
)
_LIKE_VERB = re.compile(r".+(?:[^ui]s|ed|ing)")
_WORD = re.compile(r"[^\W_]+")
_GAPS = (" ", "'", "\u2019")
_DASHES = "-\u2010-\u2015/"
_OPEN_SOUND = re.compile(r"[aeio]|u(?!r[eio]|t[ei]|ni)|h(?:our|onest)")
_SENTENCE_START = re.compile(r"(?:^|[.!?:]\s+)[\"'\u2018\u201c(]?$")

Words = tuple[str, ...]


@lru_cache(maxsize=1)
def _lists() -> Mapping[str, frozenset[str]]:
    content = tomllib.loads((files("medx_core.data") / "bundled" / "words" / "lists.toml").read_text("utf-8"))
    return {name: frozenset(words.split()) for name, words in content.items()}


def _is_in(name: str, word: str) -> bool:
    return word in _lists()[name]


@lru_cache(maxsize=1)
def _heads() -> Mapping[str, str]:
    """Return the kind that a head word, such as nerve, makes of a name."""
    rows = _rows("heads.csv")
    plurals = {row["plural"]: f"{row['kind']} (plural)" for row in rows}
    return {row["singular"]: row["kind"] for row in rows} | plurals


def _is_descriptive(word: str) -> bool:
    """Whether `word` reads as part of a name, as in "posterior interosseous nerve"."""
    is_describing = _is_in("describing", word) or _DESCRIBING_ENDINGS.fullmatch(word) is not None
    return is_describing and not _is_in("no_name", word)


class Token(NamedTuple):
    """One word in lower case, and its place in the text."""

    word: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Mention:
    """One entity in a text: its place, its words in lower case, and its kind."""

    start: int
    end: int
    words: Words
    kind: str

    @property
    def family(self) -> str:
        """What kind of kind it is: opposite, number, unit or name."""
        if self.kind.startswith(OPPOSITE):
            return OPPOSITE
        return "number" if self.kind in NUMBERS else "unit" if self.kind in UNITS else "name"


def tokens_of(text: str) -> list[Token]:
    """Return the words of `text` in order."""
    return [Token(match[0].casefold(), match.start(), match.end()) for match in _WORD.finditer(text)]


def words_of(text: str) -> Words:
    """Return the words of an entity."""
    return tuple(token.word for token in tokens_of(text))


def _find_mentions(text: str, kind_of: Mapping[Words, str]) -> list[Mention]:
    """Return the longest known entities of `text` from left to right."""
    tokens, mentions, place = tokens_of(text), [], 0
    while place < len(tokens):
        for length in range(_run(text, tokens, place), 0, -1):
            words = tuple(token.word for token in tokens[place : place + length])
            kind = kind_of.get(words)
            if kind is not None:
                place += length - 1
                mentions.append(Mention(tokens[place - length + 1].start, tokens[place].end, words, kind))
                break
        place += 1
    return mentions


def _find_names(text: str) -> Iterator[tuple[Words, str]]:
    """Yield the phrases of `text` that end in a head word and name one of its kind, with the kind.

    "Femoral nerve" tells one nerve from others, "deep nerve" or "spinal nerve" does not.
    """
    tokens = tokens_of(text)
    for place, token in enumerate(tokens):
        if token.word not in _heads():
            continue
        first = place
        while first and place - first < MOST_WORDS - 1:
            before = tokens[first - 1]
            if text[before.end : tokens[first].start] != " " or not _is_descriptive(before.word):
                break
            first -= 1
        words = tuple(part.word for part in tokens[first : place + 1])
        if any(not _is_in("general", word) for word in words[:-1]):
            yield words, _heads()[token.word]


def _appears_alone(text: str, mention: Mention) -> bool:
    """Whether nothing around the mention belongs to it: it is not part of a longer name, a range or an explanation."""
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
    if previous and not _is_in("function_words", previous) and not _LIKE_VERB.fullmatch(previous):
        return False
    if mention.words[-1] in _heads():
        return following not in _heads()
    if not following or _is_in("function_words", following) or following in ("muscle", "joint"):
        return True
    return _LIKE_VERB.fullmatch(following) is not None and following not in _heads()


def _number_fits(mention: Mention, previous: str, following: str) -> bool:
    counting = _is_in("counting", previous) and previous not in ("and", "of")
    if counting or _is_in("counting", following):
        return False
    if mention.kind in ("vertebral level", "cranial nerve number"):
        return True
    if _is_in("function_words", following) or _is_in("not_counted", following):
        return False
    return re.fullmatch(r"[^\W\d_]+(?<!est)", following) is not None


def _unit_fits(mention: Mention, previous: str, following: str) -> bool:
    return previous[-1:].isdigit() and following != mention.words[-1]


def _opposite_fits(mention: Mention, previous: str, following: str) -> bool:
    if previous in ("and", "or", "both", "most") or following in ("and", "or"):
        return False
    return _is_in("places", following) or not _is_in("needs_place", mention.words[0])


_FITS = {"name": _name_fits, "number": _number_fits, "unit": _unit_fits, OPPOSITE: _opposite_fits}


def _nearest(
    contexts: Mapping[Words, Counter[str]], kinds: Mapping[str, Sequence[Words]]
) -> dict[Words, tuple[Words, ...]]:
    """Return for each entity up to `NEIGHBOURS` others of its kind, those with the most similar contexts first.

    Args:
        contexts: how often each word appears in a text with the entity, its own words left out.
        kinds: the entities of each kind, the most frequent first, which also decides between equals.
    """
    from scipy import sparse

    spread = Counter(word for counted in contexts.values() for word in counted)
    columns = {word: column for column, word in enumerate(spread)}
    near: dict[Words, tuple[Words, ...]] = {}
    for entities in kinds.values():
        rows, places, weights = [], [], []
        for row, entity in enumerate(entities):
            for word, count in contexts[entity].items():
                rows.append(row)
                places.append(columns[word])
                weights.append((1 + math.log(count)) * math.log(len(contexts) / spread[word] + 1))
        matrix = sparse.csr_matrix((weights, (rows, places)), shape=(len(entities), len(columns)))
        lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel()) + 1e-12
        likeness = (matrix @ matrix.T).toarray() / lengths[:, None] / lengths[None, :]
        np.fill_diagonal(likeness, -1.0)
        order = np.argsort(-likeness, axis=1, kind="stable")[:, : min(NEIGHBOURS, len(entities) - 1)]
        near.update(
            (entity, tuple(entities[place] for place in order[row])) for row, entity in enumerate(entities)
        )
    return near


@dataclass(frozen=True, slots=True)
class Alternatives:
    """One statement about other things. `words` names the entity it is about, then those in `texts`."""

    words: tuple[str, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True)
class EntityKinds:
    """What is known about some texts: the kind of every entity, and which of each kind occur in them.

    `occurring` has the most frequent first, `neighbours` some others of an entity's kind with the most similar contexts;
    `spellings` keeps how an entity is usually written inside a sentence.
    """

    kind_of: Mapping[Words, str]
    occurring: Mapping[str, tuple[Words, ...]]
    neighbours: Mapping[Words, tuple[Words, ...]]
    spellings: Mapping[Words, str]

    @classmethod
    def from_texts(cls, texts: Iterable[str]) -> "EntityKinds":
        """Return the listed kinds and those that the texts show by their structure."""
        texts = tuple(texts)
        kind_of = dict(_listed())
        for text in texts:
            for words, kind in _find_names(text):
                kind_of.setdefault(words, kind)
        counts: dict[str, Counter[Words]] = defaultdict(Counter)
        written: dict[Words, Counter[str]] = defaultdict(Counter)
        contexts: dict[Words, Counter[str]] = defaultdict(Counter)
        for text in texts:
            around = frozenset(words_of(text)) - _lists()["function_words"]
            for mention in _find_mentions(text, kind_of):
                counts[mention.kind][mention.words] += 1
                contexts[mention.words].update(around.difference(mention.words))
                spelling = text[mention.start : mention.end]
                if spelling.isupper() or not _SENTENCE_START.search(text[: mention.start]):
                    written[mention.words][spelling] += 1
        occurring = {
            kind: tuple(sorted(counted, key=lambda words: (-counted[words], words)))
            for kind, counted in counts.items()
        }
        spellings = {words: spelled.most_common(1)[0][0] for words, spelled in written.items()}
        return cls(kind_of, occurring, _nearest(contexts, occurring), spellings)

    def mentions(self, text: str) -> tuple[Mention, ...]:
        """Return the entities of `text` that can be exchanged: each appears once and by itself."""
        mentions = _find_mentions(text, self.kind_of)
        often = Counter(mention.words for mention in mentions)
        kinds = Counter(mention.kind for mention in mentions)
        return tuple(
            mention
            for mention in mentions
            if often[mention.words] == 1
            and (kinds[mention.kind] == 1 or mention.kind not in NUMBERS)
            and _appears_alone(text, mention)
        )

    def exchanged(self, text: str, mention: Mention, words: Words) -> str | None:
        """Return `text` with another entity of the same kind in the place of `mention`.

        None when that would not be a sentence or would say the same: the other entity is in it already or is another
        name of this one, "a" would have to become "an", or the number of words changes by more than one.
        """
        before, after = text[: mention.start], text[mention.end :]
        if abs(len(words) - len(mention.words)) > 1 or same_thing(words, mention.words):
            return None
        if _follow_in(words, before) or _follow_in(words, after) or words_of(after)[:1] == words[-1:]:
            return None
        if words_of(before)[-1:] in (("a",), ("an",)) and _opens(words) != _opens(mention.words):
            return None
        written = self.spellings.get(words, " ".join(words))
        if text[mention.start].isupper() and _SENTENCE_START.search(before):
            written = written[0].upper() + written[1:]
        return before + written + after

    def alternatives(self, text: str, *, k: int, seed: int) -> Alternatives | None:
        """Return up to `k` versions of `text` that differ in one entity; None when it names none that can be replaced.

        The entities put in are chosen by `seed` among those spoken of in similar words. Which one they replace depends
        on the frame around it alone, so that both of two twins are asked about the same place.
        """
        mentions = self.mentions(text)
        frame = _frame(text, mentions)
        for mention in random.Random(frame).sample(mentions, len(mentions)):
            near = self.neighbours.get(mention.words, ())
            others = random.Random(f"{seed} {frame}").sample(near, len(near))
            made = self._versions(text, mention, (*others, *self.occurring.get(mention.kind, ())), k)
            if made:
                return Alternatives((" ".join(mention.words), *made), tuple(made.values()))
        return None

    def _versions(self, text: str, mention: Mention, others: Iterable[Words], most: int) -> dict[str, str]:
        """Return the first `most` versions that can be made, by the entity in them."""
        made: dict[str, str] = {}
        for words in others:
            version = self.exchanged(text, mention, words)
            if version is not None:
                made[" ".join(words)] = version
            if len(made) == most:
                break
        return made


def _frame(text: str, mentions: Sequence[Mention]) -> str:
    """Return `text` with its entities replaced by their kinds."""
    frame, end = "", 0
    for mention in mentions:
        frame += f"{text[end : mention.start]}<{mention.kind}>"
        end = mention.end
    return frame + text[end:]


def same_thing(first: Words, second: Words) -> bool:
    """Whether two entities are or may be the same thing: "knee" and "knee joint", "neck" and "cervical region"."""
    plain, other = _plain(first), _plain(second)
    if plain <= other or other <= plain:
        return True
    groups = _synonyms()
    return not groups.get(first, frozenset()).isdisjoint(groups.get(second, frozenset()))


def _plain(words: Words) -> frozenset[str]:
    return frozenset(re.sub(r"^oe|^coe", lambda match: match[0].replace("oe", "e"), word) for word in words)


def _follow_in(words: Words, text: str) -> bool:
    """Whether `words` follow one another in `text`."""
    around, size = words_of(text), len(words)
    return any(around[place : place + size] == words for place in range(len(around) - size + 1))


def _opens(words: Words) -> bool:
    """Whether the first sound asks for "an"."""
    return _OPEN_SOUND.match(words[0]) is not None


@lru_cache(maxsize=1)
def _listed() -> Mapping[Words, str]:
    kind_of: dict[Words, str] = {}
    for row in _rows("entities.csv"):
        for entity in row["words"].split(";"):
            kind_of.setdefault(words_of(entity), row["kind"])
    for row in _rows("opposites.csv"):
        for word in row.values():
            kind_of[(word,)] = f"{OPPOSITE} {row['one']}/{row['other']}"
    return kind_of


@lru_cache(maxsize=1)
def _synonyms() -> Mapping[Words, frozenset[int]]:
    """Return for each entity the groups of names for one thing, or for a thing and its part, that it is in."""
    groups: dict[Words, frozenset[int]] = {}
    for number, row in enumerate(_rows("synonyms.csv")):
        for entity in row["words"].split(";"):
            words = words_of(entity)
            groups[words] = groups.get(words, frozenset()) | {number}
    return groups


def _rows(name: str) -> list[dict[str, str]]:
    content = (files("medx_core.data") / "bundled" / "words" / name).read_text("utf-8")
    return list(csv.DictReader(io.StringIO(content, newline="")))
