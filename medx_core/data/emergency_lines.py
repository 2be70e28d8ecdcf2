"""The emergency line: which sentences stand once above the answers to a question.

The translations were not checked by native speakers (docs/safety.md says so); they say the same as the English line and
nothing else.
"""

import re

from medx_core.categories import Category, Route
from medx_core.data.languages import other_language

EMERGENCY_LINE = "If this may be an emergency, call your local emergency number now."
ENGLISH_ONLY = (
    "MedX reads English only: it cannot tell what this text says, nor whether it speaks of an emergency."
)
TRANSLATIONS = {
    "ar": "إذا كانت هذه حالة طارئة محتملة، فاتصل الآن برقم الطوارئ المحلي.",
    "bn": "এটি জরুরি অবস্থা হতে পারে মনে হলে এখনই আপনার স্থানীয় জরুরি নম্বরে ফোন করুন।",
    "de": "Wenn dies ein Notfall sein könnte, rufen Sie jetzt Ihre örtliche Notrufnummer an.",
    "es": "Si esto puede ser una emergencia, llame ahora a su número local de emergencias.",
    "fr": "S'il peut s'agir d'une urgence, appelez maintenant votre numéro d'urgence local.",
    "hi": "यदि यह आपातकाल हो सकता है, तो अभी अपने स्थानीय आपातकालीन नंबर पर कॉल करें।",
    "pt": "Se isto puder ser uma emergência, ligue agora para o seu número local de emergência.",
    "ru": "Если это может быть неотложный случай, сейчас же позвоните по местному номеру экстренной помощи.",
    "ur": "اگر یہ ہنگامی صورتحال ہو سکتی ہے تو ابھی اپنے مقامی ایمرجنسی نمبر پر کال کریں۔",
    "zh": "如果这可能是紧急情况，请立即拨打当地急救电话。",
}
"""By ISO 639-1 code: the ten most spoken languages that `other_language` tells apart, English left out."""

_PERSON = re.compile(
    r"\b(?:i|i'm|im|i've|ive|me|my|mine|we|us|our|you|your|he|he's|she|she's|him|his|her|they|them|their|"
    r"husband|wife|partner|mum|mom|dad|son|daughter|baby|friend|nan|gran\w*|pt|\d{1,3} ?(?:yo|y/o|yrs? old|m|f))\b",
    re.IGNORECASE,
)
_QUESTION = re.compile(
    r"\?|^\s*(?:what|when|where|who|which|why|how|is|are|do|does|did|can|could|should|would|will|may|must)\b",
    re.IGNORECASE,
)


def emergency_lines(text: str, route: Route | None) -> tuple[str, ...]:
    """Return the sentences to show above the answers to `text`, none for most texts.

    The emergency line stands where the text tells of an emergency, whatever its category and also where the router
    abstained; for triage also where it asks something or speaks of a person, but not with a calm general statement. A
    text in another language says that MedX reads English only, with the line in that language where there is one.
    """
    language = other_language(text)
    if language is not None:
        translated = TRANSLATIONS.get(language)
        return (ENGLISH_ONLY, *((translated,) if translated else ()), EMERGENCY_LINE)
    if route is None:
        return ()
    asks = bool(_QUESTION.search(text) or _PERSON.search(text.replace("’", "'")))
    needed = route.red_flag or (route.category is Category.TRIAGE and asks)
    return (EMERGENCY_LINE,) if needed else ()
