"""What may identify a patient, recognised by its form and the words before it, never repeated in a message.

Clinical shorthand is full of what looks like an identifier: T2 N0 M0, L4/5, B12, E11.9, 138/86, 10-5-5 mg, doses at
0800 1200 1600. So a form counts only where nothing clinical has it, else it needs its word before it (a policy, a plate,
a serial number). Names are looked for in `person_names`.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

MASK = "[removed]"


class IdentifierKind(StrEnum):
    """A kind of identifier, in the words of every message."""

    NAME = "a name"
    BIRTH = "a date of birth"
    DATE = "a date"
    AGE = "an age over 89"
    EMAIL = "an e-mail address"
    PHONE = "a telephone number"
    ADDRESS = "an address"
    POSTCODE = "a postcode"
    SOCIAL_SECURITY = "a social security number"
    NHS = "an NHS number"
    NATIONAL = "a national, passport or licence number"
    RECORD = "a record number"
    ACCOUNT = "an insurance or account number"
    DEVICE = "a vehicle or device number"
    WEB = "a web address or user name"

    @property
    def plural(self) -> str:
        """Several of the kind, without an article: "dates of birth"."""
        noun = re.sub(r"^an? ", "", self.value)
        return re.sub(
            r"\b(?:number|name|address|date|age|postcode)\b",
            lambda word: word[0] + ("es" if word[0].endswith("s") else "s"),
            noun,
        )


@dataclass(frozen=True, slots=True, order=True)
class Identifier:
    """A place in a text, [start, end), that may identify somebody."""

    start: int
    end: int
    kind: IdentifierKind


Find = Callable[[str], tuple[Identifier, ...]]
"""Finds what may identify a patient in a text: in order and apart."""


def identifiers(text: str) -> tuple[Identifier, ...]:
    """Return what may identify a patient in `text` by its form, in order; where two overlap the longer stays.

    Names are not among them.
    """
    if not _may_contain_any(text):
        return ()
    return settled(found for rule in _RULES for found in rule(text))


def settled(found: Iterable[Identifier]) -> tuple[Identifier, ...]:
    """Return identifiers in order without those that a longer one overlaps; what sticks out of that is added to it."""
    kept: list[Identifier] = []
    for each in sorted(found, key=lambda one: (one.start, -one.end)):
        if not kept or each.start >= kept[-1].end:
            kept.append(each)
            continue
        last = kept[-1]
        longer = max(last, each, key=lambda one: one.end - one.start)
        kept[-1] = Identifier(last.start, max(last.end, each.end), longer.kind)
    return tuple(kept)


def masked(text: str, found: Sequence[Identifier]) -> str:
    """Return `text` with `[removed]` in place of each identifier, which must be in order and apart."""
    parts, at = [], 0
    for each in found:
        parts += [text[at : each.start], MASK]
        at = each.end
    return "".join([*parts, text[at:]])


def identifier_kinds(text: str) -> tuple[IdentifierKind, ...]:
    """Return which kinds of identifiers `text` may contain by its form, each once."""
    return tuple(dict.fromkeys(each.kind for each in identifiers(text)))


def without_identifiers(text: str) -> str:
    """Return `text` with `[removed]` in place of what may identify a patient by its form."""
    return masked(text, identifiers(text))


def in_words(counts: Counter[IdentifierKind]) -> str:
    """Return "a telephone number, 2 names" and the like, never the identifiers themselves."""
    return ", ".join(
        str(kind) if count == 1 else f"{count:,} {kind.plural}" for kind, count in counts.most_common()
    )


def found_in_cell(column: str, cell: str, find: Find = identifiers) -> tuple[Identifier, ...]:
    """Return what may identify a patient in a cell.

    A telling column (MRN, surname, date of birth, phone) is read before the cell, as the word that a bare number needs.
    """
    if not cell or cell.isspace():
        return ()
    before = f"{column.replace('_', ' ')}: " if _TELLING.search(column) else ""
    shift = len(before)
    return tuple(
        Identifier(max(0, each.start - shift), each.end - shift, each.kind)
        for each in find(before + cell)
        if each.end > shift
    )


_TELLING = re.compile(
    r"pmid|doi|nct|trial|name|mrn|nhs|dob|birth|phone|tel|mobile|fax|address|post ?code|zip|ssn|social|passport|licen[cs]e|policy|insur|medicare|"
    r"medicaid|patient|hospital|record|serial|plate|\bage\b",
    re.I,
)


def _may_contain_any(text: str) -> bool:
    """Whether a closer look is worthwhile; most statements are done with here."""
    return any(character.isdigit() or character in "@/" for character in text) or bool(_WORTH.search(text))


_WORTH = re.compile(
    r"www\.|\.(?:com|org|net|example)\b|user ?name|\bhandle\b|_|Nagar|Cottage|Lodge|Hospital|Infirmary|Ward|Cent(?:re|er)|Clinic|Assisted|"
    r"Home|House|Farm|Street|Road|Lane|Avenue|Crescent|Terrace|\bninety|\bul\.|\bCalle\b|\bRue\b",
    re.I,
)

Exempt = Callable[[str, re.Match[str]], bool]
"""Whether a match in a text is something harmless of the same form."""


@dataclass(frozen=True)
class _Form:
    """Identifiers of a kind by their form: the group `value` of a pattern, or all of it."""

    kind: IdentifierKind
    pattern: re.Pattern[str]
    exempt: Exempt = lambda _text, _match: False

    def __call__(self, text: str) -> Iterator[Identifier]:
        group = "value" if "value" in self.pattern.groupindex else 0
        for match in self.pattern.finditer(text):
            if not self.exempt(text, match):
                yield Identifier(*match.span(group), self.kind)


# ---- dates and ages

_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}"
_WEEKDAY = r"(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day,?\s+(?:the\s+)?)?"
_DAY, _YEAR = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:19|20)\d{2}"
_TH = r"(?:st|nd|rd|th)?"
_FULL_DATE = (
    rf"{_WEEKDAY}(?<![\d./-])(?:{_DAY}[./-](?:0?[1-9]|1[0-2])[./-]{_YEAR}|(?:0?[1-9]|1[0-2])[/-]{_DAY}[/-]{_YEAR}"
    rf"|{_YEAR}[./-](?:0?[1-9]|1[0-2])[./-]{_DAY}"
    rf"|{_DAY}[./](?:0?[1-9]|1[0-2])[./]\d{{2}}|(?:0?[1-9]|1[0-2])/{_DAY}/\d{{2}}"
    rf"|{_DAY}{_TH}(?:\s+of)?[\s-]+{_MONTH}[.,]?[\s-]+(?:{_YEAR}|['’]?\d{{2}}(?!\s*(?:mg|ml|mmol|%))))(?![\d/]|[.-]\d)"
    rf"|{_WEEKDAY}\b{_MONTH}\.?\s+{_DAY}{_TH},?\s+{_YEAR}\b"
)
_MONTH_NAMED = r"(?:Jan(?:uary)?|Feb(?:ruary)?|March|Mar|Apr(?:il)?|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)"
# A day of a month without its year; a number before "may" or "mar" in small letters is no date.
_DAY_OF_MONTH = re.compile(
    rf"(?<![\d./-])(?:{_DAY}(?i:{_TH})(?:\sof)?[\s-](?:(?i:{_MONTH_NAMED})(?<!\smar)|May)|{_DAY}(?:st|nd|rd|th)(?:\sof)?\smay"
    rf"|(?:{_MONTH_NAMED}|May)\.?\s{_DAY}(?i:{_TH}))(?![\w%/]|[.,-]\d|\s(?:mg|ml|mcg|units?|mmol|patients|people|days?|weeks?|hours?|months?|years?|of\s\d))"
)
_DAY_SLASH_MONTH = re.compile(
    r"(?i:\b(?:RTC|LMP|EDD|TCI|appt|appointment|review|reviewed|admitted|discharged|booked|due|seen|operated|bloods (?:on|from)|scan (?:on|from)|"
    r"next (?:check|visit|test|review|dose|INR|bloods?|scan|appt|appointment|due|clinic|due date))(?:\s(?:on|is|for|date))?[:,]?)\s"
    r"(?P<value>(?:0?[1-9]|[12]\d|3[01])/(?:0?[1-9]|1[0-9]|2\d|3[01]))(?<!/12)(?<!/7)(?![\d/%]|\.\d)"
)
_SHORT_DATE = rf"(?:{_DAY}[ -](?:0?[1-9]|1[0-2])[ -](?:{_YEAR}|\d{{2}}))"
_DATE = re.compile(_FULL_DATE, re.I)
_BIRTH = re.compile(
    rf"(?:\bd\.?\s?o\.?\s?b(?:\b|s\b)\.?|\bborn\b|\bbirth\s?da(?:te|y)\b|\bdate of birth\b)[^\d\n]{{0,20}}?"
    rf"(?P<value>{_FULL_DATE}|{_SHORT_DATE})",
    re.I,
)
# A date of these is the date of a document.
_PUBLISHED = re.compile(
    r"(?:publish|publicat|approv|guideline|guidance|updat|version|access|issued|licen[cs]ed|announced|launched|"
    r"recommend|edition)[^.;\n]{0,40}$",
    re.I,
)
_AGE_UNIT = r"(?:y(?:ea)?rs?(?:\.|\b)|y/?o\b|y\b|years?\b)(?:[\s-]*(?:old|of\s+age|o\b))?"
_OLD = r"(?:9\d|1[01]\d)"
_PERSON_WORD = (
    r"(?:he|she|they|patient|pt|passenger|driver|resident|lady|man|woman|mum|mom|mother|dad|father|gran|grandma|grandad|"
    r"grandmother|grandfather|granny|nan|nana|husband|wife|aunt|auntie|uncle|neighbour|sister|brother|client)"
)
_NO_QUANTITY = r"(?![\d./,]*\d|\s*(?:%|kg|cm|mm|mg|ml|bpm|beats|mmol|units?|minutes?|hours?|days?|weeks?|months?|on\s+(?:air|RA)))"
_AGES = (
    re.compile(
        rf"(?<![\d./<>≥≤-])(?<!over )(?<!above )(?<!under )(?<!below )(?<!than )(?<!to )(?<!least )(?<!for )(?<!and )"
        rf"(?P<value>{_OLD}[\s-]*{_AGE_UNIT})(?!\s*(?:and|or)\s+(?:over|older|above))",
        re.I,
    ),
    re.compile(
        rf"\b(?:aged?|age\s*[:=]|age of|age is)\s*(?P<value>{_OLD})\b{_NO_QUANTITY}(?!\s*(?:[-–]|to|and|or)\s)",
        re.I,
    ),
    re.compile(r"(?<![\w./-])(?P<value>9\d ?[MF])(?=[\s,.;:]|$)(?<!\d [F])"),
    re.compile(
        rf"\b{_PERSON_WORD}(?:['’]s|\s+(?:is|was|turned|turns|will be|has just turned))\s+(?:now\s+|nearly\s+|almost\s+|only\s+)?"
        rf"(?P<value>{_OLD})\b{_NO_QUANTITY}",
        re.I,
    ),
    re.compile(
        r"\b(?:I am|I['’]?m|aged|age|he is|she is|he['’]?s|she['’]?s|is|turned|turns|nearly|almost|now)\s(?P<value>(?:ninety(?:[- ](?:one|two|three|four|five|six|seven|eight|nine))?|a hundred(?: and \w+)?))"
        r"(?=[\s,.;]+(?:years|yrs|and|now|next|in|but|this|last|old|with|she|he|lives|$)|[.;,]|$)(?!\s(?:per|percent|mg|ml|units?|minutes?|days?|times|miles|pounds))",
        re.I,
    ),
    re.compile(
        r"(?<![\d./])(?P<value>9\d|10\d)(?=[,;]?\s(?:lives|living|widow\w*|frail|bed-?bound|house-?bound|resident|NH resident|RH resident|independent|mobile with|no NOK)\b)"
    ),
    re.compile(rf"\b(?:who is|one is|turned|birthday[,:]?)\s+(?P<value>{_OLD})\b{_NO_QUANTITY}", re.I),
)


def _is_of_a_document(text: str, match: re.Match[str]) -> bool:
    return bool(_PUBLISHED.search(text[max(0, match.start() - 60) : match.start()]))


# ---- ways to reach somebody

_EMAIL = re.compile(r"[\w.+'-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})*\.[A-Za-z]{2,}")
_PHONE = re.compile(
    r"(?<![\w.+/-])(?:(?:\+1[ .-]?|1[ .-])?(?:\(\d{3}\) ?|\d{3}[.-])\d{3}[ .-]\d{4}"
    r"|(?:\+|00)\d{1,3}(?:[ .-]?\(?\d{2,5}\)?){2,5}"
    r"|\(0\d{1,4}\) ?\d{3,4} ?\d{3,4}"
    r"|0\d{2,4}[ -]\d{3,4}(?:[ -]?\d{3,4}){1,2}|0\d{4} ?\d{6}|0\d{9,10})(?![\w/-]|\.\d)"
)
_PHONE_AFTER = re.compile(
    r"\b(?:tel(?:ephone)?|ph(?:one)?|mob(?:ile)?|cell|fax|whats?app|call(?: me| him| her| us| back)?|ring(?: me| him| her)?|"
    r"text(?: me)?|contact)\b[^\d+(\n]{0,24}(?P<value>[+(]?\d(?:[ ().-]{0,2}\d){6,14})(?![\w/]|\.\d)",
    re.I,
)
_CLOCK = re.compile(r"(?:[01]\d|2[0-4])[0-5]\d")
_DOMAIN_ENDS = "com|org|net|info|me|io|blog|app|dev|example|co\\.uk|org\\.uk|me\\.uk|uk|ie|au|ca|nz|de|fr|eu|online|site|page"
_URL = re.compile(
    rf"(?:https?://|www\.)[^\s<>\"')\]]*[^\s<>\"')\].,;:!?]|(?<![\w@.])(?:[a-z0-9](?:[\w-]*[a-z0-9])?\.)+(?:{_DOMAIN_ENDS})(?:/(?:[^\s<>\"')\],;]*[^\s<>\"')\].,;:!?])?)?(?![\w@-])"
)
# Where whoever cites evidence gets it from.
_PUBLIC_SITES = re.compile(
    r"^(?:https?://)?(?:[\w-]+\.)*(?:nice\.org\.uk|nhs\.uk|gov|gov\.uk|who\.int|doi\.org|cochrane(?:library)?\.(?:org|com)|bmj\.com|"
    r"nejm\.org|thelancet\.com|jamanetwork\.com|medscape\.com|uptodate\.com|resus\.org\.uk|cdc\.gov|nih\.gov|wikipedia\.org|"
    r"sign\.ac\.uk|rcog\.org\.uk|escardio\.org|heart\.org|mdcalc\.com|bnf\.org|clinicaltrials\.gov)(?:[/?#:]|\.?$)",
    re.I,
)
_HANDLE = re.compile(
    r"(?<![\w.@])@[A-Za-z_][\w.]{2,}\w|(?<![\w./])/?u/[\w-]{3,}|(?<![\w./@=-])(?=\w*\d)[A-Za-z]+\w*_\w+(?![\w./=(])"
)
_USER_NAME = re.compile(
    r"\b(?:user(?: ?name| ?id)?|log ?in|handle|insta(?:gram)?|twitter|face ?book|tik ?tok|snapchat|snap|skype|screen name|reddit|profile|grindr|tinder|"
    r"hinge|bumble|discord|telegram|kik|xbox|psn|gamertag|mastodon|vinted|mumsnet)"
    r"(?:\s+(?:is|was|name|handle|as|id|on|in|for|to|the|my|portal|app|site|page|profile))*\s*[:=]?\s+[\"'“]?(?P<value>(?=[\w.-]*[\d_])[A-Za-z][\w.-]{3,}\w)"
)
_INTERNET = re.compile(
    r"(?<![\d.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\d.]*\d)"
    r"|(?<![\w:])(?:[0-9A-Fa-f]{1,4}:){2,7}(?::?[0-9A-Fa-f]{1,4}){1,7}(?![\w:])"
    r"|(?<![\w:])(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}(?![\w:])"
)


def _are_times(_text: str, match: re.Match[str]) -> bool:
    """Whether groups of digits are times of a day: doses at 0800 1200 1600."""
    groups = match[0].split()
    return len(groups) > 1 and all(_CLOCK.fullmatch(group) for group in groups)


def _is_public_site(_text: str, match: re.Match[str]) -> bool:
    return bool(_PUBLIC_SITES.match(match[0]))


# ---- where somebody lives or is treated

_CAPITAL = r"[A-ZÀ-Þ][\w’'-]*\.?"
_STREET = (
    r"(?:Street|St|Road|Rd|Lane|Ln|Avenue|Ave|Av|Close|Cl|Court|Ct|Crescent|Cres|Drive|Dr|Way|Walk|Row|Mews|Terrace|Ter|Place|Pl|"
    r"Square|Sq|Grove|Gdns|Gardens?|Hill|Parade|Pde|Boulevard|Blvd|Rise|Brow|Side|Spur|Bend|Hollow|Green|Park|Quay|Wharf|Highway|"
    r"Hwy|Circle|Cir|Trail|Loop|Nagar|Cross|Marg|Colony|Estate|Cottages?|Yard|Passage|Bank|Fold|Gate|Croft|Chase|Drove|Ridge|Run|"
    r"Brae|Crossroads|Residency|Enclave|Villas|Mount|Strand|Wood|Orchard|Path|Pike|Parkway|Pkwy|Alley|Esplanade|Vale|View|Meadows?|Heights|Point|Crossing|Glen|Wynd|Dene|Lea|Gait|Vennel|Layout|Sector|Phase|Block|Galli|Chowk|Bottom|Top|End|Corner|Common|Heath|Reach|Quadrant|Circus|Approach|Link|Garth|Holt|Dale|Ford|Boreen|Circuit|Cct|Turnpike|Stairs|Lawn|Lawns|Grange|Leys|Nook|Steps|Fields?)"
)
_UNIT = r"(?:(?:Flat|Unit|Apt\.?|Apartment|Suite|Room|House|H\.? ?No\.?|Plot|Door No\.?|No\.?|Block)\s*#?\s*\w{1,5}\s*,\s*)?"
_ADDRESS = re.compile(
    rf"{_UNIT}(?:{_CAPITAL}(?:\s{_CAPITAL})?,\s)?(?<![\w./])\d{{1,5}}[A-Za-z]?(?:[/-]\d{{1,4}}[A-Za-z]?)?,?\s(?:(?:{_CAPITAL}\s){{1,4}}{_STREET}|The\s{_CAPITAL})\b"
    rf"(?:,?\s(?:Apt|Apartment|Unit|Flat|Suite|Ste|#)\.?\s?\w{{1,5}})?(?P<zip>,?\s\d{{5}}(?:-\d{{4}})?\b)?"
)
_FLAT = re.compile(
    rf"\b(?:Flat|Apt\.?|Apartment|Plot|H\.? ?No\.?|House No\.?|Door No\.?|D\.? ?No\.?|Caravan|Pitch|Berth|Unit|Room|Cabin|Lot)\s#?\w{{1,5}}(?:,\s(?:\d{{1,5}}[A-Za-z]{{0,2}}\s)?{_CAPITAL}(?:\s{_CAPITAL}){{0,3}}){{1,3}}"
)
# "H.No. 1184, Phase 13-B", "Qr. No. 12, Sector 4".
_NUMBERED = re.compile(
    rf"\b(?:H\.? ?No\.?|House No\.?|Door No\.?|Plot|Qr\.? ?No\.?|Quarter)\s?#?\d{{1,5}}[A-Z]?(?:[/-]\w{{1,4}})?,?\s(?:Phase|Sector|Block|Ward|Street|Lane|Cross|Main|Extension)\s?\w{{1,3}}(?:-\w{{1,2}})?(?:,\s{_CAPITAL})*"
)
_NOT_BEFORE_STREET = r"(?!(?:The|In|At|From|To|A|An|Our|My|Your|His|Her|This|That|Which|What|Is|Any|Every|On|Off|Down|Up|And|Or|Of|Near|Silk|Main|High|One|Two|No|Same|Side|Cross|Busy|Next|Long|Middle|Memory|Abbey|Harley|Downing|Wall|Sesame|Coronation)\b)"
# A street that nobody numbers: "junction of Tannery Lane and Hob Street".
_STREET_ALONE = re.compile(
    rf"(?:\b(?:junction|corner) of\s)?(?:\d{{1,4}}[A-Za-z]?,?\s)?(?:{_NOT_BEFORE_STREET}{_CAPITAL}\s){{1,3}}(?:Street|Road|Lane|Avenue|Crescent|Terrace|Drive|Close|Grove|Mews|Boulevard|Gardens)\b(?!\s(?:Medical|Surgery|Hospital|Clinic|Practice|Cent))"
    rf"(?:\s(?:and|&)\s(?:{_CAPITAL}\s){{1,3}}(?:Street|Road|Lane|Avenue|Crescent|Terrace|Drive|Close|Grove)\b)?"
)
# Somebody who writes all in small letters: "no 22 ogunmekan close".
_SMALL_STREET = re.compile(
    r"(?<![\w./-])(?:(?:no|number|flat)\.?\s)?\d{1,4}[a-z]?,?\s"
    r"(?:(?!(?:the|a|an|down|up|of|on|in|and|or|to|my|his|her|our|your|by|per|from|at|for|more|miles?|km|metres?|meters?|feet|foot|ft|doors?|days?|weeks?|wks?|hours?|hrs?|mins?|minutes?|"
    r"months?|years?|yrs?|times?|mg|ml|mcg|units?|patients?|people|men|women|percent|pm|am|was|is|so|too|with|dual|lane|other|different|main|busy|long|hard|right|left|old|only|very|half|full|parking|hospital)\b)[a-z’'-]{3,}\s){1,2}"
    r"(?:street|road|rd|lane|avenue|ave|close|crescent|drive|grove|terrace|gardens|estate|mews|cottages|villas)\b(?!\s(?:to|of|enough|by|call|together|monitor\w*|follow\w*|bars?|drugs?|value|price))"
)
_HOUSE = r"(?:Cottages?|Lodge|Farm|Farmhouse|House|Barn|Villa|Manor|Hall|Mill|Rectory|Vicarage|Bungalow|Grange|Towers?|Mansions?|Apartments|Heights|Court|Residences?|Caravan Park|Halting Site|Hostel|Houseboat)"
# A house with a name: after where somebody lives, or before the name of its place.
_NAMED_HOUSE = re.compile(
    rf"(?:(?<=\bin\s)|(?<=\bat\s)|(?<=\bto\s)|(?<=\baddress\s)|(?<=\baddress:\s)|(?<=\bhome\s)|(?<=:\s)|(?<=\bfrom\s))(?P<value>(?:The\s)?(?:{_CAPITAL}\s){{1,3}}{_HOUSE}\b(?:,\s{_CAPITAL}(?:\s{_CAPITAL}){{0,2}}(?!\s\d)){{0,2}})"
    rf"|\b(?:The\s)?(?:(?!(?:The|In|At|From|To|A|White|Open|Half|Full|Safe)\b){_CAPITAL}\s){{1,3}}{_HOUSE},\s{_CAPITAL}(?:\s{_CAPITAL}){{0,2}}"
)
# Streets of other countries, whose word stands first or is part of the name.
_FOREIGN_STREET = re.compile(
    rf"\b(?:ul\.|al\.|os\.|pl\.|Calle|C/|Avenida|Avda\.?|Plaza|Paseo|Rue|Avenue de|Boulevard|Via|Viale|Piazza|Rua|Travessa)\s?(?:(?:de|del|della|la|las|los|des|du|da|do|dos)\s){{0,2}}{_CAPITAL}(?:\s(?:de|del|la|du|{_CAPITAL})){{0,3}},?\s\d{{1,4}}\w?(?:/\d{{1,4}})?(?:,\s\d{{2}}-\d{{3}}\b|,\s\d{{5}}\b)?"
    rf"|\b[A-ZÄÖÜ][\wäöüß-]*(?:straße|strasse|str\.|gasse|platz|allee|straat|laan|gracht|gatan|vägen|gata)\s\d{{1,4}}\w?(?:/\d{{1,4}})?(?:,\s\d{{4,5}}\b)?"
)
_NO_ADDRESS = re.compile(
    r"\b(?:Chamber|Lead|Apical|Point|Step|Parasternal|Axis|Year|Week|Day|Hour|Green Book)\b"
)
_ADDRESS_AFTER = re.compile(
    rf"(?i:\b(?:address(?: is)?|addr|li(?:ves?|ving) (?:at|in)|stay(?:s|ing)? (?:at|in)|reside[sd]? at|resident at|house is|home is|(?:post|send|deliver)(?:ed)?(?: it)? to|"
    rf"street is|known at|neighbour at|moved to|flat at|round to|home at|found at|behind|opposite|outside|next to|next door to|called to|attended|scene at|scene:|picked up from|"
    rf"live(?:s|d)? (?:on|off)|residing (?:at|in)|come to|visit(?:ed)? (?:at|to)|deliver\w* to|sent to|collect(?:ed)? from|left at|staying with \w+ at|staying at)\b\s*[:=]?\s*)"
    rf"(?P<value>{_UNIT}(?:(?:H\.? ?No\.?\s*)?\d{{1,5}}[A-Za-z]?(?:[/-]\d{{1,4}}[A-Za-z]?)?,?\s(?:The\s)?{_CAPITAL}(?:,?\s{_CAPITAL}){{0,5}}"
    rf"|H\.? ?No\.?\s*\d+(?:,?\s{_CAPITAL}){{1,5}}))(?<![.])"
)
_UK_POSTCODE = r"[A-Z]{1,2}\d[A-Z\d]? ?\d[ABD-HJLNP-UW-Z]{2}"
_POSTCODE = re.compile(
    rf"(?<![\w./-])(?:{_UK_POSTCODE}|[A-CEGHJ-NPR-TVXY]\d[A-CEGHJ-NPR-TV-Z] \d[A-CEGHJ-NPR-TV-Z]\d"
    r"|[AC-FHKNPRTV-Y]\d[\dW] (?=\w*\d)(?=\w*[A-Z])[0-9AC-FHKNPRTV-Y]{4}|\d{5}-\d{4})(?![\w/-])"
)
_BEFORE_POSTCODE = re.compile(
    rf"(?<![\w./-])(?P<value>\d{{1,4}}[A-Za-z]?,?\s{_CAPITAL}(?:,?\s(?:{_CAPITAL}|na|of|the|y|yr|o|upon|under)){{0,5}}),?\s(?={_UK_POSTCODE}\b)"
)
_HOUSE_NAME = re.compile(
    rf"\b(?:home|address|lives at|living at|at home)(?:\sis)?[:,]?\s(?P<value>{_CAPITAL}(?:\s(?:{_CAPITAL}|na|of|the|y|yr)){{0,3}},\s)(?=\d{{1,4}}[A-Za-z]?\s[A-Z])"
)
_POSTCODE_AFTER = re.compile(
    r"\b(?i:zip(?: ?code)?|post ?code|pin ?code|eircode)(?:\s+(?i:is|was|has|changed|to|now))*\s*[:=]?\s*(?P<value>[A-Z0-9]{2,4} ?[A-Z0-9]{2,4}(?:-\d{4})?)\b"
)
_POSTCODE_AFTER_STATE = re.compile(
    r"\b(?:A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|RI|S[CD]|T[NX]|UT|V[AT]|W[AIVY]|NSW|VIC|"
    r"QLD|TAS|ACT)\s(?P<value>\d{5}(?:-\d{4})?|(?<=[A-Z]{3}\s)\d{4})\b(?!\s*(?:mg|ml|units|IU))"
)
_PLACE = re.compile(
    rf"(?:(?:Ward|Bay)\s\w{{1,3}},?\s|(?:{_CAPITAL}\s){{1,3}}Ward,?\s(?:at\s)?)?(?:(?!(?:The|In|At|From|To|A|Our|My|Your|This|Which|What|Is|Any|Every)\b){_CAPITAL}\s){{1,4}}?"
    r"(?:Hospital|Infirmary|Hospice|Surgery|Health Cent(?:re|er)|Medical Cent(?:re|er)|Medical Practice|Nursing Home|Care Home|"
    r"Rehab(?:ilitation)? Unit|Heart Institute|Cancer Cent(?:re|er)|Maternity Unit|Polyclinic|Family Practice|Assisted Living|Residential (?:Home|Care)|Retirement (?:Home|Village)|Sheltered Housing|Day Cent(?:re|er)|Health Post|Dispensary|Memory Care|Senior Living|Skilled Nursing|Treatment Cent(?:re|er)|Detention Cent(?:re|er))(?:,\sWard\s\w{1,3})?(?:,\s\d{1,5}\s(?:[A-Z]\w+\s){1,3}[A-Z]\w+)?\b"
    rf"|\b[Tt]he\s(?P<centre>{_CAPITAL}\s(?:Cent(?:re|er)|Clinic|Unit|Hostel|Refuge|Suite))\b|\bSt\.?\s{_CAPITAL}\sWard\b"
    rf"|\bHMP\s{_CAPITAL}(?:\s{_CAPITAL})?"
    rf"|\bWard\s\w{{1,3}},\s(?:{_CAPITAL}\s){{1,2}}General\b"
)
_KNOWN_PLACES = re.compile(
    r"^(?:[Tt]he\s)?(?:Royal Children['’]s|Great Ormond|Mayo|Cleveland|Walk|Urgent|Trauma|Stroke|Heart|Cancer|Burns?|Health|Medical|Fertility|Memory|Sleep|Pain|Emergency|Intensive|Coronary|Dialysis|Renal|Breast|Eye|Dental|Foot|Vaccin\w+|Travel|Asthma|Diabet\w+|Warfarin|Anticoag\w+|Fracture|Antenatal|Birth|Surgical|Assessment|Rapid|Early|High|Acute|Special|Neonatal|Paediatric|Pediatric|Maternity|Research|Contact|Sexual|National|Regional|Poisons?|Call|Data|Shopping|Sports?|Leisure|Covid|COVID|Test\w*|Blood|Transplant|Rehab\w*|Stoma|Minor|Major|Head|Spinal|Massachusetts|District|General|Community|University|Children['’]s|Field|Day|Acute|Mental|State|Local|Private|Public|NHS|GP)\b"
)


def _is_no_address(_text: str, match: re.Match[str]) -> bool:
    return bool(_NO_ADDRESS.search(match[0]))


def _has_no_digit(_text: str, match: re.Match[str]) -> bool:
    return not any(character.isdigit() for character in match["value"])


def _is_any_hospital(_text: str, match: re.Match[str]) -> bool:
    return bool(_KNOWN_PLACES.match(match[0]))


# ---- numbers that stand for somebody

_SOCIAL_SECURITY = re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])")
_NHS_SPACED = re.compile(r"(?<![\d.-])(?P<value>\d{3}([ -])\d{3}\2\d{4})(?![\d-])")
_NHS_NAMED = re.compile(r"\bNHS\D{0,12}(?P<value>\d{10})\b", re.I)
_NATIONAL = re.compile(
    r"(?<![\w-])(?:\d[A-Z][A-Z0-9]\d-?[A-Z][A-Z0-9]\d-?[A-Z]{2}\d{2}|[A-CEGHJ-TW-Z]{2} ?\d{2} ?\d{2} ?\d{2} ?[A-D]"
    r"|\d{7}[A-W][A-IW]?|\d{4} \d{4} \d{4}|[A-Z]{5}\d{4}[A-Z]|(?=[A-Z]{1,5})[A-Z9]{5}\d{6}[A-Z9]{2}\w{3}|[A-Z]\d{3,4}-\d{4}-\d{4})(?![\w-])"
)
_LINK = (
    r"(?:\s*(?:[:#=.,(]|\bno\b\.?|\bnos\b\.?|\bnumbers?\b|\bid\b|\bref(?:erence)?\b|\bis\b|\bwas\b|\bthen\b|\bnow\b|\bcode\b|\bshould be\b|"
    r"\bcard\b|\bon\b|\bof\b|\bfor\b|\bthe\b|\brefund\b|\bdetails\b|\bhas\b|\bshows\b|\breads?\b|\bcalled\b|\bmarked\b|\bin(?:to)?\b|\bfrom\b|\bhome\b|\bwallet\b|\bcomma\b))*\s*"
)
_CODE = re.compile(
    r"(?:(?:MRN|[A-Z]{2,4}|[A-Z][a-z]+[A-Z][a-z]+)[ :])?"
    r"(?=[A-Za-z0-9/._-]*\d)[A-Za-z0-9]+(?:[-/._][A-Za-z0-9]+)*"
    r"(?:[ ](?=[\dA-Z]*\d)[\dA-Z]{2,8}(?:-\d+)*(?![\w/.%-]*[/%])|[ ][A-Z]{3}(?![\w-])|[ ][A-Z]{2}(?=[;,.\n)]|$)"
    r"|[ ][A-Z\d](?=[;,.\n)]|$)|(?<=\d{4})[ ]\d(?=\s(?:if|and|but|so|or|in|for|on|please|pls)\b))*"
)
_UNIT_NEXT = re.compile(
    r"\s*(?:mg|mcg|µg|g\b|kg|ml|mmol|units?\b|IU|%|mm|cm|bpm|x10|copies|cells|patients|people|years?|weeks?|days?|hours?|months?|bd\b|od\b|tds\b|qds\b|prn\b|daily)",
    re.I,
)
_CLINICAL_CODE = re.compile(
    r"(?i:NCT|ISRCTN|PMC|PMID|EudraCT|CRD|doi|rs\d|c\.\d|p\.[A-Z]|CYP|HLA|COVID|SARS|BRCA|CD\d|IL-|H\d+N\d)|[A-TV-Z]\d\d(?:\.\w{1,4})?$"
    r"|\d{1,3}(?:[/-]\d{1,3}){1,2}$|(?:19|20)\d\d(?:[-/]\d{2,4})?$|\d{1,3}(?:,\d{3})+$"
)


@dataclass(frozen=True)
class _CuedCode:
    """A number of some kind that is known by the word before it, with at least `digits` digits."""

    kind: IdentifierKind
    cue: re.Pattern[str]
    digits: int

    def __call__(self, text: str) -> Iterator[Identifier]:
        for cue in self.cue.finditer(text):
            code = _CODE.match(text, cue.end())
            if code is None:
                continue
            value = code[0].rstrip("./-_ ")
            if _is_code(value, self.digits) and not _UNIT_NEXT.match(text, code.start() + len(value)):
                yield Identifier(code.start(), code.start() + len(value), self.kind)


def _is_code(value: str, digits: int) -> bool:
    letters_and_digits = sum(character.isalnum() for character in value)
    return (
        sum(character.isdigit() for character in value) >= digits
        and letters_and_digits >= 5
        and not _CLINICAL_CODE.match(value)
    )


def _cued(kind: IdentifierKind, words: str, digits: int) -> _CuedCode:
    return _CuedCode(kind, re.compile(rf"(?i:(?<!\w)(?:{words})(?!\w){_LINK})"), digits)


_CUED = (
    _cued(IdentifierKind.SOCIAL_SECURITY, r"ssn|social security|social", 4),
    _cued(IdentifierKind.NHS, r"nhs", 8),
    _cued(
        IdentifierKind.NATIONAL,
        r"medicare|medicaid|aadhaar|aadhar|pps|ppsn|pps no|sin|nino|ni|national insurance|national id(?:entity)?|identity card|id card|"
        r"cpf|bsn|nric|emirates id|tax id|tfn|ihi|dva|hicn|mbi|passport|driving licen[cs]e|driver['’]?s licen[cs]e|licen[cs]e|pan|nhi|chi|"
        r"health card|health card from home|ohip|dni|personnummer|curp|bvn|nin|ghana card|id",
        4,
    ),
    _cued(
        IdentifierKind.RECORD,
        r"mrn|mrd|uhid|urn|ur|emr|ehr|hospital|hosp|patient|pt|chart|clinic card|card|unit|case|lab|accession|acc|specimen|sample|prison|payroll|staff|employee|student|service|force|badge|clinical history|history|nass|nhc|"
        r"episode|encounter|visit|file|folder|record|subject|participant|study|crn|pid|opd|ipd|ip|registration|hn|k-number|x-ray|request",
        4,
    ),
    _cued(
        IdentifierKind.ACCOUNT,
        r"insurance|insurer|insured|policy|member(?:ship)?|subscriber|claim|group|grp|plan|account|acct|a/c|sort code|iban|bcbs|bank|authori[sz]ation|"
        r"pre-?auth|auth|ref|reference|paid into|credit card|card ending|card|invoice|philhealth|nhia|nhis|medibank|humana|kaiser|tricare|[a-z]{2,}health|bupa|vhi|aetna|cigna|payer|hmo|ppo|benefit|billing|customer",
        4,
    ),
    _cued(
        IdentifierKind.DEVICE,
        r"serial|s/n|sn|imei|rego|asset|implant|transmitter|device|vin|registration|reg|plate|number plate|vehicle|udi|generator|"
        r"pump|sensor|barcode|tag|mac|equipment|pacemaker|icd serial|lead serial",
        2,
    ),
)  # fmt: skip
_SORT_CODE = re.compile(r"\bsort ?code\W{0,3}(?:is )?(?P<value>\d{2}[- ]?\d{2}[- ]?\d{2})\b", re.I)
_LONG_NUMBER = re.compile(
    r"(?<![\w.,/-])(?:[A-Z]{1,3}-?)?\d{7,12}(?:-?[A-Z])?(?![\w/%]|[.,]\d)|(?<![\w./-])[A-Z]{1,3}-?\d{6,}[A-Z]?(?![\w/])"
    r"|(?<![\w./-])[A-Z]{1,2}\d{3,5}-\d{3,}(?![\w/-])|(?<![\w./-])(?:\d{2,3}|[A-Z]{2,4})-\d{5,}-\d{1,2}(?![\w/-])|(?<![\w./-])\d{3,5}-\d{2,4}-\d{1,4}(?:-[A-Z0-9])?(?![\w/-])"
    r"|(?<![\w./-])[A-Z]{2,4}[-/]\d{2,}[-/]\d{2,}(?:[-/]\w+)*(?![\w/-])|(?<![\w./-])[A-Z]{2,4}/\d{3,}/\w+(?![\w/-])"
)
_REFERENCE = re.compile(
    r"(?:PMID|PMC|NCT|ISRCTN|EudraCT|doi|ISBN|CRD|trial|registered|SNOMED(?: CT)?|SCTID|LOINC|RxNorm|RxCUI|dm\+d|GTIN|NDC|CAS|CPT|OPCS|MeSH|OMIM|HGNC|UNII|"
    r"concept|lot|batch|order|catalogue|product)\W{0,4}(?:no\.?|number|code|id|as)?\W{0,3}$",
    re.I,
)
_VEHICLE = re.compile(
    r"\b(?:car|cars|van|vehicle|drove|driving|dvla|bus|coach|tractor|moped|bike|suv|jeep|pickup|ford|fiesta|focus|toyota|honda|nissan|vauxhall|corsa|volkswagen|golf|audi|bmw|tesla|kia|skoda|sedan|truck|lorry|motorbike|motorcycle|scooter|plate|reg|registration|driver|drives?|taxi|ambulance|parked|clamped)\b",
    re.I,
)
_PLATE = re.compile(
    r"(?<![\w./-])(?:[A-Z]{2}\d{2} ?[A-Z]{3}|[A-Z]{3}[- ]\d{2,3}[- ]?[A-Z]{2}|[A-Z]{3}[- ]?\d{3,4}[A-Z]?|\d{1,4}[A-Z]{2,3}[- ]?\d{2,4}|\d{2,3}-[A-Z]{1,2}-\d{3,6}[A-Z]?"
    r"|[A-Z]\d{1,3} ?[A-Z]{3}|[A-Z]{2} ?\d{2} ?[A-Z]{1,3} ?\d{3,4}|\d[A-Z]{3}\d{3})(?![\w/-])"
)


def _is_no_record(text: str, match: re.Match[str]) -> bool:
    """Whether a long number is an amount, a publication or a trial."""
    return bool(
        match[0].endswith("0000")
        or _CLINICAL_CODE.match(match[0])
        or _UNIT_NEXT.match(text, match.end())
        or _REFERENCE.search(text[max(0, match.start() - 30) : match.start()])
    )


def _has_wrong_check_digit(_text: str, match: re.Match[str]) -> bool:
    """Whether the last digit of an NHS number is not the check digit (modulus 11) of the nine before it."""
    digits = re.sub(r"\D", "", match["value"])
    total = sum(int(digit) * weight for digit, weight in zip(digits[:9], range(10, 1, -1), strict=True))
    return (11 - total % 11) % 11 != int(digits[9]) or total % 11 == 1


def _follows_a_vehicle(text: str, match: re.Match[str]) -> bool:
    before = text[max(0, match.start() - 60) : match.start()]
    return bool(_VEHICLE.search(before)) and not _UNIT_NEXT.match(text, match.end())


_RULES: tuple[Callable[[str], Iterator[Identifier]], ...] = (
    *_CUED,  # where two find the same, the word before a number says what it is
    _Form(IdentifierKind.BIRTH, _BIRTH),
    _Form(IdentifierKind.DATE, _DATE, _is_of_a_document),
    _Form(IdentifierKind.DATE, _DAY_OF_MONTH, _is_of_a_document),
    _Form(IdentifierKind.DATE, _DAY_SLASH_MONTH, _is_of_a_document),
    *(_Form(IdentifierKind.AGE, pattern) for pattern in _AGES),
    _Form(IdentifierKind.EMAIL, _EMAIL),
    _Form(IdentifierKind.PHONE, _PHONE, _are_times),
    _Form(IdentifierKind.PHONE, _PHONE_AFTER, _are_times),
    _Form(IdentifierKind.WEB, _URL, _is_public_site),
    _Form(IdentifierKind.WEB, _HANDLE),
    _Form(IdentifierKind.WEB, _INTERNET),
    _Form(IdentifierKind.WEB, _USER_NAME),
    _Form(IdentifierKind.ADDRESS, _ADDRESS, _is_no_address),
    _Form(IdentifierKind.ADDRESS, _ADDRESS_AFTER),
    _Form(IdentifierKind.ADDRESS, _FLAT),
    _Form(IdentifierKind.ADDRESS, _NUMBERED),
    _Form(IdentifierKind.ADDRESS, _STREET_ALONE, _is_no_address),
    _Form(IdentifierKind.ADDRESS, _SMALL_STREET),
    _Form(IdentifierKind.ADDRESS, _NAMED_HOUSE),
    _Form(IdentifierKind.ADDRESS, _FOREIGN_STREET),
    _Form(IdentifierKind.ADDRESS, _BEFORE_POSTCODE),
    _Form(IdentifierKind.ADDRESS, _HOUSE_NAME),
    _Form(IdentifierKind.POSTCODE, _POSTCODE),
    _Form(IdentifierKind.POSTCODE, _POSTCODE_AFTER, _has_no_digit),
    _Form(IdentifierKind.POSTCODE, _POSTCODE_AFTER_STATE),
    _Form(IdentifierKind.NAME, _PLACE, _is_any_hospital),
    _Form(IdentifierKind.SOCIAL_SECURITY, _SOCIAL_SECURITY),
    _Form(IdentifierKind.NHS, _NHS_SPACED, _has_wrong_check_digit),
    _Form(IdentifierKind.NHS, _NHS_NAMED, _has_wrong_check_digit),
    _Form(IdentifierKind.ACCOUNT, _SORT_CODE),
    _Form(IdentifierKind.NATIONAL, _NATIONAL, _are_times),
    _Form(IdentifierKind.RECORD, _LONG_NUMBER, _is_no_record),
    _Form(IdentifierKind.DEVICE, _PLATE, lambda text, match: not _follows_a_vehicle(text, match)),
)
