"""Red-flag wording: whether a text speaks of an emergency happening to someone, by rules alone.

It is no triage: the absence of a red flag says nothing. The rules and their sources are in red_flags.toml, for
clinicians to read and correct.

A sign does not count where its own words are denied ("no fever, rash or stiff neck", "stroke was ruled out"), lie in the
past ("a seizure last year") or are meant otherwise ("a stroke of luck"). Each of these reaches only as far as written
below: it ends at the next `but`, subject, verb or full stop, so a sign that stands elsewhere in the text still counts,
and "cannot rule out", "negative for this, positive for that" or a relative who saw it take nothing away.
"""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

MAX_CHARACTERS = 4_000
WRONG_DOSE = "dose ten times too high or too low"
_SHARED = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True)
class RedFlag:
    """One rule: it fires when every pattern of `all_of` occurs in the text where nothing denies it.

    One that `decides_alone` flags a text whatever the learned part says.
    """

    name: str
    source: str
    all_of: tuple[re.Pattern[str], ...]
    decides_alone: bool


@lru_cache(maxsize=1)
def _content() -> tuple[tuple[RedFlag, ...], re.Pattern[str]]:
    content = tomllib.loads((files("medx_core.routing") / "red_flags.toml").read_text("utf-8"))
    shared = content["shared"]
    found = tuple(
        RedFlag(
            rule["name"],
            rule["source"],
            tuple(
                re.compile(_SHARED.sub(lambda name: str(shared[name[1]]), pattern))
                for pattern in rule["all_of"]
            ),
            rule.get("decides_alone", False),
        )
        for rule in content["rule"]
    )
    return found, re.compile(r"\b(?:" + "|".join(content["not_meant"]) + ")")


def rules() -> tuple[RedFlag, ...]:
    """Return every rule, in no order of weight."""
    return _content()[0]


_RESEARCH = re.compile(
    r"\b(?:randomi[sz]ed|meta-analys\w+|systematic review|cohort|trials?|placebo|odds ratio|hazard ratio|incidence|prevalence|mortality|"
    r"predict\w*|associat\w+ (?:with|between)|risk factors?|efficacy|efficacious|outcomes?|biomarkers?|compared (?:with|to)|versus|guidelines?|"
    r"mice|rats|in vitro|gene|genes|expression|mutations?|pathogenesis|validat\w+|survival|studies|study|literature|evidence|patients with|"
    r"in (?:adults|children|patients|infants|women|men|adolescents|neonates))\b"
)
_TEACHING = re.compile(
    r"\b(?:workshop|osce|mann?equins?|manikins?|scenarios?|simulat\w+|quiz|viva|exam|lecture|syllabus|cpd|e-?learning|"
    r"refresher|teaching|drill|webinar|flash ?cards?|trainees?|training (?:day|session|course|module)|first aid (?:course|class)|"
    r"dissertation|my essay|novel|screenplay|chapter|video game|crossword)\b"
)
_SOMEBODY = re.compile(
    r"\b(?:i|i'm|im|i've|ive|me|my|we|our|he|she|his|her|him|husband|wife|partner|mum|mom|dad|son|daughter|friend|"
    r"neighbou?r|grand\w+|right now|just now|help|\d{1,3} ?(?:yo|y/o|yr old|year[- ]old|m|f)|pt)\b"
)
_PRESENT = re.compile(
    r"\b(?:now|right now|today|tonight|this (?:morning|afternoon|evening|minute)|again|still|currently|at the moment|"
    r"(?:minutes?|mins?|hours?|hrs?) ago|woke|since (?:this|breakfast|lunch|dinner|yesterday|last night|noon|midnight|\d)|"
    r"yesterday|last night|getting worse|just)\b"
)
_PAST = re.compile(
    r"\b(?:years? ago|months? ago|last (?:year|month|spring|summer|autumn|fall|winter|christmas|january|february|march|april|may|june|july|"
    r"august|september|october|november|december)|(?:in|since|back in|of|'?) ?(?:19|20)\d\d|(?:19|20)\d\d|in '\d\d|when i was (?:a |in |at |\w+teen|\w+ty|six|seven|eight|nine|ten|\d)|in my (?:teens|\w+ties)|"
    r"as a (?:child|kid|boy|girl|teenager|student|wain)|years? (?:back|since|later|on)|long ago|used to|once had|grew out of)\b"
)
_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "`": "'", "´": "'"})
_SENTENCE_END = re.compile(r"[.?!]+(?=\s|$)|[\n;]")
# A full stop between a word and the next sentence whose space is missing, but not in 7.2, e.g. or 0.5mg.
_MISSING_SPACE = re.compile(r"(?<=[a-z)]{2})([.?!,;])(?=[a-z])|(?<=\d)([.?!;])(?=[a-z]{2})")
_DENIAL = re.compile(
    r"\b(no|not|nil|never|without|nor|neither|denie[sd]|denying|isn't|isnt|hasn't|hasnt|wasn't|wasnt|haven't|havent|aren't|arent|"
    r"doesn't|doesnt|didn't|didnt|don't|dont|weren't|ain't|aint|(?:negative|neg|-ve) for|free (?:of|from)|absence of|ruled out|excludes?|"
    r"(?:family |past )?history of|fhx|h/o)\b"
    # these deny nothing, or deny something else
    r"(?! (?:longer|only|just|doubt|better|relief|effect|improv\w*|help\w*|work\w*|idea|sure|change|until|excluded?|fully|completely|entirely|one|response|respond\w*|"
    r"settl\w*|going away|know|knowing|think|want|care|getting|reason|point|warning|able|been ruled|ruled|excluded|quite|right|really|"
    r"himself|herself|myself|eas\w*|touch\w*|stop\w*))(?: (?:had|have|has|ever|been|a|an|any)\b)*"
)
_CANNOT_EXCLUDE = re.compile(
    r"(?:\bnot|n't|\bcannot|\bcant|\bcan't|\bunable to|\byet to|\bto be) (?:be |been |yet |fully |have )*$"
)
_DENIAL_ENDS = re.compile(
    r"[.?!;:()\n]|\s-+\s|—|\b(?:but|however|although|though|yet|except|apart|besides|only|just|now|today|tonight|then|until|positive|"
    r"suddenly|because|so|cos|when|while|since|she|he|i|i'm|im|i've|they|we|it|it's|his|her|my|who|which|still|keeps?|has|have|had|is|are|was|"
    r"were|can't|cannot|cant|won't|wont|couldn't|came|started|no|not|nil|without|nor|and (?:then|now))\b"
)
_DENIAL_REACHES = 70
_DENIED_AFTER = re.compile(
    r"\b(?:ruled out|excluded|(?:was|were|came back|is|are|:) (?:negative|normal|absent)|unlikely)\b"
)
_DENIED_BEFORE = 40


def red_flags(text: str) -> tuple[str, ...]:
    """Return the names of the rules that fire on a text; none on a statement of pure research or teaching."""
    plain = _plain(text)
    if (_RESEARCH.search(plain) or _TEACHING.search(plain)) and not _SOMEBODY.search(plain):
        return ()
    silent = [*_not_meant(plain), *_in_the_past(plain), *_denied(plain)]
    fired = [
        rule.name for rule in rules() if all(_asserted(pattern, plain, silent) for pattern in rule.all_of)
    ]
    return (*fired, WRONG_DOSE) if _dose_is_ten_times_off(plain) else tuple(fired)


def has_red_flag(text: str) -> bool:
    """Whether any rule fires on a text."""
    return bool(red_flags(text))


def _plain(text: str) -> str:
    lower = "\n".join(
        " ".join(line.split()) for line in text[:MAX_CHARACTERS].lower().translate(_APOSTROPHES).splitlines()
    )
    return _MISSING_SPACE.sub(r"\g<0> ", lower)


Span = tuple[int, int]


def _asserted(pattern: re.Pattern[str], text: str, silent: list[Span]) -> bool:
    """Whether a pattern occurs in the text at a place that nothing silences."""
    place = pattern.search(text)
    while place is not None:
        start = place.start()
        inside = next((end for begin, end in silent if begin <= start < end), None)
        if inside is None:
            return True
        place = pattern.search(text, max(inside, start + 1))
    return False


def _not_meant(text: str) -> Iterator[Span]:
    for place in _content()[1].finditer(text):
        yield place.span()


def _sentences(text: str) -> Iterator[Span]:
    start = 0
    for end in _SENTENCE_END.finditer(text):
        yield start, end.end()
        start = end.end()
    yield start, len(text)


def _in_the_past(text: str) -> Iterator[Span]:
    """Yield the sentences that speak of the past and not of the present as well."""
    for start, end in _sentences(text):
        if _PAST.search(text, start, end) and not _PRESENT.search(text, start, end):
            yield start, end


def _denied(text: str) -> Iterator[Span]:
    for cue in _DENIAL.finditer(text):
        if cue[0].startswith(("ruled out", "exclude")) and _CANNOT_EXCLUDE.search(text[: cue.start()]):
            continue
        stop = _DENIAL_ENDS.search(text, cue.end(), cue.end() + _DENIAL_REACHES)
        end = stop.start() if stop else min(len(text), cue.end() + _DENIAL_REACHES)
        yield cue.end(1), _list_end(text, cue.end(), end)
    for cue in _DENIED_AFTER.finditer(text):
        if not _CANNOT_EXCLUDE.search(text[: cue.start()]):
            stops = list(_DENIAL_ENDS.finditer(text, max(0, cue.start() - _DENIED_BEFORE), cue.start()))
            words = [
                stop for stop in stops if stop[0] not in {"was", "were", "is", "are", "has", "have", "had"}
            ]
            yield (words[-1].end() if words else max(0, cue.start() - _DENIED_BEFORE)), cue.start()


def _list_end(text: str, start: int, end: int) -> int:
    """Return where a denial ends: at the comma, or after the last item of "no fever, rash or stiff neck"."""
    last_or = max(
        text.rfind(" or ", start, end), text.rfind(" nor ", start, end), text.rfind("/", start, end)
    )
    comma = text.find(",", max(start, last_or), end)
    return comma if comma >= 0 else end


_NUMBERS = {
    "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9",
    "ten": "10", "eleven": "11", "twelve": "12", "thirteen": "13", "fourteen": "14", "fifteen": "15", "sixteen": "16",
    "seventeen": "17", "eighteen": "18", "nineteen": "19", "twenty": "20", "thirty": "30", "forty": "40", "fifty": "50",
    "sixty": "60", "eighty": "80", "hundred": "100",
}  # fmt: skip
_NUMBER_WORD = re.compile(rf"\b(?:a )?({'|'.join(_NUMBERS)})\b")
_DOSE_UNIT = r"(mg|mcg|micrograms?|mls?|units?|g|iu|tablets?)"
# A dose with its unit, or the bare number that was given: "said 4 units and I drew up 40".
_DOSE = re.compile(rf"\b(\d+(?:\.\d+)?) ?{_DOSE_UNIT}\b")
_GIVEN_NUMBER = re.compile(
    r"\b(?:gave|given|took|taken|injected|drew up|drawn up|dialled|put in|had|pushed|set|ran|run|programmed|instead of|rather than|not|my|of my)(?: \w+){0,2}? (\d+(?:\.\d+)?)\b(?! ?(?:am|pm|min\w*|hours?|hrs?|days?|weeks?|years?|:|%|\.\d|/))"
)
_MISTAKE = re.compile(
    r"\b(?:inste?ad of|rather than|supposed to|meant to|should (?:have|be)|should've|not the|not (?=\d)|by mistake|wrong|misread|prescribed|decimal|was for|"
    r"read it as|thought it (?:was|said)|mixed up)\b"
)
# Weaker: what stood written beside what was given. Then only a slip of the decimal point counts.
_WRITTEN = re.compile(
    r"\b(?:chart\w*|label|box|script|prescription|letter|order\w*|says?|said|written|sheet|leaflet|usual\w*|normal\w*|dose is|but)\b"
)
_TENFOLD = re.compile(
    r"\b(?:ten times|10 times|10x|x10|ten ?fold|10-?fold)\b[^.?!]{0,40}\b(?:dose|much|amount|insulin|morphine|methotrexate|prescribed|strength)\b"
    r"|\b(?:gave|given|took|taken|injected|drew up|had|administered)\b[^.?!]{0,60}\b(?:ten times|10 times|10x|x10|ten ?fold|10-?fold)\b"
)
_TAKEN = re.compile(
    r"\b(?:gave|given|took|taken|injected|swallowed|administered|had|drew up|drawn up|received|dialled|pushed|set|ran|programmed)\b"
)
_SLIPS = (10.0, 100.0, 1000.0)


def _dose_is_ten_times_off(text: str) -> bool:
    """Whether a sentence tells of a dose that was given and, as a mistake, is ten times another one in it, or says so."""
    for start, end in _sentences(text):
        sentence = _NUMBER_WORD.sub(lambda word: _NUMBERS[word[1]], text[start:end])
        if _TENFOLD.search(sentence):
            return True
        mistaken = bool(_MISTAKE.search(sentence))
        if (mistaken or _WRITTEN.search(sentence)) and _TAKEN.search(sentence):
            doses = {float(dose[1]) for dose in _DOSE.finditer(sentence)}
            if not doses:
                continue
            doses |= {float(dose[1]) for dose in _GIVEN_NUMBER.finditer(sentence)}
            ratios = {high / low for low in doses for high in doses if low > 0}
            if (mistaken and max(ratios, default=0) >= _SLIPS[0]) or any(
                abs(ratio - slip) < slip / 1_000 for ratio in ratios for slip in _SLIPS
            ):
                return True
    return False
