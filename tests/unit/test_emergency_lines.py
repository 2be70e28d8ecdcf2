"""Which sentences stand above the answers to a text."""

import pytest

from medx_core.categories import Category, Route
from medx_core.data.emergency_lines import EMERGENCY_LINE, ENGLISH_ONLY, TRANSLATIONS, emergency_lines
from medx_core.data.languages import UNKNOWN, other_language

MESSAGES = {
    "ar": "والدي يعاني من ألم شديد في الصدر ولا يستطيع التنفس",
    "bn": "আমার বাবার বুকে খুব ব্যথা হচ্ছে এবং তিনি শ্বাস নিতে পারছেন না",
    "de": "Mein Vater hat starke Schmerzen in der Brust und bekommt keine Luft",
    "es": "Mi padre tiene un dolor muy fuerte en el pecho y no puede respirar",
    "fr": "Mon père a une forte douleur dans la poitrine et ne peut plus respirer",
    "hi": "मेरे पिता के सीने में तेज दर्द है और वे सांस नहीं ले पा रहे हैं",
    "pt": "O meu pai tem uma dor muito forte no peito e não consegue respirar",
    "ru": "У моего отца сильная боль в груди, и он не может дышать",
    "ur": "میرے والد کے سینے میں شدید درد ہے اور وہ سانس نہیں لے پا رہے",
    "zh": "我父亲胸口剧痛，喘不过气来",
}


@pytest.mark.parametrize(("language", "text"), MESSAGES.items())
def test_a_message_in_another_language_carries_the_line_in_that_language(language, text):
    assert emergency_lines(text, None) == (ENGLISH_ONLY, TRANSLATIONS[language], EMERGENCY_LINE)


@pytest.mark.parametrize(("language", "line"), TRANSLATIONS.items())
def test_every_translation_is_in_its_language(language, line):
    assert other_language(line) == language


def test_a_language_without_a_line_has_the_notice_and_the_english_line():
    assert emergency_lines("아버지가 가슴이 아프고 숨을 못 쉬어요", None) == (ENGLISH_ONLY, EMERGENCY_LINE)
    assert other_language("ჩემს მამას გული სტკივა") == UNKNOWN


@pytest.mark.parametrize(
    "text",
    [
        "68M crushing CP rad L arm, diaphoretic, BP 90/50",
        "19F intentional OD paracetamol 16 g, GCS 9",
        "chest pain",
        "Status post appendectomy, NPO, IV abx, DVT prophylaxis",
    ],
)
def test_clinicians_shorthand_is_english(text):
    assert other_language(text) is None


@pytest.mark.parametrize(
    ("text", "route", "shown"),
    [
        ("A sprained ankle needs no radiograph.", Route(Category.TRIAGE), False),
        ("A sprained ankle needs no radiograph.", Route(Category.TRIAGE, red_flag=True), True),
        ("Does a sprained ankle need a radiograph", Route(Category.TRIAGE), True),
        ("My ankle is swollen.", Route(Category.TRIAGE), True),
        ("My ankle is swollen.", Route(Category.PATIENT_FACING), False),
        ("My ankle is swollen.", Route(None), False),
        ("He is not breathing.", Route(None, red_flag=True), True),
        ("He is not breathing.", None, False),
    ],
)
def test_where_the_line_stands_is_decided_by_flag_category_and_text(text, route, shown):
    assert emergency_lines(text, route) == ((EMERGENCY_LINE,) if shown else ())
