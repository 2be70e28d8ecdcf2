"""`medx router` from training to explaining on a few of the bundled texts, and the head that ships; the real encoder."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from medx_core.cli.router import app
from medx_core.data.emergency_messages import bundled_messages
from medx_core.data.routing_texts import training_texts
from medx_core.errors import BadInput
from medx_core.routing.embedding_router import EmbeddingRouter
from medx_core.routing.encoder_files import WHEEL_ENCODER, encoder_folder, folder_sha256
from medx_core.routing.encoders import load_encoder
from medx_core.routing.heads import head_path, load_head, save_head, shipped_heads
from medx_core.routing.router import LABELS, label_indices, texts_sha256
from medx_core.routing.tfidf import learn_vocabulary
from medx_core.routing.training import train_embedding_router
from medx_core.settings import Settings, settings

SHORT = sorted(training_texts(), key=lambda text: (len(text.text), text.text))
FEW_TEXTS = [
    text for kind in LABELS for text in [t for t in SHORT if (t.category or "none") == kind][20:260:8]
]
FEW_MESSAGES = sorted(bundled_messages(), key=lambda message: len(message.text))[:960:24]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home of these tests' own, where training reads few and short texts: the commands are at issue, not the figures."""
    with pytest.MonkeyPatch.context() as environment:
        folder = tmp_path_factory.mktemp("home")
        environment.setenv("MEDX_HOME", str(folder))
        environment.delenv("MEDX_ROUTER_ENCODER", raising=False)
        environment.setattr("medx_core.cli.router.training_texts", lambda: FEW_TEXTS)
        environment.setattr("medx_core.cli.router.bundled_messages", lambda: FEW_MESSAGES)
        settings.cache_clear()
        yield folder
    settings.cache_clear()


@pytest.fixture(scope="module")
def trained(home):
    return _run("train").output


@pytest.fixture
def untrained(home, monkeypatch, tmp_path):
    """A home without a head of its own, where all bundled texts are read."""
    monkeypatch.setattr("medx_core.cli.router.settings", lambda: Settings(home=tmp_path))
    monkeypatch.setattr("medx_core.cli.router.training_texts", training_texts)
    monkeypatch.setattr("medx_core.cli.router.bundled_messages", bundled_messages)
    return tmp_path


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    path = tmp_path_factory.mktemp("questions") / "questions.csv"
    with path.open("w", encoding="utf-8", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["question", "category", "source"])
        rows.writerow(["Is this worth a trip to the walk-in centre tonight?", "triage", "one"])
        rows.writerow(["Is periodontitis associated with stroke in cohort studies?", "literature", "two"])
        rows.writerow(["Which foods should I leave out with gallstones?", "patient-facing", "two"])
    return path


def _run(*arguments):
    result = CliRunner().invoke(app, list(arguments))
    assert result.exception is None, result.output
    return result


def test_training_stores_a_head_and_is_not_repeated_while_the_texts_are_the_same(home, trained):
    heads = sorted((home / "routers").glob("*.safetensors"))
    assert len(heads) == 2
    assert all(str(head) in trained for head in heads)
    written = [head.stat().st_mtime_ns for head in heads]
    assert "is trained" in _run("train", "--missing").output
    assert [head.stat().st_mtime_ns for head in heads] == written
    known = json.loads(_run("show").output)
    assert (known["texts"], known["origin"]) == (len(FEW_TEXTS), "trained here")


@pytest.fixture(scope="module")
def encoder():
    return load_encoder()


@pytest.fixture(scope="module")
def shipped(encoder):
    return load_head(head_path(shipped_heads(), encoder.sha256), encoder_sha256=encoder.sha256)


def test_the_head_that_ships_was_trained_on_the_texts_of_today_as_training_is_today(home, trained, shipped):
    made = load_head(head_path(home / "routers", shipped.provenance.encoder_sha256))
    texts = training_texts()
    words = [text.text for text in texts]
    assert shipped.provenance.data_sha256 == texts_sha256(texts)
    assert shipped.provenance.training == made.provenance.training
    assert shipped.provenance.seed == made.provenance.seed
    assert shipped.vocabulary.terms == learn_vocabulary(words).terms
    validation = shipped.provenance.validation
    assert validation["n"] > 1_000
    assert validation["accuracy"] > 0.9


def test_the_meaning_of_a_text_tells_the_head_that_ships_its_category(encoder, shipped):
    some = training_texts()[::40]
    logits = shipped.meaning.logits(encoder.encode([text.text for text in some]))
    assert (logits.argmax(axis=1) == label_indices(some)).mean() > 0.9


@pytest.mark.slow
def test_training_on_all_texts_makes_the_head_that_ships(encoder, shipped):
    made = train_embedding_router(training_texts(), encoder)
    assert made.vocabulary.terms == shipped.vocabulary.terms
    assert shipped.temperature == pytest.approx(made.temperature, rel=0.05)
    assert shipped.threshold == pytest.approx(made.threshold, abs=0.01)
    texts = [text.text for text in training_texts()[::40]]
    embeddings = encoder.encode(texts)
    both = [EmbeddingRouter(encoder, head).scores_of(texts, embeddings) for head in (shipped, made)]
    np.testing.assert_allclose(both[0][0], both[1][0], atol=0.01)
    np.testing.assert_allclose(both[0][1], both[1][1], atol=0.01)


def test_without_training_the_head_that_ships_is_in_use(untrained):
    assert "is trained" in _run("train", "--missing").output
    assert not list(untrained.rglob("*.safetensors"))
    assert json.loads(_run("show").output)["origin"] == "ships with MedX"


def test_evaluating_reads_the_held_out_texts_as_out_of_scope(untrained, questions):
    out = untrained / "figures.json"
    _run("evaluate", "--data", str(questions), "--json", str(out))
    figures = json.loads(out.read_text(encoding="utf-8"))
    assert figures["accuracy"] == 1.0
    assert figures["by_source"] == {"one": {"n": 1, "accuracy": 1.0}, "two": {"n": 2, "accuracy": 1.0}}
    assert figures["out_of_scope"]["n"] == 80
    assert figures["out_of_scope"]["auroc"] > 0.9


def test_the_baseline_is_measured_with_the_same_command(home, questions):
    figures = json.loads(_run("evaluate", "--data", str(questions), "--router", "rules").output)
    assert figures["router"] == "rules"
    assert figures["n"] == 3


def test_explaining_names_the_route_its_neighbours_and_its_red_flags(trained):
    explanation = json.loads(
        _run("explain", "My 5 week old has a fever of 38.5, go in now?", "--json").output
    )
    assert explanation["category"] == "triage"
    assert explanation["red_flags"] == ["young baby with fever"]
    assert explanation["nearest"][0]["category"] == "triage"
    assert len(explanation["nearest"]) == 5


def test_there_is_nothing_to_explain_about_an_empty_question(home):
    with pytest.raises(BadInput, match="The question is empty"):
        CliRunner().invoke(app, ["explain", "  "], catch_exceptions=False)


def test_a_head_trained_with_questions_of_ones_own_is_not_replaced_by_one_without(home, trained):
    added = home / "added.csv"
    added.write_text("question,category\nPflegestufe beantragen: wer hilft mir?,none\n", encoding="utf-8")
    assert f"{len(FEW_TEXTS) + 1} texts" in _run("train", "--with", str(added)).output
    path = head_path(home / "routers", folder_sha256(encoder_folder(WHEEL_ENCODER)))
    known = json.loads(_run("show").output)
    assert (known["texts"], known["added_texts"]) == (len(FEW_TEXTS) + 1, 1)
    written = path.read_bytes()
    assert "is trained" in _run("train", "--missing").output
    assert "is trained" in _run("train", "--missing", "--with", str(added)).output
    assert path.read_bytes() == written

    head = load_head(path)
    save_head(replace(head, provenance=replace(head.provenance, bundled_sha256="0" * 64)), path)
    written = path.read_bytes()
    assert "it is kept" in _run("train", "--missing").output
    assert path.read_bytes() == written


@pytest.mark.parametrize(
    ("options", "said"), [([], "`source` in every row"), (["--router", "rules"], "rules is not an encoder")]
)
def test_leaving_sources_out_needs_sources_and_an_encoder(home, options, said):
    file = home / "no-source.csv"
    file.write_text("question,category\nIs it urgent?,triage\n", encoding="utf-8")
    with pytest.raises(BadInput, match=said):
        CliRunner().invoke(
            app, ["evaluate", "--leave-one-source-out", "--data", str(file), *options], catch_exceptions=False
        )
