"""Medical words by kind: a femoral nerve may stand where a tibial nerve stands, "three" where "two" does.

Kinds come from lists (bones, organs, muscles, drugs, counts, levels, opposites and more) and from structure: whatever
texts call "<describing words> nerve" is a nerve. Singular and plural are kinds of their own, so that an exchange
keeps the grammar of its sentence.
"""

import csv
import io
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from medx_core.data.entity_contexts import nearest
from medx_core.data.entity_mentions import (
    NUMBERS,
    OPPOSITE,
    Mention,
    Words,
    find_mentions,
    find_names,
    stands_alone,
    words_of,
)
from medx_core.data.function_words import FUNCTION_WORDS

_OPEN_SOUND = re.compile(r"[aeio]|u(?!r[eio]|t[ei]|ni)|h(?:our|onest)")
_SENTENCE_START = re.compile(r"(?:^|[.!?:]\s+)[\"'\u2018\u201c(]?$")


@dataclass(frozen=True, slots=True)
class Alternatives:
    """One statement about other things. `words` names the entity it is about, then those that stand in `texts`."""

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
            for words, kind in find_names(text):
                kind_of.setdefault(words, kind)
        found: dict[str, Counter[Words]] = defaultdict(Counter)
        written: dict[Words, Counter[str]] = defaultdict(Counter)
        contexts: dict[Words, Counter[str]] = defaultdict(Counter)
        for text in texts:
            around = frozenset(words_of(text)) - FUNCTION_WORDS
            for mention in find_mentions(text, kind_of):
                found[mention.kind][mention.words] += 1
                contexts[mention.words].update(around.difference(mention.words))
                spelling = text[mention.start : mention.end]
                if spelling.isupper() or not _SENTENCE_START.search(text[: mention.start]):
                    written[mention.words][spelling] += 1
        occurring = {
            kind: tuple(sorted(counted, key=lambda words: (-counted[words], words)))
            for kind, counted in found.items()
        }
        spellings = {words: each.most_common(1)[0][0] for words, each in written.items()}
        return cls(kind_of, occurring, nearest(contexts, occurring), spellings)

    def mentions(self, text: str) -> tuple[Mention, ...]:
        """Return the entities of `text` that can be exchanged: each stands there once and by itself."""
        found = find_mentions(text, self.kind_of)
        often = Counter(mention.words for mention in found)
        kinds = Counter(mention.kind for mention in found)
        return tuple(
            mention
            for mention in found
            if often[mention.words] == 1
            and (kinds[mention.kind] == 1 or mention.kind not in NUMBERS)
            and stands_alone(text, mention)
        )

    def exchanged(self, text: str, mention: Mention, words: Words) -> str | None:
        """Return `text` with another entity of the same kind in the place of `mention`.

        None when that would be no sentence or would say the same: the other entity stands there already or is another
        name of this one, "a" would have to become "an", or the number of words changes by more than one.
        """
        before, after = text[: mention.start], text[mention.end :]
        if abs(len(words) - len(mention.words)) > 1 or same_thing(words, mention.words):
            return None
        if _stand_in(words, before) or _stand_in(words, after) or words_of(after)[:1] == words[-1:]:
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
        """Return the first `most` versions that can be made, by the entity that stands in them."""
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


def same_thing(one: Words, other: Words) -> bool:
    """Whether two entities are or may be the same thing: "knee" and "knee joint", "neck" and "cervical region"."""
    first, second = (_plain(words) for words in (one, other))
    if first <= second or second <= first:
        return True
    groups = _synonyms()
    return not groups.get(one, frozenset()).isdisjoint(groups.get(other, frozenset()))


def _plain(words: Words) -> frozenset[str]:
    return frozenset(re.sub(r"^oe|^coe", lambda match: match[0].replace("oe", "e"), word) for word in words)


def _stand_in(words: Words, text: str) -> bool:
    """Whether `words` stand one after the other in `text`."""
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
