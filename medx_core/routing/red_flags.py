"""Red-flag wording: whether a text speaks of an emergency happening to someone.

It decides one thing: whether the emergency line is shown. The line is shown whatever the route, so a rule that fires
once too often costs a sentence on a page, and one that misses costs more; only statements of pure research are let
off. It is no triage: the absence of a red flag says nothing.

Each rule names whose published warning signs it follows: NHS (nhs.uk pages on when to call 999), NICE (guidelines by
number), Resuscitation Council UK (its guidance on anaphylaxis and cardiac arrest).
"""

import re
from dataclasses import dataclass

MAX_CHARACTERS = 4_000


@dataclass(frozen=True)
class RedFlag:
    """One rule: it fires when every pattern of `all_of` is found in the text."""

    name: str
    source: str
    all_of: tuple[re.Pattern[str], ...]


def _rule(name: str, source: str, *patterns: str) -> RedFlag:
    return RedFlag(name, source, tuple(re.compile(pattern) for pattern in patterns))


_CHEST = r"\bchest\b[^.?!]{0,30}\b(?:pain|tight\w*|pressure|hurt\w*|ach\w*|heav\w*|crush\w*|squeez\w*)|\b(?:pain|tight\w*|pressure|crush\w*|squeez\w*|heav\w*)\b[^.?!]{0,30}\bchest\b|\bcp\b(?= )"
_BABY = r"\b(?:bab(?:y|ies)|newborn|neonate|infant|[1-9]\d?[ -]?(?:day|week|wk)s?[ -]?old|[0-3][ -]?(?:month|mo|mth)s?[ -]?old|(?:one|two|three)[ -](?:month|week)s?[ -]old)\b"
_FEVER = r"\b(?:fever\w*|high temp\w*|temp(?:erature)? (?:of |is )?(?:3[89]|4[01]|10[0-6])|burning up|3[89]\.\d|4[01]\.\d|10[0-5]\.\d ?f?)\b"
_SUDDEN = r"\b(?:sudden\w*|all of a sudden|out of nowhere|acute(?: onset)?|just (?:now|started|went)|came on|woke up|new onset|since this morning|right now|minutes? ago|min ago|hours? ago|today|tonight|lkw)\b"
_ONE_SIDE = r"\b(?:one|left|right|l|r|lt|rt|1)[ -]?(?:side\w*|arm|leg|hand|face|facial|body)\b"

RULES: tuple[RedFlag, ...] = (
    _rule(
        "chest pain with arm, jaw, sweat or breathlessness",
        "NHS, heart attack; NICE CG95",
        _CHEST,
        r"\b(?:arm|arms|jaw|neck|shoulder|sweat\w*|clammy|diaphor\w*|grey|gray|short\w* of breath|breathless\w*|sob|can'?t breathe?|trouble breath\w*|nause\w*|vomit\w*|faint\w*|pass\w* out|radiat\w*|crush\w*|squeez\w*|elephant)\b",
    ),
    _rule(
        "heart attack named",
        "NHS, heart attack",
        r"\b(?:having|have|has|had|think\w*|could (?:it|this) be|is (?:it|this)|signs? of)\b[^.?!]{0,40}\bheart attack\b(?! (?:in|last) \d)",
        r"\b(?:i|i'm|im|my|he|she|his|her|me|now|this|husband|wife|mum|mom|dad)\b",
    ),
    _rule(
        "face droops",
        "NHS, stroke (FAST); NICE NG128",
        r"\b(?:face|facial|mouth|smile)\b[^.?!]{0,25}\b(?:droop\w*|dropp\w*|fall\w*|fell\w*|lopsided|crooked|numb\w*)|\b(?:droop\w*|lopsided|crooked|numb)\b[^.?!]{0,25}\b(?:face|mouth|smile)\b",
        rf"{_SUDDEN}|{_ONE_SIDE}|\b(?:speech|slur\w*|arm|weak\w*|numb\w*|my|his|her)\b",
    ),
    _rule(
        "speech lost or slurred of a sudden",
        "NHS, stroke (FAST); NICE NG128",
        r"\bslur\w*|\b(?:can'?t|cannot|can not|unable to|trouble|hard to)\b[^.?!]{0,15}\b(?:speak\w*|talk\w*|get (?:his|her|my) words)\b|\baphasi\w*|\bspeech\b[^.?!]{0,20}\b(?:gone|garbled|strange|weird|muddled)\b|\b(?:talking|speaking) (?:nonsense|gibberish|funny)\b",
        rf"{_SUDDEN}|{_ONE_SIDE}|\bweak\w*|\bnumb\w*|\bdroop\w*",
    ),
    _rule(
        "weak or numb on one side",
        "NHS, stroke (FAST); NICE NG128",
        r"\b(?:weak\w*|numb\w*|paraly\w*|can'?t (?:move|lift|feel|raise)|cannot (?:move|lift|feel|raise)|gone dead)\b",
        _ONE_SIDE,
        _SUDDEN,
    ),
    _rule(
        "sight lost of a sudden",
        "NHS, stroke; NICE NG127",
        r"\b(?:lost|loss of|losing|gone|blind|no)\b[^.?!]{0,20}\b(?:vision|sight|eye|eyes)\b|\bwent blind\b",
        _SUDDEN,
    ),
    _rule(
        "thunderclap headache",
        "NICE CG150",
        r"\bthunderclap\b|\bworst head\s?ache\b|\bhead\s?ache\b[^.?!]{0,30}\b(?:worst (?:of|ever|in)|like being hit|hit (?:me|him|her)|exploded)\b|\bsudden\w*\b[^.?!]{0,20}\b(?:severe|worst|terrible|agoni\w*)\b[^.?!]{0,10}\bhead\s?ache\b",
    ),
    _rule(
        "anaphylaxis",
        "Resuscitation Council UK, anaphylaxis; NICE CG134",
        r"\banaphyla\w*|\b(?:throat|tongue|lips?|face)\b[^.?!]{0,25}\b(?:swell\w*|swollen|clos\w*|tighten\w*|tight)\b|\b(?:swell\w*|swollen)\b[^.?!]{0,25}\b(?:throat|tongue|lips?)\b|\b(?:hives|rash|sting|stung|peanut\w*|nuts?|allerg\w*)\b[^.?!]{0,80}\b(?:wheez\w*|can'?t breathe?|trouble breath\w*|faint\w*|collaps\w*)\b",
        r"\b(?:my|i|i'm|he|she|his|her|now|after|just|patient|pt|\d+ ?(?:yo|y/o|[mf]))\b",
    ),
    _rule(
        "not breathing or fighting for breath",
        "Resuscitation Council UK; NHS, shortness of breath",
        r"\b(?:not|isn'?t|stopp\w*|barely|hardly|can'?t|cant|cannot|can not|struggl\w* to|fighting (?:to|for)|gasping for|couldn'?t|unable to)\b[^.?!]{0,12}\b(?:breath\w*|air)\b|\bno (?:pulse|heartbeat)\b|\bcardiac arrest\b[^.?!]{0,40}\b(?:now|just|he|she|my)\b|\b(?:blue|grey|gray)\b[^.?!]{0,15}\b(?:lips?|face|tongue|fingers)\b|\b(?:lips?|face|tongue)\b[^.?!]{0,25}\b(?:blue|grey|gray)\b|\bturn\w* blue\b|\btoo breathless to\b|\bcan'?t (?:finish|complete|speak) (?:a |in |full )?sentences?\b",
    ),
    _rule(
        "choking",
        "Resuscitation Council UK, choking",
        r"\bchok(?:ing|ed|es)\b(?! hazard)",
        r"\b(?:now|my|he|she|can'?t|on a|baby|child|toddler)\b",
    ),
    _rule(
        "unconscious or cannot be woken",
        "Resuscitation Council UK; NHS, first aid",
        r"\bunconscious\b|\bunrespons\w*|\bwon'?t wake\b|\b(?:can'?t|cannot|cant|can not|couldn'?t|unable to|hard to|difficult to)\b[^.?!]{0,20}\b(?:wake|woken|waken|rouse|arouse)\b|\bcollapsed?\b|\bpassed out\b|\bblack(?:ed|ing) out\b|\bfloppy\b|\bgcs ?(?:[3-9]|1[0-2])\b|\bnot waking\b",
    ),
    _rule(
        "seizure",
        "NHS, what to do if someone has a seizure; NICE NG217",
        r"\b(?:having|had|has|have|still|been|keeps?|first|just|now|started)\b[^.?!]{0,20}\b(?:seizure|seizing|fit|fitting|convuls\w*|fits)\b|\b(?:seizing|fitting|convulsing)\b[^.?!]{0,20}\b(?:now|for|still|min\w*)\b|\bseizure\b[^.?!]{0,40}\b(?:minutes|mins?|won'?t stop|first|now)\b|\bstatus epilepticus\b[^.?!]{0,30}\bnow\b",
        r"\b(?:my|i|he|she|his|her|now|minutes?|mins?|son|daughter|baby|patient|pt|someone|friend|\d+ ?(?:yo|y/o|[mf]))\b",
    ),
    _rule(
        "rash that does not fade",
        "NHS, meningitis; NICE NG240",
        r"\b(?:rash|spots|purpur\w*|petechia\w*)\b",
        r"\b(?:non[- ]?blanch\w*|(?:not|doesn'?t|does not|don'?t|won'?t|do not|didn'?t)\b[^.?!]{0,12}\b(?:fade|fading|blanch|disappear|go away (?:under|when|with))|glass test|tumbler test|stiff neck|neck stiff\w*|light hurts)\b",
    ),
    _rule(
        "fever with a stiff neck or confusion",
        "NHS, meningitis; NICE NG240",
        _FEVER,
        r"\bstiff\w* neck\b|\bneck\b[^.?!]{0,15}\bstiff\w*|\bconfus\w*|\bdeliri\w*|\bphotophob\w*|\blight hurts\b|\bmottl\w*|\blethargic\b|\bneutropeni\w*|\bchemo\w*",
    ),
    _rule("young baby with fever", "NICE NG143", _BABY, _FEVER),
    _rule(
        "young baby unwell",
        "NICE NG143",
        _BABY,
        r"\b(?:won'?t feed|not feeding|refus\w* (?:feeds?|bottle|milk)|floppy|limp|no wet napp\w*|no wet diaper\w*|dry (?:nappy|nappies|diapers?) (?:all|for)|grunting|very sleepy|bulging|green vomit|blue)\b",
    ),
    _rule(
        "bleeding that is heavy or does not stop",
        "NHS, severe bleeding; Resuscitation Council UK",
        r"\b(?:bleed\w*|blood|haemorrhag\w*|hemorrhag\w*)\b[^.?!]{0,40}\b(?:won'?t stop|wont stop|doesn'?t stop|not stop\w*|can'?t stop|heavy|heavily|severe\w*|spurt\w*|pour\w*|gush\w*|soak\w*|everywhere|a lot|lots|clots)\b|\b(?:heavy|heavily|severe\w*|spurt\w*|pour\w*|gush\w*|soak\w*|lots of|a lot of|uncontroll\w*)\b[^.?!]{0,25}\b(?:bleed\w*|blood)\b",
        r"\b(?:i|i'm|im|my|he|she|his|her|now|pregnan\w*|after|cut|wound|patient|pt|won'?t|\d+ ?(?:yo|y/o|[mf]))\b",
    ),
    _rule(
        "blood vomited or black stool with faintness",
        "NHS, vomiting blood; NICE CG141",
        r"\b(?:vomit\w*|throw\w* up|threw up|puk\w*|cough\w*(?: up)?|spit\w* up|bring\w* up)\b[^.?!]{0,15}\bblood\b|\bha?ematemesis\b|\bcoffee[- ]grounds?\b|\b(?:black|tarry)[, ]+(?:tarry |sticky )?(?:stool\w*|poo\w*|poop)\b|\bmela?ena\b",
    ),
    _rule(
        "thoughts of suicide or self-harm",
        "NHS, help for suicidal thoughts; NICE NG225",
        r"\bsuicid\w*|\b(?:kill|hang|harm|hurt|cut|cutting|killing|hurting|harming)\b ?(?:myself|himself|herself|themsel\w+|my self)|\b(?:want|wants|wanted|wish|ready)\b[^.?!]{0,12}\b(?:to die|to be dead|i was dead|i were dead|to end (?:it|my life)|not to be here|to disappear)\b|\bend (?:my|his|her|their) (?:own )?life\b|\bend it all\b|\bbetter off dead\b|\bno reason to live\b|\bdon'?t want to (?:live|be alive|be here|wake up)\b|\btake my (?:own )?life\b",
    ),
    _rule(
        "overdose or poisoning",
        "NHS, poisoning; NICE NG225",
        r"\b(?:overdos\w*|od'?d|poison(?:ed|ing)|swallow\w*|drank|drunk|ate|eaten|took|taken|ingest\w*)\b",
        r"\boverdos\w*|\bod'?d\b|\bpoisoned\b|\b(?:whole|entire|full) (?:pack|packet|bottle|box|strip)\b|\bbutton batter\w*|\bbatter(?:y|ies)\b|\b(?:bleach|antifreeze|paraquat|weed\s?killer|drain cleaner|detergent pod|methanol|magnets?)\b|\b(?:[2-9]\d|1[2-9]|1\d\d)\b[^.?!]{0,15}\b(?:tablets?|pills?|capsules?|paracetamol|tylenol|ibuprofen|acetaminophen)\b|\btoo many (?:tablets?|pills?|paracetamol|tylenol)\b",
    ),
    _rule(
        "severe pain in pregnancy, or the baby moves less",
        "NICE NG126; NHS, your baby's movements",
        r"\bpregnan\w*|\bweeks? gone\b|\bectopic\b|\bg\dp\d\b|\b(?:[12]\d|3\d|4[0-2])/40\b",
        r"\b(?:moving less|not mov\w*|no movements?|less movements?|reduced (?:fetal )?movements?|stopped moving|hasn'?t moved|severe (?:pain|headache|abdominal)|one[- ]sided pain|shoulder (?:tip )?pain|waters? (?:broke|broken)|visual|flashing|floaters|fit|seizure|bleed\w*|heavy blood)\b",
    ),
    _rule(
        "suspected sepsis",
        "NICE NG253; NHS, sepsis",
        r"\bseps?is\b|\bseptic\b|\bmottled skin\b|\bskin (?:is )?(?:mottled|blotchy|ashen)\b",
        r"\b(?:i|my|he|she|his|her|now|patient|pt|think|could|worried|\d+ ?(?:yo|y/o|[mf]))\b",
    ),
    _rule(
        "cauda equina",
        "NICE NG59",
        r"\bback\b[^.?!]{0,60}\b(?:pain|ach\w*|sciatica|hurt\w*)|\bsciatica\b|\blbp\b",
        r"\b(?:saddle|numb\w*[^.?!]{0,25}(?:groin|genital\w*|bottom|between (?:my|the|his|her) legs)|(?:can'?t|cannot|lost|loss of|no)\b[^.?!]{0,20}\b(?:pee|urinat\w*|wee|bladder|bowel\w*)|incontinen\w*|retention)\b",
    ),
    _rule(
        "testicle painful of a sudden",
        "NHS, testicular torsion",
        r"\b(?:testic\w*|testis|balls?|scrot\w*)\b",
        r"\b(?:sudden\w*|severe|agoni\w*|excruciat\w*|twist\w*|torsion)\b[^.?!]{0,60}|\bwoke\b",
        r"\bpain\w*|\bhurt\w*|\bsore\b|\bswollen\b|\btwist\w*",
    ),
    _rule(
        "head injury with danger signs",
        "NICE NG232",
        r"\b(?:hit|hurt|bang\w*|bump\w*|fell|fall|injur\w*|struck|knock\w*)\b[^.?!]{0,40}\bhead\b|\bhead\b[^.?!]{0,20}\b(?:injur\w*|hit|bang\w*|bump\w*|trauma)\b",
        r"\b(?:vomit\w*|throwing up|threw up|drows\w*|sleepy|confus\w*|unconscious|knocked out|passed out|seizure|fit|blood thinner\w*|warfarin|apixaban|rivaroxaban|clear fluid|pupils?|won'?t wake|memory)\b",
    ),
    _rule(
        "diabetic emergency",
        "NHS, diabetic ketoacidosis; NHS, hypoglycaemia",
        r"\b(?:diabet\w*|insulin|t1dm|type 1|blood sugar|glucose|ketones?)\b",
        r"\b(?:ketones? (?:\w+ ){0,3}(?:[3-9]|high|large)|fruity breath|pear drops|dka|won'?t wake|unconscious|unrespons\w*|deep breathing|breathing (?:fast|deep|heavy))\b",
    ),
    _rule(
        "major injury",
        "NICE NG39; NHS, when to call 999",
        r"\b(?:stabb\w*|gun\s?shot|shot in|hit by a (?:car|bus|lorry|truck|van)|run over|amputat\w*|severed|cut off (?:my|his|her) (?:finger|toe|hand)|electrocut\w*|drown\w*|major burns?|burn\w* (?:all over|over \d+))\b",
        r"\b(?:i|my|he|she|his|her|now|just|patient|pt|someone|min\w* ago|friend|\d+ ?(?:yo|y/o|[mf]))\b",
    ),
)
"""Every rule, in no order of weight."""

_RESEARCH = re.compile(
    r"\b(?:randomi[sz]ed|meta-analys\w+|systematic review|cohort|trials?|placebo|odds ratio|hazard ratio|incidence|prevalence|mortality|"
    r"predict\w*|associat\w+ (?:with|between)|risk factors?|efficacy|efficacious|outcomes?|biomarkers?|compared (?:with|to)|versus|guidelines?|"
    r"mice|rats|in vitro|gene|genes|expression|mutations?|pathogenesis|validat\w+|survival|studies|study|literature|evidence|patients with|"
    r"in (?:adults|children|patients|infants|women|men|adolescents|neonates))\b"
)
_SOMEBODY = re.compile(
    r"\b(?:i|i'm|im|i've|ive|me|my|we|our|he|she|his|her|him|husband|wife|partner|mum|mom|dad|son|daughter|friend|"
    r"neighbou?r|grand\w+|right now|just now|help|\d{1,3} ?(?:yo|y/o|yr old|year[- ]old|m|f)|pt)\b"
)
_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "`": "'"})


def red_flags(text: str) -> tuple[str, ...]:
    """Return the names of the rules that fire on a text; none on a statement of pure research."""
    plain = " ".join(text[:MAX_CHARACTERS].lower().translate(_APOSTROPHES).split())
    if _RESEARCH.search(plain) and not _SOMEBODY.search(plain):
        return ()
    return tuple(rule.name for rule in RULES if all(pattern.search(plain) for pattern in rule.all_of))


def has_red_flag(text: str) -> bool:
    """Whether any rule fires on a text."""
    return bool(red_flags(text))
