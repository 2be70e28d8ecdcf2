"""Red-flag wording: whether a text speaks of an emergency happening to someone.

It decides one thing: whether the emergency line is shown. The line is shown whatever the route, so a rule that fires
once too often costs a sentence on a page, and a rule that misses costs more; only statements of pure research are let
off. It is no triage: the absence of a red flag says nothing.

The rules and their sources are in red_flags.toml, for clinicians to read and correct.
"""

import re
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

MAX_CHARACTERS = 4_000
_SHARED = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True)
class RedFlag:
    """One rule: it fires when every pattern of `all_of` occurs in the text."""

    name: str
    source: str
    all_of: tuple[re.Pattern[str], ...]


@lru_cache(maxsize=1)
def rules() -> tuple[RedFlag, ...]:
    """Return every rule, in no order of weight."""
    content = tomllib.loads((files("medx_core.routing") / "red_flags.toml").read_text("utf-8"))
    return tuple(
        RedFlag(
            rule["name"],
            rule["source"],
            tuple(
                re.compile(_SHARED.sub(lambda name: str(content["shared"][name[1]]), pattern))
                for pattern in rule["all_of"]
            ),
        )
        for rule in content["rule"]
    )


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
    return tuple(rule.name for rule in rules() if all(pattern.search(plain) for pattern in rule.all_of))


def has_red_flag(text: str) -> bool:
    """Whether any rule fires on a text."""
    return bool(red_flags(text))
