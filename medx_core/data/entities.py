"""Medical entities: their kinds, where a text mentions them, and in which words they are spoken of."""

import csv
import io
import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np


def word_set(*lines: str) -> frozenset[str]:
    """Return the words of all lines."""
    return frozenset(" ".join(lines).split())


FUNCTION_WORDS = word_set(
    "a an the its their each every both either and or but nor of in on at by for from to with into onto over under above",
    "below near behind beneath between among through during before after against across within without along around",
    "via than as is are was were be been has have had can may does do did which that who where when while because it",
    "whose upon toward towards per only also then called named termed",
)


_SINGULAR = {
    **{each: each for each in ("nerve", "artery", "vein", "muscle", "gland", "joint", "bone", "lobe", "plexus", "tract",
                               "ganglion", "valve", "duct", "sinus", "epithelium", "cartilage", "arch", "node")},
    **dict.fromkeys(("disease", "syndrome"), "disease"),
    **dict.fromkeys(("foramen", "canal", "fissure", "notch", "hiatus", "aperture", "meatus"), "opening"),
    **dict.fromkeys(("fossa", "triangle", "cavity", "recess", "pouch", "space", "region"), "region"),
    **dict.fromkeys(("fascia", "membrane", "septum", "aponeurosis", "retinaculum"), "sheet"),
    **dict.fromkeys(("ligament", "tendon"), "ligament"),
    **dict.fromkeys(("tubercle", "process", "crest", "condyle", "epicondyle", "tuberosity", "malleolus",
                     "trochanter", "spine"), "bony landmark"),
    **dict.fromkeys(("sulcus", "gyrus", "nucleus", "cortex", "peduncle", "fasciculus"), "part of the brain"),
}  # fmt: skip
_PLURAL = {
    "artery": "arteries", "ganglion": "ganglia", "foramen": "foramina", "fossa": "fossae", "cavity": "cavities",
    "fascia": "fasciae", "septum": "septa", "sinus": "sinuses", "process": "processes", "sulcus": "sulci",
    "gyrus": "gyri", "nucleus": "nuclei", "plexus": "plexuses", "tuberosity": "tuberosities", "meatus": "meatuses",
    "aponeurosis": "aponeuroses", "malleolus": "malleoli", "epithelium": "epithelia", "cortex": "cortices",
}  # fmt: skip

HEADS: Mapping[str, str] = {
    **_SINGULAR,
    **{_PLURAL.get(word, word + "s"): kind + " (plural)" for word, kind in _SINGULAR.items()},
}
"""The kind that a head word makes of a name."""

_DESCRIBING_ENDINGS = re.compile(
    r".{2,}(?:al|ar|ic|ac|ior|eal|ous|oid|tid|ary|ory|ian|ine|eus|ius|tus|gus|cus|lis|ris|tis|oris|nis|dii|chii|"
    r"ent|lique|iate|drate|cuate|nate)"
)
_DESCRIBING = word_set(
    "deep common great greater lesser long short left right upper lower middle inner outer optic azygos hemiazygos",
    "circumflex perforating ascending descending communicating vagus hip knee elbow shoulder wrist ankle sweat",
    "thyroid parathyroid lymph portal true false cubital first second third fourth fifth sixth seventh eighth ninth",
    "tenth eleventh twelfth inferior superior stratified squamous simple pseudostratified keratinized",
    "hard soft dural",
)
_GENERAL = word_set(
    "medial lateral anterior posterior superior inferior dorsal ventral deep superficial left right upper lower middle",
    "inner outer long short great greater lesser common internal external ascending descending proximal distal median",
    "central peripheral spinal cranial motor sensory cutaneous muscular somatic visceral parietal autonomic afferent",
    "efferent lymph lymphatic synovial arterial venous nervous vascular fibrous bony articular regional local true false",
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth transverse longitudinal oblique",
    "vertical horizontal circular anatomical intrinsic extrinsic skeletal smooth cardiac spacious irregular rudimentary",
    "patent bilaminar congruent cartilaginous mucous serous pneumatic pathological systemic extrafusal bipennate",
    "quadrilateral parasympathetic sympathetic preaxial postaxial fibroelastic subcutaneous perforating nutrient",
    "intracranial extracranial endocrine alimentary tendinous intersegmental commissural cortical capsular digital",
    "marginal respiratory simple communicating accessory",
)
_NO_NAME = word_set(
    "usual several various numerous important essential critical vital crucial typical normal principal main specific",
    "special additional terminal initial final total equal continuous clinical surgical functional structural this its",
    "near similar individual prominent potential actual real integral single different present prevent treatment patient segment",
    "consistent independent dependent adjacent movement attachment ligament genetic chronic acute congenital serious",
    "dangerous general basic original natural physical chemical characteristic bilateral unilateral ipsilateral",
    "contralateral human pelvis penis testis pubis sinus nucleus plexus atlas axis thymus humerus talus calcaneus",
)


def is_descriptive(word: str) -> bool:
    """Whether `word` reads as part of a name, as in "posterior interosseous nerve"."""
    return word not in _NO_NAME and (word in _DESCRIBING or _DESCRIBING_ENDINGS.fullmatch(word) is not None)


def is_telling(describing: Sequence[str]) -> bool:
    """Whether these words tell one structure from others: "femoral" does, "deep" or "spinal" alone do not."""
    return any(word not in _GENERAL for word in describing)


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


NEIGHBOURS = 12


def nearest(
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


_OPEN_SOUND = re.compile(r"[aeio]|u(?!r[eio]|t[ei]|ni)|h(?:our|onest)")
_SENTENCE_START = re.compile(r"(?:^|[.!?:]\s+)[\"'\u2018\u201c(]?$")


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
            for words, kind in find_names(text):
                kind_of.setdefault(words, kind)
        counts: dict[str, Counter[Words]] = defaultdict(Counter)
        written: dict[Words, Counter[str]] = defaultdict(Counter)
        contexts: dict[Words, Counter[str]] = defaultdict(Counter)
        for text in texts:
            around = frozenset(words_of(text)) - FUNCTION_WORDS
            for mention in find_mentions(text, kind_of):
                counts[mention.kind][mention.words] += 1
                contexts[mention.words].update(around.difference(mention.words))
                spelling = text[mention.start : mention.end]
                if spelling.isupper() or not _SENTENCE_START.search(text[: mention.start]):
                    written[mention.words][spelling] += 1
        occurring = {
            kind: tuple(sorted(counted, key=lambda words: (-counted[words], words)))
            for kind, counted in counts.items()
        }
        spellings = {words: each.most_common(1)[0][0] for words, each in written.items()}
        return cls(kind_of, occurring, nearest(contexts, occurring), spellings)

    def mentions(self, text: str) -> tuple[Mention, ...]:
        """Return the entities of `text` that can be exchanged: each appears once and by itself."""
        mentions = find_mentions(text, self.kind_of)
        often = Counter(mention.words for mention in mentions)
        kinds = Counter(mention.kind for mention in mentions)
        return tuple(
            mention
            for mention in mentions
            if often[mention.words] == 1
            and (kinds[mention.kind] == 1 or mention.kind not in NUMBERS)
            and stands_alone(text, mention)
        )

    def exchanged(self, text: str, mention: Mention, words: Words) -> str | None:
        """Return `text` with another entity of the same kind in the place of `mention`.

        None when that would not be a sentence or would say the same: the other entity is in it already or is another
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


def _stand_in(words: Words, text: str) -> bool:
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
