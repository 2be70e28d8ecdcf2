"""How the rules read a text: ten texts for each way in which a sign may be denied, or seem to be."""

import pytest

from medx_core.routing.red_flags import WRONG_DOSE, red_flags

SIGN_BESIDE_A_DENIAL = [
    "No fever and no rash but she cannot breathe properly",
    "He has no headache, but his face is drooping on one side and his speech is slurred",
    "Not sick, not hot, yet suddenly her left arm is weak",
    "She denies chest pain; she is vomiting blood",
    "no temp, no cough, however he is unresponsive",
    "There is no bleeding now though he passed out twice with his heart racing",
    "No allergies that we know of. Now her tongue is swelling after the prawns",
    "Without any warning he collapsed and his lips are blue",
    "It doesn't hurt, it's just that I can't pee and my back pain is worse and I'm numb between my legs",
    "never had asthma, but now he's struggling to breathe",
]
CANNOT_RULE_OUT = [
    "Cannot rule out sepsis in my patient, she is confused",
    "we can't rule out a stroke, her mouth is drooping",
    "Meningitis has not been ruled out: fever of 39 and a stiff neck",
    "PE not excluded; sudden pleuritic pain, breathless, calf swollen since the flight",
    "They could not exclude anaphylaxis in my son",
    "unable to rule out cauda equina: back pain and saddle numbness",
    "Cannot fully exclude a thunderclap headache, the worst headache of his life",
    "cannot exclude an overdose in my daughter",
    "my GP cannot rule out testicular torsion, severe pain since I woke",
    "Pt: can't rule out ruptured aneurysm, sudden tearing pain to the back, BP falling",
]
NEGATIVE_AND_POSITIVE = [
    "Negative for DVT, positive for sepsis, she is my patient",
    "negative for stroke an hour ago, now suddenly her right arm is weak",
    "My husband is negative for flu; he has crushing chest pain and sweating",
    "Neg for malaria, positive for meningitis signs: fever 39.5, stiff neck",
    "Pregnancy test was negative, but she was stabbed just now in the belly",
    "Troponin negative. He is not breathing",
    "negative for covid, unresponsive since noon",
    "Scan normal on Sunday. Today he had a seizure for ten minutes and he won't wake",
    "-ve for strep, now drooling, muffled voice and noisy breathing, throat closing, can't swallow",
    "CT was negative yesterday. She hit her head again today and is vomiting and drowsy",
]
A_RELATIVE_REPORTS = [
    "My wife saw the seizure, it has lasted ten minutes",
    "His mother says he is not breathing",
    "Brother reports that he took a whole bottle of paracetamol",
    "According to her daughter she cannot be woken",
    "Grandad told us that he is vomiting blood",
    "Her sister noticed that her face is drooping on one side",
    "Dad found him unconscious in the garage",
    "My flatmate says she wants to kill herself",
    "The neighbour heard him choking and now he's blue",
    "Son says mum's left arm went weak all of a sudden",
]
NO_SPACE_AFTER_A_FULL_STOP = [
    "No fever.Chest pain going into the left arm",
    "we had no cough.he is not breathing",
    "not hot.her face is drooping on one side",
    "no vomiting.She took a whole pack of pills",
    "never fitted before.having a seizure now,my son",
    "doesn't drink.He's throwing up blood",
    "no rash.stiff neck and a fever of 39",
    "No trauma.suddenly can't move the left arm,numb",
    "temp is 37.no headache.unconscious since 5pm",
    "hasn't fallen.won't wake up",
]
TEN_TIMES_OFF = [
    "I gave 50 mg of morphine instead of 5 mg",
    "She took methotrexate 25 mg, it should have been 2.5 mg",
    "nurse injected 100 units rather than 10 units",
    "He was given ten times the dose of his digoxin",
    "I misread the syringe and gave 5 ml, it was meant to be 0.5 ml",
    "Toddler had 10x the amount of paracetamol prescribed",
    "drew up 40 units, supposed to be 4 units, and injected it",
    "Took 1.25 mg not the 0.125 mg of digoxin by mistake",
    "a tenfold dose of his oxycodone was given",
    "received 300 mg by mistake, prescribed 30 mg",
    "The chart says six units and she drew up sixty",
    "label said 2 ml, the sitter gave 20 ml",
    "gave the baby 4ml not 0.4ml",
]
NO_SUCH_DOSE = [
    "I have taken 20 mg tablets for years",
    "Take 5 mg in the morning and 50 mg at night",
    "My dose went from 2.5 mg to 25 mg over a year, all is well",
    "Is 10 mg better than 100 mg?",
    "She takes 500 mg rather than 250 mg",
    "I should have 40 mg but was given 20 mg",
    "he had 5 ml instead of 10 ml",
    "They make 30 mg and 300 mg capsules",
    "ten times a day I wash my hands",
    "The letter says 20 mg and I took one at 8",
    "took 2 tablets, and usually 20 minutes later it eases",
    "The ward gave 4 units, then 6 units",
]
EITHER_SIDE = [
    "suddenly my left arm is weak",
    "suddenly my right arm is weak",
    "all of a sudden the lt leg went numb",
    "all of a sudden the rt leg went numb",
    "her left face is drooping",
    "her right face is drooping",
    "can't move the left hand since this morning",
    "can't move the right hand since this morning",
    "L side weak, new onset, then the R side as well",
    "lost the sight of the left eye suddenly, now the right one too",
]
MEANT_OTHERWISE = [
    "It is odd that I have taken this tablet twice a day",
    "stabbing pain in my heel when I get up",
    "Is he fit to fly after his operation?",
    "I have taken 20 mg tablets of citalopram",
    "My collapsed arch hurts, which insoles?",
    "I want to disappear from social media",
    "what a stroke of luck, my bus was late",
    "This deadline is giving me a heart attack",
    "I nearly choked laughing at his tie",
    "we are drowning in paperwork, she says",
]
ALL_DENIED = [
    "no fever, no stiff neck, no rash, she is playing",
    "No chest pain, arm pain or sweating, just here for my repeat",
    "not suicidal, just tired",
    "He denies chest pain, jaw pain or breathlessness",
    "no bleeding, no clots, not faint, 30 weeks pregnant and well",
    "stroke was ruled out, she is home",
    "She isn't vomiting blood and her stool is brown",
    "my son never had a seizure",
    "no sudden weakness of the left arm",
    "without fever or neck stiffness, he slept well",
]
LONG_AGO = [
    "I had a seizure last year",
    "My husband had a heart attack in 2009",
    "she took an overdose when I was at school, years ago",
    "he was stabbed in 1998",
    "Last year my baby had a fever of 39",
    "two years ago I was vomiting blood",
    "In 2015 my face was drooping on one side",
    "I was unconscious for a week in 2003, long ago",
    "as a child I was choking on a grape once, my mum says",
    "He had sepsis four years ago",
]


@pytest.mark.parametrize(
    "text",
    [
        *SIGN_BESIDE_A_DENIAL,
        *CANNOT_RULE_OUT,
        *NEGATIVE_AND_POSITIVE,
        *A_RELATIVE_REPORTS,
        *NO_SPACE_AFTER_A_FULL_STOP,
        *TEN_TIMES_OFF,
        *EITHER_SIDE,
    ],
)
def test_a_sign_that_stands_in_the_text_is_read(text):
    assert red_flags(text)


@pytest.mark.parametrize("text", [*MEANT_OTHERWISE, *ALL_DENIED, *LONG_AGO, *NO_SUCH_DOSE])
def test_words_of_a_sign_that_say_something_else_fire_nothing(text):
    assert red_flags(text) == ()


@pytest.mark.parametrize("text", TEN_TIMES_OFF)
def test_a_dose_that_is_ten_times_another_is_named(text):
    assert WRONG_DOSE in red_flags(text)


@pytest.mark.parametrize("text", LONG_AGO)
def test_the_same_sign_counts_when_it_is_there_again(text):
    assert red_flags(f"{text}. Now she is not breathing.")
