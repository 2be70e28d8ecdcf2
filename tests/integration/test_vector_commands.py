"""`medx vectors` on a tiny model saved in a folder: from statements to a vector in use, out to GGUF and back."""

import csv
import json
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from medx_core.categories import Category
from medx_core.cli.app import app
from medx_core.cli.vectors import comparisons
from medx_core.errors import BadInput, NotFound, RecipeUnusable, VectorRefused
from medx_core.fitting.build import ResumableBuild
from medx_core.fitting.spec import FitSpec
from medx_core.settings import settings
from medx_core.steering.gate import Gate
from medx_core.steering.steering_vector import SteeringVector
from medx_core.storage.vectors import VectorRecord
from medx_core.traces.checking import KEPT
from medx_core.traces.prompt_checks import CHAT_PROMPTS
from tests.language_models import WIDTH

WORDS = ("heart", "kidneys", "blood", "insulin", "glucose")
KINDS = ("triage", "literature")


def write_statements(file, rows: Sequence[tuple[str, bool, str]]) -> str:
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["statement", "answer", "category"])
        writer.writerows(rows)
    return str(file)


def statements(kind: str, *, answers: Sequence[bool]) -> list[tuple[str, bool, str]]:
    """Statements of a category that share too few words to be near copies."""
    rows = enumerate(answers)
    return [
        (f"{kind} {WORDS[i % 5]} n{i} {'pumps' if truth else 'raises'} m{i} k{i}.", truth, kind)
        for i, truth in rows
    ]


MIXED = [i % 2 == 1 for i in range(50)]


@pytest.fixture
def medx(tiny_home):
    """Run `medx vectors ...` with a home and a tiny model of this test's own."""

    def run(*arguments: object):
        return CliRunner().invoke(app, ["vectors", *map(str, arguments)])

    return run


@pytest.fixture
def recipes(tiny_home):
    """Run `medx recipes ...` in the same home."""

    def run(*arguments: object):
        return CliRunner().invoke(app, ["recipes", *map(str, arguments)])

    return run


@pytest.fixture
def data(tmp_path) -> str:
    rows = [row for kind in KINDS for row in statements(kind, answers=MIXED)]
    return write_statements(tmp_path / "statements.csv", rows)


def said(done) -> str:
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def batches_left(tmp_path) -> list:
    return sorted((tmp_path / "home" / "traces").rglob("*.safetensors"))


def test_a_vector_is_built_looked_at_put_to_use_and_taken_out_again(medx, recipes, data, tmp_path):
    built = said(medx("build", "--data", data, "--examples", 12))
    assert "triage v1: part of the built-in recipe, 12 statements" in built
    assert "literature v1: part of the built-in recipe" in built
    gated = medx(
        *("build", "--data", data, "--category", "triage", "--strategy", "gated", "--layer", 1, "--alpha", 2),
        *("--positions", "all"),
    )
    assert "triage v2: candidate" in said(gated)
    assert "MEDX_GATED_TEXT" in gated.stderr

    listed = json.loads(said(medx("list", "--json")))["vectors"]
    number = {vector["name"]: vector["id"] for vector in listed}
    assert set(number) == {"triage v1", "triage v2", "literature v1"}
    assert "reading answer word, 12 pairs" in said(medx("list"))
    shown = json.loads(said(medx("show", number["triage v2"])))
    made = shown["provenance"]
    assert (made["reading"], made["positions"], made["pairs"], made["fitted_on"]) == (
        "statement",
        "all",
        40,
        "statements",
    )
    assert len(made["data_sha256"]) == 64
    assert made["prompt_version"]
    assert made["created_at"] > "2026"

    checked = json.loads(said(medx("check", "--json")))
    (alike,) = checked["cosines"]
    assert (alike["strategy"], alike["layer"]) == ("mean_difference", 1)
    assert alike["cosines"]["triage v1"].keys() == {"triage v1", "literature v1"}
    asked = medx("promote", number["triage v2"])
    assert isinstance(asked.exception, BadInput), "without an answer nothing is promoted"
    promoted = medx("promote", number["triage v2"], "--yes")
    assert "triage v2 is in use" in said(promoted)
    assert "paper with triage v2" in promoted.stderr
    assert "not evaluated" in promoted.stderr
    apart = said(medx("check"))
    assert "no two active vectors are of one model, one strategy and one layer" in apart
    assert "reading statement, 40 statements" in apart

    said(recipes("rollback"))
    (tmp_path / "home" / "vectors" / shown["file"]).unlink()
    refused = medx("promote", number["triage v2"], "--yes")
    assert isinstance(refused.exception, VectorRefused)
    assert "cannot be read" in str(refused.exception)
    missing = json.loads(said(medx("show", number["triage v2"])))
    assert missing["provenance"] is None
    assert "of triage v2 cannot be read" in missing["file_fault"]
    status = {
        vector["name"]: vector["status"] for vector in json.loads(said(medx("list", "--json")))["vectors"]
    }
    assert status == {"triage v1": "active", "triage v2": "candidate", "literature v1": "active"}

    for name in ("triage v1", "literature v1"):
        assert f"{name} is retired" in said(medx("retire", number[name], "--yes"))
    assert isinstance(medx("check").exception, NotFound)


def test_a_recipe_is_put_together_from_parts_and_checked(medx, recipes, data, tmp_path):
    said(medx("build", "--data", data, "--examples", 12))
    prompt = "verdict-statement-true-false-2shot-v1"
    parts = ("--without", "literature", "--prompt", prompt, "--threshold", 0.5)
    made = json.loads(said(recipes("build", "mine", *parts, "--json")))
    assert (made["status"], made["threshold"], list(made["steering"])) == ("candidate", 0.5, ["triage"])
    assert (made["prompt"]["version"], made["question_prompt"]["version"]) == (
        prompt,
        "verdict-question-true-false-2shot-v1",
    )
    assert json.loads(said(recipes("show", "mine")))["id"] == made["id"]
    for refused, why in (
        (("build", "mine"), "the name is taken"),
        (("build", "paper"), "the name is taken"),
        (("build", "again", *parts), "This is the recipe mine"),
        (("build", "other", "--prompt", "none"), "There is no prompt"),
        (("build", "other", "--without", "patient-facing"), "does not steer"),
    ):
        assert why in str(recipes(*refused).exception)
    assert "ok  vector for triage: triage v1" in said(recipes("check", "mine"))
    vectors = json.loads(said(medx("list", "--json")))["vectors"]
    (
        tmp_path / "home" / "vectors" / next(each["file"] for each in vectors if each["name"] == "triage v1")
    ).unlink()
    checked = recipes("check", "mine", "--json")
    assert (checked.exit_code, json.loads(checked.stdout)["ok"]) == (1, False)
    assert isinstance(recipes("promote", "mine", "--yes").exception, VectorRefused)
    listed = json.loads(said(recipes("list", "--json")))["recipes"]
    assert {each["name"]: each["status"] for each in listed} == {"mine": "candidate", "paper": "built-in"}


def test_the_check_of_a_recipe_names_a_prompt_that_the_model_refuses(recipes, tiny_home):
    (memory,) = tiny_home.rglob(KEPT)
    kept = json.loads(memory.read_text())
    for found in kept.values():
        found["can"]["chat_verdict"] = False
    memory.write_text(json.dumps(kept))
    said(recipes("build", "plain", "--threshold", 0.5))
    assert "ok  prompt verdict-statement-" in said(recipes("check", "plain"))
    prompt = CHAT_PROMPTS[0].version
    said(recipes("build", "chat", "--prompt", prompt))
    done = recipes("check", "chat")
    assert done.exit_code == 1
    assert f"NO  prompt {prompt}: The model" in done.output
    assert "gives no verdicts in its chat template here" in done.output
    said(recipes("promote", "plain", "--yes"))
    refused = str(recipes("promote", "chat", "--yes").exception)
    assert "cannot answer here, so nothing was promoted: The model" in refused
    assert "gives no verdicts in its chat template here" in refused
    assert (
        json.loads(said(recipes("list", "--json")))["answering"]
        == json.loads(said(recipes("show", "plain")))["id"]
    )


def test_a_recipe_in_use_that_was_edited_in_the_database_stops_the_commands_in_one_sentence_until_it_is_retired(
    recipes, tiny_home
):
    said(recipes("build", "mine", "--threshold", 0.5))
    said(recipes("promote", "mine", "--yes"))
    with sqlite3.connect(tiny_home / "medx.sqlite3") as database:
        database.execute("UPDATE recipe SET content = replace(content, '0.5', '0.7') WHERE name = 'mine'")
    listed = json.loads(said(recipes("list", "--json")))
    assert (listed["answering"], len(listed["damaged"])) == (None, 1)
    assert "The recipe in use, mine (" in listed["refused"]
    assert "its row was changed in the database" in listed["refused"]
    for arguments in (("ask", "Is it safe?"), ("ask", "Is it safe?", "--local")):
        assert str(CliRunner().invoke(app, [*arguments]).exception) == listed["refused"]
    for command in ("show", "check", "promote"):
        assert "is not used: its row was changed" in str(recipes(command, "mine").exception)
    assert "mine (" in said(recipes("retire", "mine"))
    assert json.loads(said(recipes("list", "--json")))["refused"] == ""


def test_a_recipe_for_another_configuration_is_not_promoted_and_in_use_it_stops_the_commands(
    medx, recipes, data, tiny_home
):
    said(medx("build", "--data", data, "--category", "triage", "--examples", 12))
    said(recipes("build", "mine", "--threshold", 0.5))
    said(recipes("promote", "mine", "--yes"))
    configuration = Path(os.environ["MEDX_MODEL"]) / "config.json"
    as_it_was = configuration.read_text()
    configuration.write_text(as_it_was.replace("{", '{"rope_note": "another", ', 1))
    said(recipes("build", "fits", "--from", "mine", "--threshold", 1))
    assert "another tokenizer, chat template or configuration" in str(
        recipes("promote", "fits", "--yes").exception
    )
    listed = json.loads(said(recipes("list", "--json")))
    assert (listed["answering"], [each["answers"] for each in listed["recipes"]]) == (None, [False] * 2)
    assert "The recipe in use, mine (" in listed["refused"]
    assert listed["refused"] in said(recipes("list"))
    for asked in (
        ("ask", "Is it safe?"),
        ("ask", "Is it safe?", "--local"),
        ("batch", data, "-o", "out.csv"),
    ):
        done = CliRunner().invoke(app, [*map(str, asked)])
        assert isinstance(done.exception, RecipeUnusable), done.output
        assert str(done.exception) == listed["refused"]
    said(recipes("rollback"))
    assert "* answers for the model in use." in said(recipes("list"))


def test_a_vector_travels_to_gguf_and_back_and_no_way_leads_back_to_a_changed_file(medx, data, tmp_path):
    said(medx("build", "--data", data, "--category", "triage", "--examples", 12, "--alpha", 2))
    said(medx("build", "--data", data, "--category", "triage", "--examples", 12))
    first, second = sorted(
        json.loads(said(medx("list", "--json")))["vectors"], key=lambda vector: vector["id"]
    )
    assert [first["status"], second["status"]] == ["candidate", "active"]
    said(medx("promote", first["id"], "--yes"))
    both = [argument for vector in (first, second) for argument in ("--vector", vector["id"])]
    tried = json.loads(said(medx("explore", "The heart pumps blood.", *both, "--strength", "-0.5", "--json")))
    steered, unsteered = tried["answers"]
    assert (steered["vector"], steered["alpha"], steered["recipe"]) == ("triage v1 + triage v2", -1.0, None)
    assert steered["dose"] > 0
    assert steered["score"] != unsteered["score"]
    exported = said(medx("export", first["id"], "-o", tmp_path / "v.gguf"))
    assert "direction for layer 1" in exported
    assert "Verdicts: decode the prompt without its last token, then set the vector" in exported
    imported = said(medx("import", tmp_path / "v.gguf", "--category", "triage"))
    assert "triage v3: " in imported
    assert "moves states by" in imported
    assert "made by another program" in said(medx("list"))
    with (tmp_path / "home" / "vectors" / second["file"]).open("ab") as file:
        file.write(b" ")
    refused = medx("promote", second["id"], "--yes")
    assert isinstance(refused.exception, VectorRefused)
    assert "was changed after triage v2 was registered" in str(refused.exception)
    now = {vector["id"]: vector["status"] for vector in json.loads(said(medx("list", "--json")))["vectors"]}
    assert now[first["id"]] == "active"


def test_a_build_that_failed_half_way_goes_on_without_a_second_version(medx, tmp_path, monkeypatch):
    """The second category cannot be fitted, so that the build never comes to its end."""
    rows = statements("triage", answers=MIXED) + statements("literature", answers=[True] * 50)
    data = write_statements(tmp_path / "half.csv", rows)
    monkeypatch.setenv("MEDX_MAX_BATCH_ROWS", "5")
    settings.cache_clear()
    command = ("build", "--data", data, "--reading", "statement", "--examples", 20, "--resume")
    for _ in range(2):
        failed = medx(*command)
        assert isinstance(failed.exception, VectorRefused)
        assert len(batches_left(tmp_path)) == 2 * 20 / 5, "batches of as many rows as the settings say"
    assert "triage v1 was built before the interruption" in failed.output
    assert [vector["name"] for vector in json.loads(said(medx("list", "--json")))["vectors"]] == ["triage v1"]

    said(medx(*command, "--category", "triage", "--alpha", 2))
    assert len(json.loads(said(medx("list", "--json")))["vectors"]) == 2, (
        "another build, and so another version"
    )
    assert len(list((tmp_path / "home" / "traces").iterdir())) == 1, "what was finished is gone"


def test_a_file_larger_than_the_settings_allow_is_refused(medx, data, monkeypatch):
    monkeypatch.setenv("MEDX_MAX_FILE_ROWS", "10")
    settings.cache_clear()
    refused = medx("build", "--data", data)
    assert isinstance(refused.exception, BadInput)
    assert "10 rows" in str(refused.exception)


def test_a_build_is_another_one_for_other_weights_specifications_and_statements(tmp_path):
    part = ((), ())
    same = ResumableBuild.of(tmp_path, FitSpec(), "a", {Category.TRIAGE: part})
    assert same == ResumableBuild.of(tmp_path, FitSpec(), "a", {Category.TRIAGE: part})
    others = [
        ResumableBuild.of(tmp_path, FitSpec(seed=2), "a", {Category.TRIAGE: part}),
        ResumableBuild.of(tmp_path, FitSpec(), "b", {Category.TRIAGE: part}),
        ResumableBuild.of(tmp_path, FitSpec(), "a", {Category.LITERATURE: part}),
    ]
    assert len({stored.folder for stored in [same, *others]}) == 4


def in_use(number: int, **changes) -> tuple[VectorRecord, SteeringVector]:
    """An active vector of the category of that number."""
    made = SteeringVector(
        category=list(Category)[number],
        direction=torch.randn(WIDTH, generator=torch.Generator().manual_seed(number)),
        layer=1,
        model="tiny",
        model_sha256="cd" * 32,
        strategy="mean_difference",
        alpha=1.0,
        reading="answer_word",
        pairs=2,
        data_sha256="d",
        prompt_version="p",
        created_at="2026-01-01",
    )
    vector = replace(made, **changes)
    record = VectorRecord(
        *(vector.model, vector.model_sha256, vector.category, vector.layer, vector.alpha, "f", "s"),
        strategy=vector.strategy,
        name=f"{vector.category.value} v1",
    )
    return record, vector


def test_only_vectors_of_one_model_strategy_and_layer_are_compared():
    gates = [Gate(torch.ones(WIDTH) * (1 - 2 * number), 0.0) for number in range(2)]
    other = {"model": "other", "model_sha256": "ab" * 32, "strategy": "gated"}
    gated = [in_use(number, gate=gate, **other) for number, gate in enumerate(gates)]
    compared = comparisons([in_use(0), in_use(1), in_use(2, layer=0), *gated])
    assert [
        (comparison.model, comparison.strategy, sorted(comparison.cosines)) for comparison in compared
    ] == [
        ("tiny", "mean_difference", ["literature v1", "triage v1"]),
        ("other", "gated", ["literature v1", "triage v1"]),
    ]
    assert compared[0].cosines["triage v1"]["literature v1"] == pytest.approx(
        torch.nn.functional.cosine_similarity(in_use(0)[1].direction, in_use(1)[1].direction, dim=0).item()
    )
    assert compared[1].cosines["triage v1"]["literature v1"] == pytest.approx(-1, abs=1e-6), "of the gates"
