"""A recipe that an evaluation saved gives, promoted and run as a file, the very verdicts that the evaluation had."""

import csv
import json
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from medx_core.answering import AnsweringEngine
from medx_core.categories import Category, Route
from medx_core.cli.app import app
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.data.problems import FileLimits
from medx_core.data.question_files import read_question_file
from medx_core.errors import BadInput, VectorRefused
from medx_core.evaluation.calibrated_arms import calibrated_arms, unseen_scores
from medx_core.evaluation.fit import fit_arms
from medx_core.evaluation.recipe_arm import arm_as_recipe, recipe_scores
from medx_core.evaluation.request import SAVABLE, EvaluationRequest
from medx_core.evaluation.runner import _model_arms
from medx_core.job_execution.dispatch import End, answer_here
from medx_core.jobs.submission import file_submission
from medx_core.questions import Arm, Mode, Verdict
from medx_core.settings import Settings
from medx_core.settings import settings as global_settings
from medx_core.storage.jobs import JobStore
from medx_core.traces.running import silent
from medx_core.traces.statement_runner import StatementRunner
from medx_core.vector_registry import VectorRegistry
from tests.language_models import tiny_model
from tests.small_evaluation import PARTS, PROMPT, quiet, write_statements

KINDS = (Category.TRIAGE, Category.LITERATURE)


def statements() -> list[LabelledStatement]:
    """Statements of two categories; what makes them TRUE is one word."""
    rows = []
    for number in range(140):
        truth = number % 2 == 0
        word = "pumps" if truth else "raises"
        text = f"The {PARTS[(number // 2) % len(PARTS)]} {word} the {PARTS[number % 5]} number {number // 2}."
        ending = "?" if number % 10 == 9 else ""
        rows.append(
            LabelledStatement(text + ending, truth, f"g{number // 2}", category=KINDS[number // 2 % 2])
        )
    return rows


@pytest.fixture(scope="module")
def measured():
    """What was fitted on a training part, its test part, and the scores of every arm there."""
    every, model = statements(), tiny_model()
    train, test = every[:100], every[100:]

    @cache
    def runner_for(prompt):
        return StatementRunner(model, prompt)

    fitted = fit_arms(runner_for, train, EvaluationRequest("x.csv"), quiet)
    run = _model_arms(fitted, runner_for, test, quiet)
    trust = calibrated_arms(run, unseen_scores(fitted, quiet)[0], max_error=0.3, seed=1)
    choices = fitted.choices(lexical_reader="", fine_tuned=None).model_copy(
        update={"calibrations": dict(trust.calibrations), "abstention_rules": dict(trust.rules)}
    )
    return fitted, choices, runner_for, test, {arm.name: arm for arm in trust.arms}


class Unrouted:
    """Decides nothing: the file says each category."""

    name = "none"

    def route(self, texts):
        return tuple(Route(None, dict.fromkeys(Category, 1 / 3)) for _ in texts)


@pytest.mark.parametrize("arm", SAVABLE)
def test_a_saved_arm_answers_a_file_with_the_verdicts_it_was_measured_with(
    measured, sqlite_database, tmp_path, arm
):
    fitted, choices, runner_for, test, arms = measured
    # a tiny random model is pushed far to be told apart: the limit of the dose is not what this is about
    home = Settings(home=tmp_path, max_wait_seconds=0.0, max_dose=1e6)
    registry = VectorRegistry(sqlite_database, home)
    saved = registry.save(arm_as_recipe(fitted, arm, choices), "mine")
    registry.recipes.promote(saved.id)
    model = fitted.runner.model
    measured_again = recipe_scores(runner_for, registry.answering(model.identity), test, silent)
    np.testing.assert_allclose(measured_again.scores, arms[arm].scores, atol=1e-4)

    engine = AnsweringEngine(model, Unrouted(), registry, home)
    rows = answered_file(home, sqlite_database, engine, test, tmp_path)
    scores = arms[arm].scores
    sure = np.abs(scores) >= 1e-3
    assert sure.sum() > len(test) / 2
    said = np.array([answer.raw_verdict is Verdict.TRUE for answer in rows])
    assert np.array_equal(said[sure], (scores >= 0)[sure])
    shares = [1 / (1 + math.exp(-score)) for score in scores]
    np.testing.assert_allclose([answer.score for answer in rows], shares, atol=1e-4)
    assert {answer.recipe for answer in rows} == {saved.id}
    doses = np.array([np.nan if answer.dose is None else answer.dose for answer in rows])
    np.testing.assert_allclose(measured_again.doses, doses, rtol=1e-4)
    if arms[arm].doses is not None:
        np.testing.assert_allclose(arms[arm].doses, doses, rtol=1e-4)
        with pytest.raises(VectorRefused, match=r"refuses \d+ of these 40 .* MEDX_MAX_DOSE allows 1e-09"):
            recipe_scores(runner_for, registry.answering(model.identity), test, silent, max_dose=1e-9)
    trusted = np.array([answer.verdict is not Verdict.UNCERTAIN for answer in rows])
    assert np.array_equal(trusted[sure], arms[arm].trusted[sure]), "whom to trust is part of the recipe"
    assert np.array_equal(measured_again.trusted[sure], arms[arm].trusted[sure])


def answered_file(settings, database, engine, test, folder: Path):
    """Answer the statements as `medx batch` does: a file, a job, leases, micro-batches."""
    path = folder / "test.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["statement", "category"])
        writer.writerows((statement.text, statement.category.value) for statement in test)
    content = read_question_file(path, limits=FileLimits.of(settings))
    jobs = JobStore(database)
    submission = file_submission(content, mode=Mode.VERDICT, arms=(Arm.STEERED,))
    job = jobs.submit(submission, chunk_rows=16, local=True)
    end = answer_here(settings, database, job.public_id, engine=engine, on_progress=lambda _progress: None)
    assert end is End.FINISHED
    return [item.answer_in(Arm.STEERED) for item in jobs.every_item(job.public_id)]


def medx(*arguments: object):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    return done


def test_the_commands_from_an_evaluation_to_the_recipe_in_use_and_its_evidence(
    tiny_home, tmp_path, monkeypatch
):
    # a tiny random model is pushed far to be told apart, and what refuses statements is not measured
    monkeypatch.setenv("MEDX_MAX_DOSE", "1000000")
    global_settings.cache_clear()
    file, out = write_statements(tmp_path / "mine.csv", split=True), tmp_path / "out.json"
    evaluate = ("evaluate", "--data", file, "--prompt", PROMPT, "--json", out)
    medx(*evaluate, "--save-recipe", "mine", "--save-arm", "gated")
    first = json.loads(out.read_text())
    (saved,) = (recipe for recipe, arm in first["recipes"].items() if arm == "gated")
    (before,) = (recipe for recipe, arm in first["recipes"].items() if arm == "recipe")
    listed = {each["id"]: each for each in json.loads(medx("recipes", "list", "--json").stdout)["recipes"]}
    assert (listed[saved]["name"], listed[saved]["status"]) == ("mine", "candidate")
    assert "helps" in listed[saved]["evidence"] or "not shown to help" in listed[saved]["evidence"]
    assert (listed[before]["name"], listed[before]["answers"]) == ("unsteered", True)
    assert "% right (" in listed[before]["evidence"].replace("\u202f", " ")
    taken = CliRunner().invoke(app, [*map(str, evaluate), "--save-recipe", "mine"])
    assert isinstance(taken.exception, BadInput)

    assert json.loads(medx("recipes", "check", "mine", "--json").stdout)["ok"]
    promoted = medx("recipes", "promote", "mine", "--yes", "--json")
    assert "This recipe" in promoted.stderr
    assert json.loads(promoted.stdout)["run"] == listed[saved]["run"]

    medx(*evaluate)
    second = json.loads(out.read_text())
    assert second["recipes"] == {saved: "recipe"}
    now, then = second["arms"]["recipe"], first["arms"]["gated"]
    for figure in ("largest", "median", "values"):
        assert second["doses"]["recipe"][figure] == pytest.approx(first["doses"]["gated"][figure], rel=1e-4)
    assert now["auroc"] == then["auroc"]
    assert now["accuracy"] == then["accuracy"]
    assert "recipe" not in second["exploratory"]
    shown = json.loads(medx("recipes", "rollback", "--json").stdout)
    assert (shown["name"], shown["left"]) == ("unsteered", saved)
