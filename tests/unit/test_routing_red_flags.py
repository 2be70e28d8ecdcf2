from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medx_core.categories import Category, RouteSource
from medx_core.routing.red_flags import has_red_flag, red_flags, rules
from medx_core.routing.rules_router import RulesRouter

EMERGENCIES = {
    "chest pain with arm, jaw, sweat or breathlessness": "Tight chest since breakfast and it goes into my left arm",
    "heart attack named": "I think my husband is having a heart attack",
    "face droops": "mum's face is drooping on one side",
    "speech lost or slurred of a sudden": "suddenly he cannot speak properly and his arm is weak",
    "weak or numb on one side": "my left arm went numb all of a sudden",
    "sight lost of a sudden": "I suddenly lost the vision in one eye",
    "thunderclap headache": "worst headache of my life, came like a bang",
    "anaphylaxis": "after the peanut my tongue is swelling",
    "not breathing or fighting for breath": "she is not breathing",
    "choking": "the toddler is choking on a grape",
    "unconscious or cannot be woken": "Dad won’t wake up",
    "seizure": "my son is having a seizure for ten minutes",
    "rash that does not fade": "spots that don't fade under a glass",
    "fever with a stiff neck or confusion": "fever of 39 and a stiff neck",
    "young baby with fever": "our 6 week old has a temperature of 38.4",
    "young baby unwell": "newborn is floppy and not feeding",
    "bleeding that is heavy or does not stop": "I cut my hand and the blood is spurting",
    "blood vomited or black stool with faintness": "he is throwing up blood",
    "thoughts of suicide or self-harm": "i dont want to be here anymore, i want to die",
    "overdose or poisoning": "my daughter took a whole pack of paracetamol",
    "severe pain in pregnancy, or the baby moves less": "I am 34 weeks pregnant and the baby has stopped moving",
    "suspected sepsis": "his skin is mottled and I think it could be sepsis",
    "cauda equina": "bad back pain and I cannot pee since this morning",
    "testicle painful of a sudden": "sudden severe pain in my testicle",
    "head injury with danger signs": "she hit her head and has been vomiting since",
    "diabetic emergency": "my diabetic wife won't wake up properly",
    "major injury": "my friend was stabbed",
    "vital signs of danger": "82M RR 34, SpO2 81% on air, BP 78/40",
    "clot in the lung": "sharp pain in my chest when breathing in, puffed, and one calf is swollen since the flight",
    "tearing pain or a ruptured aorta": "a tearing pain between my shoulder blades came on suddenly, I am sweating",
    "asthma that the inhaler does not ease": "her blue inhaler is doing nothing",
    "something stuck in the throat": "a bone is stuck in her throat and she can't swallow",
    "fever during chemotherapy": "on chemo and my temperature is 38.4",
    "infection with shock or confusion": "mum has a urine infection and is muddled and clammy",
    "skin infection that spreads fast or turns black": "the wound on my leg is turning black within hours, unbearable pain and fever",
    "cold white limb or a limb under pressure": "my foot went white and cold suddenly and it is in agony",
    "eye in danger": "bleach splashed into my eye",
    "burn that is large, deep or in a danger place": "my toddler pulled boiling tea over his face just now",
    "overheated or very cold with changed behaviour": "he collapsed in the heat, his skin is hot and dry, he is confused",
    "cord, or birth under way": "waters broke and the cord is hanging out",
    "blood pressure of pregnancy": "36 weeks pregnant with flashing lights and a headache",
    "bleeding after birth or in pregnancy": "gave birth on Tuesday and soak a pad every hour",
    "low or high blood sugar of danger": "her blood sugar reads 1.9 and she is drowsy",
    "steroids missed or adrenal crisis": "I have Addison's and can't keep my hydrocortisone down, vomiting and dizzy",
    "belly rigid, or bowel blocked": "his belly is rigid as a board, severe pain since this morning",
    "potassium or kidneys in danger": "missed dialysis twice and my legs are weak",
    "fainting with a racing or slow heart": "I blacked out twice with my heart racing, chest tight",
    "withdrawal, or breathing slowed by drugs": "he took heroin, pinpoint pupils, can't wake him",
    "plans or means for suicide": "I have written the letters and the pills are lined up, I can't go on",
    "mind in danger to oneself or others": "voices tell him to pick up the knife and kill us",
    "poisoned by gas, chemicals, plants or another's medicine": "my toddler swallowed grandma's tablets",
    "major injury told by its signs": "he fell off the roof and can't feel his legs",
    "suicide with the means at hand": "the rope is in the shed, I can't go on any longer, tell my mum I'm sorry",
    "numb saddle with bladder or bowel failing": "my bottom has gone numb since the lift and I leaked without noticing",
    "suicide told by plan, farewell and preparations": "by the time you read this I'll be gone, it is all arranged for tonight",
    "bleeding late in pregnancy or heavy after birth": "32 weeks pregnant and blood is running down my legs",
    "button battery or magnets swallowed, or in nose or ear": "she put a coin battery up her nose",
    "asks whether this is an emergency": "Her lips tingle after the new tablets, is this an emergency?",
    "hives with a tight throat or chest, swelling or faintness": "welts up her arms after the nut bar and her throat is closing",
    "a child who passes no water and is drowsy or does not drink": "our son has not had a wee for 14 hours and is floppy",
    "pain low on the right with fever or vomiting": "her tummy hurts low on the right and she keeps throwing up",
    "a hand or leg that fails while words go wrong": "her hand keeps dropping things and the names of things come out jumbled",
    "gasps with nothing in between": "uncle collapsed in the garden, a gasp every twenty seconds and otherwise nothing",
    "temperature of 38 or more during chemotherapy": "my dad had docetaxel last week and the thermometer says 38.3",
    "a pad soaked within the hour in pregnancy or after birth": "ten days after the birth I am going through a pad every half hour",
    "more paracetamol than a day allows": "he took 22 of the paracetamol over the day for his back",
    "a child had a medicine of which one dose may kill": "our toddler chewed one of granny's propranolol",
    "a weekly medicine taken every day": "dad has been taking his methotrexate every morning instead of on Mondays",
    "the wrong insulin, or insulin twice": "I injected NovoRapid instead of my Tresiba",
    "signs of a medicine with little room between dose and harm": "he is on lithium and is shaking and slurring since the weekend",
    "suicide told by what is left behind": "I have left the dog food and the keys on the step, the letters are written, and I am walking to the weir",
    "bleeding or a head knock on blood thinners": "gran is on apixaban, fell, and has a headache and is confused",
}

HARMLESS = [
    "What causes Marfan syndrome?",
    "Should I see someone about a ganglion on my wrist?",
    "How do I store my insulin pens?",
    "Does aspirin reduce mortality in patients with unstable angina?",
    "Chest pain radiating to the arm predicts myocardial infarction in women: a cohort study",
    "Early epinephrine in cardiac arrest is associated with survival.",
    "Suicidal ideation in adolescents after isotretinoin: a meta-analysis",
    "Seizure recurrence after withdrawal of antiepileptic drugs in children",
    "hey how's it going",
    "",
]


def test_every_rule_has_an_example_and_a_source():
    assert {rule.name for rule in rules()} == set(EMERGENCIES)
    assert all(rule.source for rule in rules())


@pytest.mark.parametrize(("rule", "text"), EMERGENCIES.items())
def test_a_sign_of_an_emergency_fires_its_rule(rule, text):
    assert rule in red_flags(text)


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_texts_and_pure_research_fire_none(text):
    assert red_flags(text) == ()


def test_a_person_in_danger_is_seen_through_the_language_of_research():
    assert has_red_flag("Which evidence is there for aspirin? My husband has chest pain and is sweating.")


@given(st.text(max_size=3_000))
def test_any_text_is_read_whatever_its_letter_case(text):
    assert has_red_flag("won't wake up. my dad. " + text) is True
    assert isinstance(has_red_flag(text), bool)


def test_a_sign_of_an_emergency_is_seen_at_the_end_of_a_story_longer_than_any_router_reads():
    story = "We were on holiday and the weather was lovely. " * 80
    assert has_red_flag(story + "Now she is not breathing.")


def test_nobody_who_chooses_another_kind_loses_the_emergency_line():
    route = RulesRouter().route(["my husband is having a heart attack, what do studies say"])[0]
    chosen = replace(route, category=Category.LITERATURE, source=RouteSource.USER)
    assert chosen.red_flag
