"""The line that names the model for what it is: measured, and dropped when the model, its recipe or the statements change."""

import pytest

from medx_core.evaluation import model_accuracy
from medx_core.evaluation.model_accuracy import measured_accuracy, model_line, shipped_accuracy
from medx_core.evaluation.sentences import NOT_EVALUATED
from medx_core.metric import Metric
from medx_core.questions import Answer, Arm, Verdict
from medx_core.storage.evidence import Evidence
from medx_core.storage.recipes import RecipeStore
from medx_core.storage.vectors import VectorRecord, VectorStore
from tests.recipes import IDENTITY, recipe

REPORT = {"model_name": "smollm2-135m", "parameters": 134_515_008}


def report(**changes):
    """What the engine of the default model reports."""
    shipped = shipped_accuracy()
    return REPORT | {"weight_sha256": shipped.model_sha256, "unsteered_recipe": shipped.recipe} | changes


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.49, 0.51, "about chance"), (0.51, 0.6, "better than chance"), (0.4, 0.49, "worse than chance")],
)
def test_the_line_gives_size_figure_interval_and_how_it_stands_to_guessing(low, high, words):
    accuracy = Metric(value=(low + high) / 2, low=low, high=high, n=580)
    line = model_line("m", 134_515_008, shipped_accuracy().model_copy(update={"accuracy": accuracy}))
    assert line.startswith("m (135 million parameters): without steering it answers ")
    assert f"({100 * low:.1f} to {100 * high:.1f}), {words}." in line
    assert "MEDX_MODEL" in line


def test_the_figure_that_ships_is_of_the_statements_that_ship(sqlite_database):
    line = Evidence(sqlite_database).of_model(report())
    assert "of the 580 bundled test statements right" in line


@pytest.mark.parametrize("changes", [{"unsteered_recipe": "0123456789ab"}, {"unsteered_recipe": ""}])
def test_another_model_or_recipe_has_no_figure(sqlite_database, changes):
    """A recipe's id names the model's weights, tokenizer and template, the number type and the prompts."""
    assert "not yet measured" in Evidence(sqlite_database).of_model(report(**changes))


def test_a_measurement_made_here_stands_until_the_statements_change(sqlite_database, monkeypatch):
    evidence, own = Evidence(sqlite_database), recipe()
    metric = Metric(value=0.75, low=0.7, high=0.8, n=580)
    changes = {"model_sha256": own.model_sha256, "recipe": own.id, "accuracy": metric}
    evidence.keep_accuracy(shipped_accuracy().model_copy(update=changes), owner="test")
    mine = report(weight_sha256=own.model_sha256, unsteered_recipe=own.id)
    assert "(70.0 to 80.0), better than chance" in evidence.of_model(mine)
    assert "about chance" in evidence.of_model(report())
    monkeypatch.setattr(model_accuracy, "bundled_test_sha256", lambda: "another")
    assert "not yet measured" in evidence.of_model(mine)
    assert "not yet measured" in evidence.of_model(report())


@pytest.mark.parametrize(
    ("verdict", "low", "high"), [(Verdict.TRUE, 0.48, 0.52), (Verdict.FALSE, 0.48, 0.52)]
)
def test_who_always_says_the_same_is_measured_at_chance(verdict, low, high):
    def verdicts(rows):
        assert all(row.arm is Arm.UNSTEERED for row in rows)
        return [
            Answer(row.arm, "m", "ab", "p", 0.1, raw_verdict=verdict, verdict=Verdict.UNCERTAIN)
            for row in rows
        ]

    accuracy = measured_accuracy(verdicts, on_progress=lambda *_: None)
    assert accuracy.n == 580
    assert low < accuracy.low <= 0.5 <= accuracy.high < high


def test_until_an_evaluation_the_finding_of_the_vectors_validation_stands(sqlite_database):
    gain = {"value": 0.002, "low": -0.015, "high": 0.019, "n": 144}
    record = VectorRecord(
        model="tiny", model_sha256=IDENTITY.sha256, category=None, layer=1, alpha=1.0, file="all.safetensors",
        file_sha256="cd" * 32, diagnostics={"validation_gain": gain},
    )  # fmt: skip
    VectorStore(sqlite_database).register(record)
    entry = {"file_sha256": "cd" * 32, "strategy": "mean_difference", "layer": 1, "strength": 1.0}
    steered = recipe(steering={"all": entry})
    RecipeStore(sqlite_database).keep(steered, name="mine", model="tiny")
    known = Evidence(sqlite_database).of(steered.id, IDENTITY.sha256)
    assert known.line.startswith(NOT_EVALUATED)
    assert "Not shown to help: +0.2 points of balanced accuracy" in known.line
    assert "144 held-out statements" in known.line
    assert not known.run
    plain = recipe()
    RecipeStore(sqlite_database).keep(plain, name="plain", model="tiny")
    assert Evidence(sqlite_database).of(plain.id, IDENTITY.sha256).line == NOT_EVALUATED
