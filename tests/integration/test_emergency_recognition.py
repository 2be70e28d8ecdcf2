"""Emergencies recognised with the real encoder and the head that ships: what is read, what is measured, what is said."""

import csv
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from medx_core.cli.router import app
from medx_core.data.emergency_lines import ENGLISH_ONLY
from medx_core.data.emergency_messages import bundled_messages, messages_sha256
from medx_core.errors import BadInput, RouterUnavailable
from medx_core.routing.embedding_router import load_embedding_router
from medx_core.routing.emergencies import (
    WHOLE_WORDS,
    detect,
    emergency_head_path,
    find_emergency_head,
    load_emergency_head,
    save_emergency_head,
    windows,
)
from medx_core.routing.emergency_training import rules_sha256, train_emergency_head
from medx_core.routing.encoder_files import WHEEL_ENCODER, encoder_folder, folder_sha256
from medx_core.routing.encoders import load_encoder
from medx_core.routing.heads import shipped_heads
from medx_core.settings import settings

MESSAGES = [
    (
        "nan's gone all floppy on one side and she's talking daft, started while I was making the tea",
        "1",
        "stroke",
    ),
    ("The exhibition about the history of ambulances opens on Saturday, tickets at the door.", "0", "stroke"),
    ("Ate a prawn and now her lips are like sausages and she can hardly get a breath in", "1", "anaphylaxis"),
    ("I need a repeat of my hay fever spray please, I'm well.", "0", "anaphylaxis"),
    ("He keeps saying strange things", "", ""),
]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDX_HOME", str(tmp_path))
    monkeypatch.delenv("MEDX_ROUTER_ENCODER", raising=False)
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


@pytest.fixture(scope="module")
def router(tmp_path_factory):
    return load_embedding_router(WHEEL_ENCODER, tmp_path_factory.mktemp("none"), few_texts=True)


def measured(path, rows, *, columns=("text", "emergency", "kind")):
    with path.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([columns, *rows])
    done = CliRunner().invoke(app, ["flags", "--data", str(path), "--json", "-"], catch_exceptions=False)
    return json.loads(done.stdout)


def test_the_head_that_ships_was_trained_on_the_bundled_messages_with_the_rules_of_today():
    sha256 = folder_sha256(encoder_folder(WHEEL_ENCODER))
    head = load_emergency_head(emergency_head_path(shipped_heads(), sha256), encoder_sha256=sha256)
    assert head.provenance.data_sha256 == messages_sha256(bundled_messages())
    assert head.provenance.training["rules_sha256"] == rules_sha256()
    assert min(head.rule, head.whole, head.window) > 0
    for writer, counts in head.provenance.figures["unseen_writers"].items():
        # Writer g was asked for what earlier heads missed: suicide told by what is left behind, wrong doses.
        assert counts["recognised"] > (0.8 if writer == "g" else 0.95) * counts["emergencies"]
        assert counts["false_alarms"] < 0.17 * counts["look_alikes"]


def test_rates_have_intervals_and_every_item_says_why(home):
    figures = measured(home / "messages.csv", MESSAGES)
    assert figures["sensitivity"]["value"] == 1.0
    assert 0 < figures["sensitivity"]["low"] < figures["sensitivity"]["high"] == 1.0
    assert figures["false_alarm_rate"] | {"high": 0} == {"value": 0.0, "low": 0.0, "high": 0, "n": 2}
    assert set(figures["by_kind"]) == {"stroke", "anaphylaxis"}
    assert [item["emergency"] for item in figures["items"]] == [1, 0, 1, 0, None]
    assert all("flagged from" in item["why"] for item in figures["items"])
    assert figures["detector"].startswith("rules and a learned part")


def test_a_rate_that_no_row_can_give_is_null_with_its_reason(home):
    figures = measured(home / "messages.csv", [["He is not breathing"]], columns=["text"])
    assert figures["sensitivity"] is None
    assert figures["false_alarm_rate"] is None
    assert "no row is labelled 1" in figures["reasons"]["sensitivity"]
    assert figures["items"][0]["flag"] is True


def test_without_the_encoder_the_rules_decide_alone_and_say_so(home, monkeypatch):
    monkeypatch.setattr("medx_core.routing.encoder_files.WHEEL_PACKAGE", "not_installed_here")
    figures = measured(
        home / "messages.csv", [("He is not breathing", "1"), ("Hello", "0")], columns=("text", "emergency")
    )
    assert figures["detector"] == "rules alone"
    assert [item["flag"] for item in figures["items"]] == [True, False]
    assert "The rules decide alone" in figures["items"][0]["why"]


def test_a_text_in_another_language_says_that_it_cannot_be_read(home):
    text = "Mein Vater hat einen hängenden Mundwinkel und kann den Arm nicht mehr heben"
    assert ENGLISH_ONLY in measured(home / "messages.csv", [[text]], columns=["text"])["items"][0]["why"]


def test_the_file_that_is_read_is_not_written_over(home):
    path = home / "messages.csv"
    path.write_text("text\nHello\n", encoding="utf-8")
    with pytest.raises(BadInput, match="the file that is read"):
        CliRunner().invoke(app, ["flags", "--data", str(path), "--json", str(path)], catch_exceptions=False)


def test_a_sign_at_the_end_of_a_text_longer_than_the_encoder_reads_is_flagged(router):
    story = "We were on holiday and the weather was lovely. " * 60
    assert router.route([story])[0].red_flag is False
    assert router.route([f"{story}Now she is not breathing."])[0].red_flag is True


ERRAND = "I would like to move my blood test from Thursday to Friday, as the car is at the garage. The letter says to bring the old form."


def test_a_sign_beside_sentences_about_something_else_is_read_in_a_window_of_its_own(router):
    sign = (
        "My husband dropped his cup an hour ago and his words come out as porridge. He cannot lift that arm."
    )
    texts = [f"{ERRAND} {sign} {ERRAND}", f"{ERRAND} We are both well. {ERRAND}"]
    assert [route.red_flag for route in router.route(texts)] == [True, False]
    assert f"{sign}" in windows(texts[0])


@pytest.mark.parametrize(
    ("text", "flagged"),
    [
        # denial, dose and side in one text: the denied sign on one side, the dose, and the real sign on the other
        (
            "No rash and no swelling of the right leg. The ward gave 10 mg instead of 1 mg of his blood thinner, "
            "and suddenly his left arm is numb.",
            True,
        ),
        (
            "Nobody could rule out a clot; she is out of breath and her left calf is swollen since the flight.",
            True,
        ),
        (
            "Negative for covid.Positive for worry: he hit his head, no bruise, but he is vomiting and drowsy.",
            True,
        ),
        ("No numbness of the left or the right arm, and the dose of 5 mg was given as prescribed.", False),
        ("His 50 mg tablet was changed to 25 mg last year. No dizziness, no pain on either side.", False),
    ],
)
def test_denial_side_and_dose_are_read_together(router, text, flagged):
    assert router.route([text])[0].red_flag is flagged


def test_in_few_words_a_rule_that_fires_decides_alone(router):
    text = "Can't finish sentences, inhaler not working"
    (detection,) = detect([text], router.encoder.encode([text]), router.emergency, router.encoder.encode)
    assert detection.flag
    assert detection.rules


def test_a_short_text_is_read_once(router):
    reads = []

    class Counting:
        sha256, width = router.encoder.sha256, router.encoder.width

        def encode(self, texts):
            reads.append(len(texts))
            return router.encoder.encode(texts)

    type(router)(Counting(), router.head, None, router.emergency).route(["He fell. He is up. He is well."])
    assert reads == [1]
    assert windows("word " * WHOLE_WORDS) == ()


def test_whoever_asks_whether_it_is_an_emergency_is_shown_the_line(router):
    (route,) = router.route(["The rash is small and itchy since Monday. Is that an emergency?"])
    assert route.red_flag


def test_a_flagged_text_keeps_its_flag_where_the_router_abstains(router):
    (route,) = type(router)(router.encoder, router.head, 1.1, router.emergency).route([MESSAGES[0][0]])
    assert route.abstained
    assert route.red_flag


def test_a_head_is_stored_whole_and_refused_for_another_encoder(router, tmp_path):
    head = router.emergency
    path = emergency_head_path(tmp_path, router.encoder.sha256)
    save_emergency_head(head, path)
    texts = [text for text, _, _ in MESSAGES]
    embeddings = router.encoder.encode(texts)
    stored = find_emergency_head(tmp_path, router.encoder.sha256)
    encode = router.encoder.encode
    assert detect(texts, embeddings, stored, encode) == detect(texts, embeddings, head, encode)
    with pytest.raises(RouterUnavailable, match="another encoder"):
        load_emergency_head(path, encoder_sha256="0" * 64)


@pytest.mark.slow
def test_training_makes_the_head_that_ships(router):
    made = train_emergency_head(bundled_messages(), load_encoder())
    assert made.parts.vocabulary.terms == router.emergency.parts.vocabulary.terms
    assert made.alone == router.emergency.alone
    assert made.threshold == pytest.approx(router.emergency.threshold, abs=0.01)
    texts = [message.text for message in bundled_messages()[::40]]
    embeddings = router.encoder.encode(texts)
    fired = [()] * len(texts)
    np.testing.assert_allclose(
        made.probabilities(texts, embeddings, fired, router.encoder.encode),
        router.emergency.probabilities(texts, embeddings, fired, router.encoder.encode),
        atol=0.02,
    )
