"""The baseline: a router of keywords, which every trained router must beat."""

import re
from collections.abc import Sequence

import numpy as np

from medx_core.routing.router import Floats, ScoringRouter

RULES = "rules"

_TRIAGE = re.compile(
    r"\b(?:emergency|urgent(?:ly)?|a&e|er|ed|999|911|111|ambulance|hospital|triage|esi|see (?:a|the|my) (?:doctor|gp)|seen|wait|"
    r"how soon|same[- ]day|walk[- ]in|right away|call|go in|appointment|self[- ]care|referral|acuity|level of care)\b",
    re.IGNORECASE,
)
_LITERATURE = re.compile(
    r"\b(?:stud(?:y|ies)|trials?|randomi[sz]ed|meta-analysis|evidence|cohort|associat\w+|efficacy|effective|predict\w*|risk factors?|"
    r"mechanism|genes?|mutations?|expression|receptors?|inhibit\w*|protein|cells?|mice|mortality|prevalence|incidence|outcomes?|"
    r"compared|versus|patients with|role of|regulat\w*|increas\w*|decreas\w*|reduc\w*|systematic|survival|pathway)\b",
    re.IGNORECASE,
)
_PATIENT = re.compile(
    r"\b(?:my|i|i'm|what (?:is|are)|how (?:do|can|is|should)|symptoms?|side effects?|treatments?|causes?|inherited|diet|tablets?|medicines?|"
    r"dose|explain|information|leaflet|living with|thank(?:s| you)|please|normal|prevent|diagnosed?|take|mean)\b",
    re.IGNORECASE,
)
_PATTERNS = (_TRIAGE, _LITERATURE, _PATIENT)


class RulesRouter(ScoringRouter):
    """Counts keywords; the most counted category wins, patient-facing where no keyword appears. It never abstains."""

    name = RULES
    threshold = 0.0

    def scores(self, texts: Sequence[str]) -> tuple[Floats, Floats]:
        """Return shares of keywords (n, 3), and as in-scope score whether any keyword appears."""
        counts = np.array(
            [[len(pattern.findall(text)) for pattern in _PATTERNS] for text in texts], dtype=np.float32
        ).reshape(len(texts), len(_PATTERNS))
        smoothed = counts + np.array([0.5, 0.5, 0.6], dtype=np.float32)
        return smoothed / smoothed.sum(axis=1, keepdims=True), np.tanh(counts.sum(axis=1))
